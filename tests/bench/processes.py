"""What each process of the demo house costs: memory, CPU while it runs, time to the first reading, bytes written.

    python -m tests.bench.processes [SECONDS]

Memory is private (USS) and proportional (PSS), from /proc/PID/smaps_rollup, while all run side by side, so that what they share
counts as shared; beside it a bare interpreter of the same environment, which is what no process can go below.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from services.simulators.demo import DemoHouse

PROJECT = Path(__file__).resolve().parent.parent.parent
TICKS = os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> tuple[float, float]:
    """Private and proportional memory in MB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    figures = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
    private = figures["Private_Clean"] + figures["Private_Dirty"]
    return private / 1000, figures["Pss"] / 1000


def cpu(pid: int) -> float:
    """Seconds of CPU so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def written(pid: int) -> int:
    """Bytes that the process caused to be written to storage."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))


def first_reading(demo: DemoHouse) -> str:
    """Milliseconds from the start of a source's process to its first reading at the broker, three starts."""
    figures = []
    for _ in range(3):
        ear = subprocess.Popen(
            ["mosquitto_sub", "-R", "-C", "1", "-t", "home/data/boiler/water/temperature"],
            env=os.environ | {"XDG_CONFIG_HOME": str(demo.broker.operator)}, stdout=subprocess.PIPE,
        )  # fmt: skip
        child = next(child for child in demo.supervisor.children if child.name == "onewire")
        child.process.kill()
        child.process.wait()
        time.sleep(0.5)
        began = time.monotonic()
        demo.supervisor._launch(child)
        ear.communicate()
        figures.append((time.monotonic() - began) * 1000)
    return " ".join(f"{figure:.0f}" for figure in figures)


def live(demo: DemoHouse, seconds: float) -> None:
    """Let the house live; end with the log of a process that ends."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(5.0, left))
        for child in demo.supervisor.children:
            if child.process.poll() is not None:
                log = demo.log(child.name)
                sys.exit(f"{child.name} ended: {log.read_text()[-1000:] if log.exists() else 'it has no log'}")


def main() -> None:
    """Run the demo house and print a table."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PATH"] += ":/usr/sbin"
    with tempfile.TemporaryDirectory(dir=PROJECT / ".venv") as folder:
        demo = DemoHouse(PROJECT / "topics.yaml", Path(folder) / "demo")
        try:
            demo.start()
            bare = demo.supervisor.start(
                "bare interpreter", [sys.executable, "-c", "import time; time.sleep(1e6)"], demo.log("bare")
            )
            time.sleep(10)
            before = {
                child.name: (cpu(child.process.pid), written(child.process.pid)) for child in demo.supervisor.children
            }
            live(demo, seconds)
            floor = memory(bare.process.pid)[0]
            print(f"{'process':24} {'private':>8} {'over bare':>9} {'PSS':>7}   {'CPU':>7} {'written/h':>10}")
            for child in demo.supervisor.children:
                private, proportional = memory(child.process.pid)
                used = (cpu(child.process.pid) - before[child.name][0]) / seconds
                rate = (written(child.process.pid) - before[child.name][1]) / seconds * 3600 / 1e6
                print(
                    f"{child.name:24} {private:5.1f} MB {private - floor:6.1f} MB {proportional:4.1f} MB   {used:6.2%} {rate:7.1f} MB"
                )
            readings = json.loads(
                subprocess.run(
                    [sys.executable, "-c", _COUNT, demo.folder / "state/archive/archive.sqlite"],
                    capture_output=True,
                    check=True,
                ).stdout
            )
            print(f"{readings} readings were archived; onewire to its first reading: {first_reading(demo)} ms")
        finally:
            demo.stop()


_COUNT = (
    "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('SELECT count(*) FROM readings').fetchone()[0])"
)

if __name__ == "__main__":
    main()
