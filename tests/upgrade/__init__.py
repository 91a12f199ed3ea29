"""The state of each released version, and how it is taken over: `python -m tests.upgrade`."""
