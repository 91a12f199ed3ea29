"""The house of scripts/containers, built and run: `python -m tests.containers_run`."""
