"""Every user of the broker sends whatever it likes, while readings flow and alerts ring (`python -m tests.hostile`)."""
