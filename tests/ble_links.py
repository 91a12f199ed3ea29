"""Run battery links in a process of their own, as the service does, and print what they deliver; used by test_ble.

Arguments: JSON with `batteries` (name, address, protocol, adapter), `deadlines`, `may_power_cycle`. Ends on a closed
standard input. Every line of output is a JSON list: monotonic time, what, battery, content.
"""

import json
import os
import sys
import threading
import time
from dataclasses import asdict
from typing import Any

from services.links.ble import Battery, BatteryLinks, Deadlines
from services.simulators.bluez import PROTOCOLS

LOCK = threading.Lock()


def say(what: str, battery: str, content: Any) -> None:
    with LOCK:
        print(json.dumps([time.monotonic(), what, battery, content]), flush=True)


def main() -> None:
    options = json.loads(sys.argv[1])
    links = BatteryLinks(
        [Battery(**(battery | {"protocol": PROTOCOLS[battery["protocol"]]})) for battery in options["batteries"]],
        lambda name, measurements: say("sample", name, measurements),
        lambda name, reason: say("failure", name, reason),
        Deadlines(**options["deadlines"]),
        may_power_cycle=options.get("may_power_cycle", False),
    )
    links.start()
    process, longest_gap = os.getpid(), 0.0
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    while not ended.wait(0.1):
        longest_gap = max(longest_gap, time.monotonic() - links.alive())
    links.stop()
    for name, statistics in links.statistics().items():
        say("statistics", name, asdict(statistics))
    say("end", "", {"same_process": os.getpid() == process, "longest_gap": longest_gap, "cycles": links.power_cycles})


if __name__ == "__main__":
    main()
