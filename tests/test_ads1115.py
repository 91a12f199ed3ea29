"""The clamps' whole way: Adafruit's unmodified driver over the simulated chip, sampled, measured, and broken."""

import errno
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from adafruit_ads1x15 import ADS1115, AnalogIn
from adafruit_ads1x15.ads1x15 import Mode
from Adafruit_PureIO import smbus
from harness import busy

from services.links import i2c
from services.links.ads1115 import Chip, ChipError
from services.protocols.rms import Zero, amperes, waveform
from services.simulators import ads1115 as simulated

CLAMP = 1 / 30


def bus(*currents: float, latency: float = 0.0, **of_the_chip: float) -> simulated.SimulatedBus:
    clamps = [simulated.Clamp(current, harmonics={3: 0.2, 5: 0.1}) for current in currents]
    rest = [lambda _: 1.65] * (4 - len(clamps))
    return simulated.SimulatedBus({0x48: simulated.SimulatedChip([*clamps, *rest], **of_the_chip)}, latency)  # type: ignore[arg-type]


def measure(chip: Chip, pin: int, gain: float, zero: Zero | None = None) -> float:
    for tries_left in range(9, -1, -1):
        try:
            measured = waveform(chip.sample((pin, 3), gain, 0.2))
            break
        except ValueError:  # the machine held it up: the service says so, and measures again in the next round
            if not tries_left:
                raise
    assert not measured.saturated
    return amperes(measured.rms, CLAMP, zero or Zero())


@pytest.mark.parametrize("oscillator_error", [-0.1, 0.1])
@pytest.mark.parametrize(("current", "gain"), [(0, 2), (0, 16), (0.13, 2), (0.13, 16), (3, 2), (30, 1)])
def test_a_clamp_reads_within_two_per_cent_or_five_milliamperes(
    current: float, gain: float, oscillator_error: float
) -> None:
    chip = Chip(bus(current, oscillator_error=oscillator_error, noise=1.5))
    assert measure(chip, 0, gain) == pytest.approx(current, rel=0.02, abs=0.005)


def test_a_learned_zero_brings_an_idle_clamp_to_nothing() -> None:
    chip = Chip(bus(0.0, noise=4))
    zero = Zero()
    for _ in range(6):
        zero = zero.learn(waveform(chip.sample((0, 3), 2, 0.1)).rms, ceiling=0.05 * CLAMP)
    assert measure(chip, 0, 2) > 0.005
    assert measure(chip, 0, 2, zero) < 0.005


def test_every_input_gives_its_own_voltage_whatever_was_read_before() -> None:
    levels = (0.5, 1.0, 1.65, 3.0)
    chip = Chip(simulated.SimulatedBus({0x48: simulated.SimulatedChip([lambda _, v=v: v for v in levels])}, 0.0))
    for pin in (3, 0, 2, 1, 1, 3):
        assert statistics.mean(chip.sample((pin,), 1, 0.02).volts) == pytest.approx(levels[pin], abs=0.001)
    assert statistics.mean(chip.sample((0, 3), 1, 0.02).volts) == pytest.approx(-2.5, abs=0.001)


def test_a_motor_that_starts_beyond_the_range_is_flagged() -> None:
    assert Chip(bus(30)).sample((0, 3), 16, 0.05).saturated


def test_the_simulated_chip_fails_in_continuous_mode_as_the_real_one_does() -> None:
    """Without these traps in the simulator, the order of calls in the link would be proven by nothing."""
    levels = (-0.1, 1.0, 1.65, 3.0)
    model = simulated.SimulatedChip([lambda _, v=v: v for v in levels], noise=0)
    driver = ADS1115(simulated.SimulatedBus({0x48: model}, 0.0), data_rate=860, mode=Mode.CONTINUOUS)
    assert AnalogIn(driver, 2).voltage == pytest.approx(levels[0] - levels[1], abs=0.001), "the mux is not taken over"
    driver.mode = Mode.SINGLE
    assert AnalogIn(driver, 0).voltage == pytest.approx(-0.1, abs=0.001)
    driver.mode = Mode.CONTINUOUS
    assert AnalogIn(driver, 0).value == model.registers[simulated.CONFIG], "the pointer stands on another register"
    time.sleep(0.005)
    assert driver.get_last_result() == 0x10000 - 800, "the last result has no sign"


