"""What people must see of alerts, whatever happens: random histories of a small house, judged at the phone's end.

The oracle knows the readings as they were measured and what two phones showed; it knows nothing of how the service
decides. `python -m tests.oracle --histories 1000000` runs as many as you like; `--mutants` shows that each rule is held.
"""
