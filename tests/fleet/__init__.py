"""A fleet that is broken while it runs: python -m tests.fleet."""