def test_the_power_on_state_is_the_data_sheets() -> None:
    chip = simulated.SimulatedChip([lambda _: 0.0] * 4)
    chip.write(b"\x01")
    assert chip.read() == b"\x85\x83"


@pytest.mark.parametrize(
    ("fault", "said"), [("absent", "not on the bus|does not answer"), ("stuck", "does not finish its conversions")]
)
@pytest.mark.parametrize("used_before", [False, True])
def test_a_missing_or_stuck_chip_is_a_sentence_within_a_second_and_heals(
    fault: simulated.Fault, said: str, used_before: bool
) -> None:
    wires = bus(3.0)
    chip = Chip(wires)
    if used_before:
        chip.sample((0, 3), 2, 0.02)
    wires.chips[0x48].fault = fault
    started = time.monotonic()
    with pytest.raises(ChipError, match=said):
        chip.sample((0, 3), 2, 0.2)
    assert time.monotonic() - started < busy(1)
    wires.chips[0x48].fault = None
    assert measure(chip, 0, 2) == pytest.approx(3, rel=0.02)


def test_a_chip_that_vanishes_in_the_middle_of_a_window_is_a_sentence() -> None:
    wires = bus(3.0)
    threading.Timer(0.1, lambda: setattr(wires.chips[0x48], "fault", "absent")).start()
    with pytest.raises(ChipError, match="0x48 does not answer"):
        Chip(wires).sample((0, 3), 2, 0.3)


def test_a_brown_out_in_the_middle_of_a_window_gives_no_values() -> None:
    wires = bus(3.0)
    threading.Timer(0.1, wires.chips[0x48].power_on).start()
    with pytest.raises(ChipError, match="lost its configuration"):
        Chip(wires).sample((0, 3), 2, 0.2)


def test_a_bus_that_another_holds_for_ever_is_a_sentence() -> None:
    wires = bus(3.0)
    assert wires.try_lock()
    with pytest.raises(ChipError, match="the bus is held"):
        Chip(wires).sample((0, 3), 2, 0.1)


def test_an_input_that_the_chip_does_not_have_is_refused_before_the_bus_is_touched() -> None:
    wires = bus(3.0)
    with pytest.raises(ValueError, match="has the inputs"):
        Chip(wires).sample((3, 0), 2, 0.1)
    assert wires.transfers == 0


def test_four_channels_every_five_seconds_cost_less_than_a_quarter_of_a_core() -> None:
    chip = Chip(bus(3.0, 0.5, latency=simulated.LATENCY))
    measure(chip, 0, 2)
    before = time.process_time()
    for input_ in ((0, 3), (1, 3), (2, 3), (3,)):
        waveform(chip.sample(input_, 1, 0.2))
    used = time.process_time() - before
    assert used / 5 < 0.25, f"{used:.2f} s of CPU in five seconds, the simulated chip included"


class TestDescribedBus:
    def test_a_changed_file_changes_the_current_of_a_bus_in_use(self, tmp_path: Path) -> None:
        path = tmp_path / "adc.json"
        amps = lambda value: simulated.Description(inputs={"A0": simulated.Input(amperes=value)})  # noqa: E731
        simulated.describe(path, {0x48: amps(3.0), 0x49: amps(1.0)})
        wires = i2c.open_bus(f"sim:{path}")
        chip, other = Chip(wires), Chip(wires, 0x49)
        assert (measure(chip, 0, 2), measure(other, 0, 2)) == (pytest.approx(3, rel=0.02), pytest.approx(1, rel=0.02))
        simulated.describe(path, {0x48: amps(5.0)})
        time.sleep(2 * simulated.REREAD)
        assert measure(chip, 0, 2) == pytest.approx(5, rel=0.02)
        with pytest.raises(ChipError, match="0x49"):
            measure(other, 0, 2)

    def test_a_hand_written_file_is_enough(self, tmp_path: Path) -> None:
        path = tmp_path / "adc.json"
        path.write_text('{"0x48": {"inputs": {"A0": {"amperes": 2, "harmonics": {"3": 0.2}}, "A1": {"volts": 0.7}}}}')
        chip = Chip(i2c.open_bus(f"sim:{path}"))
        assert measure(chip, 0, 2) == pytest.approx(2, rel=0.02)
        assert statistics.mean(chip.sample((1,), 1, 0.05).volts) == pytest.approx(0.7, abs=0.001)


