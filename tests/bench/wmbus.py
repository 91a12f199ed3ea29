"""What a telegram costs, for one configured meter and for a thousand, beside the plain AES and CRC that it cannot do without.

    python -m tests.bench.wmbus [TELEGRAMS]
    python -m tests.bench.wmbus end-to-end [TELEGRAMS]

The receiver's side (address, duplicates, decryption, checks, values) is measured without a port, so that nothing waits. End to end
the real service takes telegrams of four values, and they are counted behind a real broker.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bootstrap_lib import Registry
from services.meters.dispatch import KnownMeters
from services.protocols.wmbus import Formats, encode
from services.protocols.wmbus.crc import crc
from services.protocols.wmbus.security import counter_mode
from services.wmbus import WMBus
from tests.harness import free_port

NUMBERS = [f"{30_000_000 + n:08d}" for n in range(1000)]
FOREIGN = [f"{90_000_000 + n:08d}" for n in range(1000)]
RUNS = 5


def key_of(number: str) -> bytes:
    """A key of its own for each meter."""
    return number.encode() * 2


def telegrams(numbers: Sequence[str], count: int) -> list[bytes]:
    """OmniPower telegrams in turn, seven compact ones to each full one, as the meters send them."""
    senders = [encode.address("KAM", number, 0x30, 2) for number in numbers]
    frames = []
    for n in range(count):
        which = n % len(numbers)
        entries = encode.omnipower(2 + n / 100, 0, 0.25, 0)
        message = encode.compact(entries) if n // len(numbers) % 8 else encode.full(entries)
        frames.append(encode.extended(senders[which], message, n << 4, key=key_of(numbers[which]), access=n & 0xFF))
    return frames


def derived(number: str, count: int) -> list[bytes]:
    """Telegrams of one meter in security mode 7, each with two keys of its own."""
    sender, key = encode.address("KAM", number, 0x30, 2), key_of(number)
    return [
        encode.derived(
            sender, encode.records(encode.omnipower(2 + n / 100, 0, 0.25, 0)), key, counter=n, access=n & 0xFF
        )
        for n in range(count)
    ]


def rate(configured: Sequence[str], frames: Sequence[bytes], expected: int) -> float:
    """Telegrams a second: the best of some runs, each with a new table of meters."""
    best = 0.0
    for _ in range(RUNS):
        meters = KnownMeters(Formats())
        meters.want({(number, ""): key_of(number) for number in configured})
        begin = time.perf_counter()
        values = sum(
            heard is not None and heard.telegram is not None for heard in (meters.hear(f, 0.0) for f in frames)
        )
        best = max(best, len(frames) / (time.perf_counter() - begin))
        assert values == expected, f"{values} telegrams were read, not {expected}: {meters.counts}"
    return best


def plain_rate(frames: Sequence[bytes]) -> float:
    """Telegrams a second of which nothing is done but one AES-CTR and the CRCs: payload, and compact ones' full frame."""
    best = 0.0
    for _ in range(RUNS):
        begin = time.perf_counter()
        for frame in frames:
            text = counter_mode(KEY, frame[2:10] + frame[11:12] + frame[13:17] + b"\0\0", frame[17:])
            intact = crc(text[2:]) == int.from_bytes(text[:2], "little")
            if intact and text[2] == COMPACT:
                crc(text[7:] + HEADERS)
        best = max(best, len(frames) / (time.perf_counter() - begin))
    return best


KEY = key_of(NUMBERS[0])
COMPACT = 0x79
HEADERS = bytes.fromhex("040404843C042B04AB3C")


VALUES = ("import_energy", "export_energy", "import_power", "export_power")


class _Fed(WMBus):
    """The service without a port: its telegrams are given to it as fast as it takes them."""

    frames: Sequence[bytes] = ()
    began = 0.0
    took = 0.0

    def samples(self) -> Iterator[Any]:
        if type(self).took:
            while self.tick():
                pass
            return
        self._want()
        while not self.bus.online:
            self.turn(0.05)
        type(self).began = began = time.process_time()
        for frame in self.frames:
            samples = list(self.hear(frame, None))
            yield from [samples] if TOGETHER else samples
            while len(self.publisher._in_flight) > self.publisher.WINDOW // 2:
                self.turn(0.01)
        type(self).took = time.process_time() - began
        self.stopping = "measured"


TOGETHER = True


def end_to_end(count: int) -> None:
    """Processor time of the service for a telegram, from its bytes to the broker, as one step and value by value."""
    global TOGETHER
    for _ in range(3):
        for TOGETHER in (True, False):
            with TemporaryDirectory() as folder:
                per = _fed(Path(folder), count)
            way = "as one step" if TOGETHER else "value by value"
            print(f"a telegram of {len(VALUES)} values to the broker, {way:14} {1e6 * per:8.1f} µs of processor time")


def _fed(folder: Path, count: int) -> float:
    port = free_port()
    (folder / "mosquitto.conf").write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 0\n"
    )
    broker = subprocess.Popen(["mosquitto", "-c", folder / "mosquitto.conf"], stderr=subprocess.DEVNULL)
    os.environ |= {"STATE_DIRECTORY": f"{folder}/state", "RUNTIME_DIRECTORY": f"{folder}/run"}
    os.environ["CONSTELLATION_CREDENTIALS"] = str(folder)
    number = NUMBERS[0]
    key = folder / f"wmbus.{number}"
    key.touch(0o600)
    key.write_text(key_of(number).hex())
    lines = "".join(f"  house/meter/{name}: {{from: wmbus, meter: {number}}}\n" for name in VALUES)
    (folder / "topics.yaml").write_text(
        f"broker: {{host: 127.0.0.1, port: {port}}}\nsources: {{wmbus: {{every: 1s, stale: 1m}}}}\ntopics:\n{lines}"
    )
    try:
        time.sleep(0.5)
        _Fed.frames, _Fed.took = telegrams(NUMBERS[:1], count), 0.0
        service = _Fed(Registry(folder / "topics.yaml"), "wmbus")
        service.load(service.registry)
        service.run()
    finally:
        broker.terminate()
        broker.wait()
    return _Fed.took / count


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["end-to-end"]:
        end_to_end(int(sys.argv[2]) if len(sys.argv) > 2 else 3000)
        return
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    of_one, of_all = telegrams(NUMBERS[:1], count), telegrams(NUMBERS, count)
    plain = plain_rate(of_one)
    one = rate(NUMBERS[:1], of_one, count)
    one_of_many = rate(NUMBERS, of_one, count)
    many = rate(NUMBERS, of_all, count)
    foreign = rate(NUMBERS, telegrams(FOREIGN, count), 0)
    own_keys = rate(NUMBERS[:1], derived(NUMBERS[0], count), count)
    for name, figure in (
        ("plain AES-CTR and CRCs", plain),
        ("one meter configured, one sends", one),
        ("1000 meters configured, one sends", one_of_many),
        ("1000 meters configured, 1000 send", many),
        ("1000 meters configured, 1000 others send", foreign),
        ("one meter in mode 7, new keys each time", own_keys),
    ):
        print(f"{name:42} {figure:10,.0f} telegrams/s {1e6 / figure:8.1f} µs")
    print(f"a telegram costs {plain / one:.1f} times the plain AES and CRCs")
    print(
        f"a thousand configured meters cost {one / one_of_many:.2f} times as much as one, {one / many:.2f} if all send"
    )


if __name__ == "__main__":
    main()
