"""One line of a promise broken at a time: which of them does a test notice? `python -m tests.mutants` (README.md beside this file)."""
