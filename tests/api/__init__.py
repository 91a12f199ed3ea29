"""Whatever may be asked of the page, and what may not: `python -m tests.api`."""
