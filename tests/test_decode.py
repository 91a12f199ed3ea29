"""The command `decode`, as people call it: lines in, a line of JSON out for each, in order, at once."""

import importlib
import json
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from harness import PROJECT

from services.protocols.battery import Pack
from services.protocols.jbd import encoder, frames
from services.protocols.wmbus import encode

KEY = bytes(range(16))
COMMAND = [sys.executable, "-m", "bootstrap_lib.cli", "decode"]


def telegram(energy: float, key: bytes = KEY) -> str:
    sender = encode.address("KAM", "32666857", 0x30, 2)
    return encode.extended(sender, encode.compact(encode.omnipower(energy, 0, 0, 0)), 16, key=key).hex().upper()


def decode(*arguments: str | Path, given: str = "") -> tuple[int, list[Any], str]:
    """Exit code, answers, and what was said on the side."""
    done = subprocess.run([*COMMAND, *arguments], input=given, capture_output=True, text=True, cwd=PROJECT, timeout=30)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def test_each_line_gives_one_line_in_order_with_values_or_a_reason() -> None:
    lines = [telegram(2.06), "27442D2C", "nonsense", f"{telegram(3.5, bytes(16))} {bytes(16).hex()}", telegram(4.0)]
    code, answers, said = decode("wmbus", "--key", KEY.hex(), given="\n".join(lines))  # the last line has no end
    assert (code, said) == (0, "")
    assert [answer["records"][0]["value"] if "records" in answer else None for answer in answers] == [
        2.06,
        None,
        None,
        3.5,
        4.0,
    ]
    assert all(answers[n]["error"] for n in (1, 2))
    assert {"id", "manufacturer", "version", "type", "security", "records"} <= set(answers[0])
    assert {"name", "quantity", "unit", "value", "function", "storage", "tariff", "subunit"} == set(
        answers[0]["records"][0]
    )


def test_a_file_is_read_as_standard_input_is(tmp_path: Path) -> None:
    file = tmp_path / "telegrams.txt"
    file.write_text(f"{telegram(1.0)}\r\n\r\n{telegram(2.0)}\r\n" * 2000)
    code, answers, said = decode("wmbus", "--key", KEY.hex(), file)
    assert (code, said) == (0, "")
    assert [answer["records"][0]["value"] for answer in answers] == [1.0, 2.0] * 2000


def test_an_answer_does_not_wait_for_the_next_telegram() -> None:
    with subprocess.Popen(
        [*COMMAND, "wmbus", "--key", KEY.hex()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=PROJECT
    ) as process:
        assert process.stdin
        assert process.stdout
        for energy in (1.0, 2.0):
            process.stdin.write(telegram(energy).encode() + b"\n")
            process.stdin.flush()
            assert select.select([process.stdout], [], [], 10)[0], "no answer while the pipe is open"
            assert json.loads(process.stdout.readline())["records"][0]["value"] == energy
        process.stdin.close()


def test_fragments_of_a_battery_give_a_line_for_each_frame_and_each_rejected_one() -> None:
    pack = Pack(
        name="P",
        current=-1.5,
        remaining_charge=100.0,
        nominal_charge=280.0,
        cycles=7,
        cell_voltages=(3.3,) * 8,
        probe_temperatures=(21.5,),
    )
    frame = frames.encode_answer(0x03, encoder.encode_basic_info(pack))
    damaged = frame[:10] + bytes((frame[10] ^ 1,)) + frame[11:]
    fragments = [part[at : at + 20].hex() for part in (frame, damaged, frame) for at in range(0, len(part), 20)]
    code, answers, _ = decode("jbd", given="\n".join(fragments) + "\n")
    assert code == 0
    assert [answer.get("voltage") for answer in answers] == [26.4, None, 26.4]
    assert "error" in answers[1]


@pytest.mark.parametrize("protocol", ["wmbus", "jbd", "modbus", "vedirect", "victron_ble"])
def test_an_empty_line_is_not_answered(protocol: str) -> None:
    decode_lines = importlib.import_module(f"services.protocols.{protocol}").decode_lines
    said = list(decode_lines(["", " ", "zz", "\r"]))
    assert len(said) == 1
    assert "error" in json.loads(said[0])


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("wmbus", "--key", "abc"), 2, "a key has 32 hexadecimal digits"),
        (("wmbus", "/nowhere/telegrams"), 66, "/nowhere/telegrams cannot be read"),
        (("jbd", "--key", KEY.hex()), 2, "unrecognized arguments: --key"),
    ],
)
def test_what_people_get_wrong_is_a_sentence(arguments: tuple[str, ...], code: int, sentence: str) -> None:
    got, answers, said = decode(*arguments)
    assert (got, answers) == (code, [])
    assert sentence in said
    assert "Traceback" not in said


def test_a_reader_that_leaves_ends_it_quietly() -> None:
    script = f"yes {telegram(1.0)} | head -20000 | {' '.join(COMMAND)} wmbus --key {KEY.hex()} | head -1"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=PROJECT, timeout=30)
    assert json.loads(done.stdout)["id"] == "32666857"
    assert done.stderr == ""
