"""What is given away, installed as people install it: `python -m tests.packages`."""
