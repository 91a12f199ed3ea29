"""The arithmetic of currents: whole cycles, means, zeros, saturation and calibration, on computed samples."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.protocols.rms import Calibration, Samples, Zero, amperes, waveform


def sine(
    rms: float, *, seconds: float = 0.2, rate: float = 860, hertz: float = 50, bias: float = 1.65, phase: float = 0.0
) -> Samples:
    times = tuple(index / rate for index in range(int(seconds * rate) + 2))
    volts = tuple(bias + rms * math.sqrt(2) * math.sin(2 * math.pi * hertz * time + phase) for time in times)
    return Samples(times, volts, saturated=False)


@given(rms=st.floats(0.001, 1.4), phase=st.floats(0, 6.28), rate=st.floats(690, 1000), bias=st.floats(-2, 2))
def test_the_phase_the_bias_and_the_real_rate_do_not_matter(rms: float, phase: float, rate: float, bias: float) -> None:
    measured = waveform(sine(rms, rate=rate, bias=bias, phase=phase))
    assert measured.rms == pytest.approx(rms, rel=0.002)
    assert measured.mean == pytest.approx(bias, abs=0.003 * rms)
    assert measured.cycles == 10


@pytest.mark.parametrize("seconds", [0.081, 0.093, 0.107, 0.117])
def test_a_window_of_broken_length_is_cut_to_whole_cycles(seconds: float) -> None:
    measured = waveform(sine(0.1, seconds=seconds))
    assert measured.cycles == int((seconds + 0.0011) * 50)
    assert measured.rms == pytest.approx(0.1, rel=0.002)


def test_sixty_hertz_mains_is_cut_to_its_own_cycles() -> None:
    measured = waveform(sine(0.1, hertz=60), hertz=60)
    assert (measured.cycles, measured.rms) == (12, pytest.approx(0.1, rel=0.002))


def test_repeated_equal_values_and_uneven_times_keep_their_weight() -> None:
    rng = random.Random(3)
    moments = sorted(rng.uniform(0, 0.4) for _ in range(700))
    held = [math.floor(moment * 774) / 774 for moment in moments]  # the converter holds a value until the next one
    volts = tuple(0.1 * math.sqrt(2) * math.sin(2 * math.pi * 50 * moment) for moment in held)
    assert waveform(Samples(tuple(moments), volts, saturated=False)).rms == pytest.approx(0.1, rel=0.02)


def test_a_process_that_was_held_up_loses_only_the_broken_cycles() -> None:
    whole = sine(0.1)
    kept = [index for index, time in enumerate(whole.times) if not 0.071 < time < 0.089]
    cut = Samples(tuple(whole.times[i] for i in kept), tuple(whole.volts[i] for i in kept), saturated=False)
    measured = waveform(cut)
    assert measured.cycles == 8
    assert measured.rms == pytest.approx(0.1, rel=0.003)


@pytest.mark.parametrize("rate", [130, 860])
def test_too_few_whole_cycles_are_refused_with_the_remedy(rate: float) -> None:
    with pytest.raises(ValueError, match="sample for longer"):
        waveform(sine(0.1, seconds=0.05, rate=rate))


def test_saturation_is_carried_to_the_result() -> None:
    samples = sine(0.1)
    assert waveform(Samples(samples.times, samples.volts, saturated=True)).saturated


def test_the_zero_is_subtracted_in_quadrature_and_never_below_nothing() -> None:
    zero = Zero().learn(0.003, ceiling=0.01)
    assert amperes(0.005, 1 / 30, zero) == pytest.approx(0.004 * 30)
    assert amperes(0.002, 1 / 30, zero) == 0.0


def test_a_running_motor_teaches_no_zero_and_drift_is_followed() -> None:
    zero = Zero()
    for _ in range(10):
        zero = zero.learn(0.001, ceiling=0.01)
    assert zero.rms == pytest.approx(0.001)
    assert zero.learn(0.5, ceiling=0.01) is zero
    for _ in range(400):
        zero = zero.learn(0.002, ceiling=0.01)
    assert zero.rms == pytest.approx(0.002, rel=0.01)


def test_a_scale_runs_through_its_points_and_on_beyond_them() -> None:
    tank = Calibration.through({2.10: 1500.0, 0.48: 0.0, 1.0: 600.0})
    assert [tank.value(volts) for volts in (0.48, 1.0, 2.10)] == pytest.approx([0, 600, 1500])
    assert tank.value(0.74) == pytest.approx(300)
    assert tank.value(0.22) == pytest.approx(-300)
    assert tank.value(2.21) == pytest.approx(1590)


def test_one_point_is_no_scale() -> None:
    with pytest.raises(ValueError, match="at least two points"):
        Calibration.through({1.0: 5.0})