class TestLinuxBus:
    @pytest.fixture
    def device(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
        """Stand in for the kernel's device below PureIO: what was sent, and what the chip answers."""
        seen = SimpleNamespace(error=None, calls=[])

        class Device:
            def __init__(self, number: int) -> None:
                if seen.error:
                    raise seen.error
                seen.calls.append(("open", number))

            def write_bytes(self, address: int, data: bytes) -> None:
                seen.calls.append(("write", address, bytes(data)))

            def read_bytes(self, address: int, length: int) -> bytes:
                return bytes(range(1, length + 1))

            def read_i2c_block_data(self, address: int, command: bytes, length: int) -> bytearray:
                seen.calls.append(("write and read", address, bytes(command), length))
                return bytearray(range(1, length + 1))

            def close(self) -> None:
                seen.calls.append(("close",))

        monkeypatch.setattr(smbus, "SMBus", Device)
        return seen

    def test_slices_of_buffers_reach_the_device(self, device: SimpleNamespace) -> None:
        wires = i2c.open_bus("i2c:1")
        buffer = bytearray(4)
        wires.writeto(0x48, b"\x01\x02\x03", start=1)
        wires.readfrom_into(0x48, buffer, start=2)
        assert buffer == b"\x00\x00\x01\x02"
        wires.writeto_then_readfrom(0x48, b"\x09", buffer, in_end=2)
        assert buffer == b"\x01\x02\x01\x02"
        wires.deinit()
        assert device.calls == [
            ("open", 1), ("write", 0x48, b"\x02\x03"), ("write and read", 0x48, b"\x09", 2), ("close",)
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("error", "remedy"),
        [(FileNotFoundError(errno.ENOENT, ""), "dtparam=i2c_arm"), (PermissionError(13, ""), "group i2c")],
    )
    def test_a_bus_that_cannot_be_opened_says_the_remedy(
        self, device: SimpleNamespace, error: OSError, remedy: str
    ) -> None:
        device.error = error
        with pytest.raises(OSError, match=remedy):
            i2c.open_bus("i2c:1")

    @pytest.mark.parametrize("spec", ["", "i2c", "i2c:one", "sim:", "spi:0"])
    def test_other_words_are_refused(self, spec: str) -> None:
        with pytest.raises(ValueError, match="i2c:1"):
            i2c.open_bus(spec)


class Disturbed(simulated.SimulatedBus):
    """A bus on which each n-th transfer is not acknowledged."""

    every = 3

    def _chip(self, address: int) -> simulated.SimulatedChip:
        chip = super()._chip(address)
        if self.transfers % self.every == 0:
            raise OSError(errno.EREMOTEIO, "Remote I/O error")
        return chip


def test_a_refused_transfer_is_repeated_and_costs_no_window() -> None:
    clamp = simulated.Clamp(3)
    disturbed = Disturbed({0x48: simulated.SimulatedChip([clamp, *[lambda _: 1.65] * 3])}, 0.0)
    chip = Chip(disturbed)
    for _ in range(3):
        assert measure(chip, 0, 2) == pytest.approx(3, rel=0.02)
    Disturbed.every = 1
    with pytest.raises(ChipError, match=r"does not answer|not on the bus"):
        chip.sample((0, 3), 2, 0.1)
