"""topics.yaml: what it means, and one sentence with file and line for everything that can be wrong with it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from harness import PROJECT

from bootstrap_lib.cli import main
from bootstrap_lib.commands.check import problems_of
from bootstrap_lib.document import DocumentError
from bootstrap_lib.keys import expand
from bootstrap_lib.machine_file import NAME as MACHINE_FILE
from bootstrap_lib.reading import ReadingError
from bootstrap_lib.registry import Registry


class Sensor(msgspec.Struct):
    """Keys of no source: none."""


HOUSE = """\
sources:
  onewire: {every: 10s}
topics:
"""


def read(tmp_path: Path, text: str, machine: str = "") -> Registry:
    path = tmp_path / "topics.yaml"
    path.write_text(text)
    if machine:
        path.with_name(MACHINE_FILE).write_text(machine)
    return Registry(path)


def problems(tmp_path: Path, text: str) -> list[str]:
    try:
        return [str(problem).removeprefix(f"{tmp_path}/") for problem in problems_of(read(tmp_path, text))]
    except DocumentError as error:
        return [str(problem).removeprefix(f"{tmp_path}/") for problem in error.problems]


@pytest.mark.parametrize(
    ("subscribers", "sentence"),
    [
        ("web: {listen: nonsense}", "subscribers.web.listen: 'nonsense' is no address: 127.0.0.1, or 0.0.0.0 for all"),
        ("exporter: {listen: nonsense}", "'nonsense' is no address"),
        ("web: {}, exporter: {port: 8080}", "subscribers.exporter.port: 'web' listens on port 8080 already: give"),
        ("web: {port: 9646}, exporter: {listen: '::'}", "subscribers.exporter: 'web' listens on port 9646 already"),
        ("web: {listen: 0.0.0.0}, exporter: {port: 8080, listen: 10.0.0.7}", "'web' listens on port 8080"),
        ("web: {listen: localhost}, exporter: {port: 8080, listen: 10.0.0.7}", ""),
        ("web: {listen: '::1'}, exporter: {host: shed, port: 8080}", ""),
    ],
)
def test_services_listen_at_addresses_and_two_of_a_machine_not_at_one_port(
    tmp_path: Path, subscribers: str, sentence: str
) -> None:
    said = problems(tmp_path, f"subscribers: {{{subscribers}}}\n")
    assert (len(said), sentence in "".join(said)) == (1 if sentence else 0, True), said


def test_unit_decimals_range_and_staleness_follow_from_the_last_word(tmp_path: Path) -> None:
    registry = read(tmp_path, HOUSE + "  boiler/water/flow_temperature: {from: onewire}\n")
    topic = registry.topics["boiler/water/flow_temperature"]
    assert (topic.unit, topic.decimals, topic.kind, topic.every, topic.stale) == ("°C", 3, "gauge", 10.0, 30.0)
    assert topic.row.rrd == "GAUGE"


def test_texts_and_what_is_not_to_be_stored_are_stored_by_nobody(tmp_path: Path) -> None:
    lines = "  a/b/name_text: {from: onewire}\n  a/b/c_number: {from: onewire, store: false}\n"
    lines += "  a/b/d_number: {from: onewire, store: [archive]}\n  a/b/e_number: {from: onewire}\n"
    topics = read(tmp_path, HOUSE + lines).topics
    stored = {
        name: [store for store in ("archive", "rrd") if topics[f"a/b/{name}"].stored_by(store)]
        for name in ("name_text", "c_number", "d_number", "e_number")
    }
    assert stored == {"name_text": [], "c_number": [], "d_number": ["archive"], "e_number": ["archive", "rrd"]}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("broker: {keepalive: !!float ten}", "broker.keepalive: 'ten' is no float"),
        ("broker: {port: !!int 0x}", "broker.port: '0x' is no int"),
        ("broker: {port: " + "8" * 6000 + "}", "is no int: write a value of that kind, of a usual size"),
        ("timezone: ../../../proc/self/environ", "is no time zone"),
        ("timezone: /usr/share/zoneinfo/UTC", "is no time zone"),
        ("timezone: Europe", "is no time zone"),
        ("broker: {host: '-oProxyCommand=x'}", "broker.host: expected text matching"),
        ('broker: {host: "a\\nb"}', "broker.host: expected text matching"),
        ("? [a, b]\n: c", "a key is a word"),
        ("a: " + "{b: " * 60 + "1" + "}" * 60, "more than 32 levels deep"),
    ],
)
def test_what_cannot_be_converted_gets_a_sentence_with_its_line(tmp_path: Path, text: str, sentence: str) -> None:
    found = problems(tmp_path, text + "\n")
    assert any("topics.yaml:1: " in problem and sentence in problem for problem in found), found


def test_a_file_that_anchors_make_large_is_refused_before_it_costs_time_or_memory(tmp_path: Path) -> None:
    doubled = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9))
    (found,) = problems(tmp_path, "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + doubled)
    assert "more than 200000 values, those that anchors repeat included" in found
    assert "longer than" in problems(tmp_path, "# " + "x" * 5_000_000)[0]


def test_a_thousand_topics_of_one_line_are_read_in_linear_time(tmp_path: Path) -> None:
    def cost(count: int) -> float:
        text = HOUSE + "".join(f"  r{n}/t/{{a,b,c,d}}_temperature: {{from: onewire}}\n" for n in range(count))
        registry = read(tmp_path, text)
        began = time.process_time()
        registry.topics_of("onewire", Sensor)
        return time.process_time() - began

    cost(10)
    few, many = min(cost(100) for _ in range(3)), min(cost(1000) for _ in range(3))
    assert many < 30 * few + 0.01


def test_braces_expand_to_numbers_and_words() -> None:
    assert expand("shed/battery/cell_{1..3}_voltage") == [f"shed/battery/cell_{n}_voltage" for n in (1, 2, 3)]
    assert expand("{north,south}/x/temperature") == ["north/x/temperature", "south/x/temperature"]
    assert len(expand("a/{1..4}/{1..5}_voltage")) == 20


def test_yaml_words_stay_what_they_look_like(tmp_path: Path) -> None:
    text = (
        HOUSE
        + '  a/b/state: {from: onewire, states: [off, on, no, 012, 12:30, "10:20:30:40:50:56", 10:20:30:40:50:56]}\n'
    )
    assert read(tmp_path, text).topics["a/b/state"].states == (
        "off", "on", "no", "012", "12:30", "10:20:30:40:50:56", "10:20:30:40:50:56",
    )  # fmt: skip


METERS = """\
sources: {onewire: {}, radio: {service: wmbus, device: /dev/radio}}
topics: {a/b/energy: {from: radio, meter: 1, label: Mine}}
"""


def test_the_machines_own_file_adds_lists_and_their_topics_and_topics_yaml_wins(tmp_path: Path) -> None:
    machine = "sources: {radio: {meters: {'7': {name: kam}}}}\ntopics: {a/b/energy: {from: radio, label: Listed}, "
    registry = read(tmp_path, METERS, machine + "c/d/energy: {from: radio, meter: 7}}\n")
    assert registry.instances["radio"].raw == {
        "service": "wmbus",
        "device": "/dev/radio",
        "meters": {"7": {"name": "kam"}},
    }
    assert {name: topic.label for name, topic in registry.topics.items()} == {
        "a/b/energy": "Mine",
        "c/d/energy": "c d energy",
    }
    bare = read(tmp_path, "sources:\n  wmbus:\n", "sources: {wmbus: {meters: {'7': {name: kam}}}}")
    assert bare.instances["wmbus"].raw == {"meters": {"7": {"name": "kam"}}}


def test_a_wrong_line_that_the_machine_wrote_costs_itself_and_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = "topics:\n  c/d/energy: {from: radio, meter: 7}\n  c/d/duration: {from: radio, meter: 7, unit: month}\n"
    registry = read(tmp_path, METERS, machine + "  a/c/energy: {from: radio, meter: 8}\n  c/d/enrgy: {from: radio}\n")
    assert list(registry.topics) == ["a/b/energy", "c/d/energy", "a/c/energy"], "and topics.yaml's come first"
    assert [problem.line for problem in registry.left_out] == [3, 5]
    assert main(["--config", str(registry.path), "check", "--quiet"]) == 0
    said = capsys.readouterr().out
    assert f"left out: {tmp_path}/{MACHINE_FILE}:3: topics.c/d/duration.unit: 'month' does not convert to s" in said
    with pytest.raises(DocumentError, match=rf"topics\.yaml:2(?s:.*){MACHINE_FILE}:3"):
        read(tmp_path, METERS.replace("Mine}", "Mine}, a/b/x: {from: radio}"), machine)


def test_what_a_source_wrote_that_is_no_more_is_left_out_and_stops_nobody(tmp_path: Path) -> None:
    machine = "sources: {gone: {meters: {'7': {name: kam}}}, stranger: {service: wmbus, meters: {}}}\n"
    registry = read(tmp_path, METERS, machine + "topics:\n  c/d/energy: {from: gone, meter: 7}\n")
    assert (list(registry.topics), set(registry.instances)) == (["a/b/energy"], {"onewire", "radio"})
    (problem,) = registry.left_out
    assert (problem.line, problem.message) == (3, "topics.yaml has no source 'gone' any more")


def test_a_wrong_line_is_not_written_by_the_machine_and_one_that_stands_there_goes(tmp_path: Path) -> None:
    machine = "topics:\n  c/d/duration: {from: radio, meter: 7, unit: month}\n"
    registry = read(tmp_path, METERS, machine)
    wrong = {"from": "radio", "meter": 7, "unit": "year"}
    new = {"c/d/energy": {"from": "radio", "meter": 7}, "c/d/e_duration": wrong}
    assert registry.edit_lists(lambda content: content["topics"].update(new))
    again = Registry(registry.path)
    assert not again.edit_lists(lambda content: content["topics"].update({"c/d/e_duration": wrong}))
    assert (again.left_out, list(again.topics)) == ([], ["a/b/energy", "c/d/energy"])
    before = registry.path.with_name(MACHINE_FILE).read_text()
    with pytest.raises(DocumentError, match="'stranger' is no source that writes here"):
        registry.edit_lists(lambda content: content["topics"].update({"c/e/energy": {"from": "stranger"}}))
    assert registry.path.with_name(MACHINE_FILE).read_text() == before


@pytest.mark.parametrize(
    "machine",
    [
        "broker: {host: elsewhere}",
        "root: other",
        "timezone: UTC",
        "alerts: {x: {when: a/b/energy > 1}}",
        "subscribers: {archive: {url: 'sqlite:////tmp/x'}}",
        "sources: {radio: {device: /dev/other}}",
        "sources: {onewire: {meters: {}}}",
        "topics: {c/d/temperature: {from: onewire}}",
        "topics: {c/d/energy: {from: radio, meter: 7, secret: 'secret:mqtt.operator'}}",
        "sources: {radio: {meters: {'7': {name: kam, key: 'secret:mqtt.operator'}}}}",
        "sources: {radio: {meters: {'secret:ca.key': {name: kam}}}}",
        "topics: {c/d/energy: {from: radio, meter: 7, any: [{of: ['secret:radio.key']}]}}",
        "sources: [radio]",
        "topics: {c/d/energy: radio}",
    ],
)
def test_the_machines_own_file_may_hold_nothing_else(tmp_path: Path, machine: str) -> None:
    with pytest.raises(DocumentError, match=r"topics\.machine\.yaml:1: .*: write it into topics\.yaml"):
        read(tmp_path, METERS, machine)


@pytest.mark.parametrize("name", ["topics.yaml", MACHINE_FILE])
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path, name: str) -> None:
    (tmp_path / "topics.yaml").write_text(METERS)
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    with pytest.raises(DocumentError, match=f"{name}:1: cannot be read: .* is no plain file"):
        Registry(tmp_path / "topics.yaml")


def test_a_link_in_the_place_of_the_machines_own_file_is_not_followed_and_the_owners_may_be_one(tmp_path: Path) -> None:
    kept = tmp_path / "kept.yaml"
    kept.write_text(METERS)
    (tmp_path / "topics.yaml").symlink_to(kept)
    assert len(Registry(tmp_path / "topics.yaml").topics) == 1
    (tmp_path / MACHINE_FILE).symlink_to(kept)
    with pytest.raises(DocumentError, match=f"{MACHINE_FILE}:1: cannot be read: "):
        Registry(tmp_path / "topics.yaml")


def test_a_house_has_a_bounded_number_of_topics_and_of_names_before(tmp_path: Path) -> None:
    lines = "".join(f"  a/b/x{n}_{{1..1000}}_temperature: {{from: onewire}}\n" for n in range(52))
    (found,) = problems(tmp_path, HOUSE + lines)
    assert "topics.yaml:54: topics.a/b/x50_{1..1000}_temperature: more than 50000 topics with their names" in found
    before = ", ".join(f"'a/b/y{n}_{{1..1000}}_temperature'" for n in range(52))
    (found,) = problems(tmp_path, f"{HOUSE}  a/b/x_{{1..1000}}_temperature: {{from: onewire, was: [{before}]}}\n")
    assert "more than 50000 topics with their names of before" in found


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("a/b/temprature: {from: onewire}", "topics.yaml:4: topics.a/b/temprature: 'temprature' is no quantity, did you mean 'temperature'?"),
        ("a/b/temperature: {from: onewir}", "topics.yaml:4: topics.a/b/temperature.from: no source is named 'onewir', did you mean 'onewire'?"),
        ("a/b/temperature: {from: onewire, every: 10}", "topics.yaml:4: topics.a/b/temperature.every: 10 is no duration"),
        ("a/b/temperature: {from: onewire, range: [5, 1]}", "the range goes from low to high, not from 5 to 1"),
        ("a/b/temperature: {from: onewire, range: [a, 1]}", "topics.a/b/temperature.range[0]: expected a number, got text"),
        ("a/b/temperature: {from: onewire, deadband: -1}", "topics.a/b/temperature.deadband: expected a number > 0"),
        ("a/b/temperature: {}", "'from' is missing"),
        ("a/b/temperature: yes", "expected at least {from: SOURCE}"),
        ("a/temperature: {from: onewire}", "a topic is place/thing/name"),
        ("A/b/temperature: {from: onewire}", "a topic is place/thing/name"),
        ("a/b/state: {from: onewire}", "a state needs its words"),
        ("a/b/temperature: {from: onewire, id: 28-x}", "[0-9a-f]{12}$', such as 28-0316a4f1c9ff"),
        ("a/b/temperature: {from: onewire, id: 28-0316a4f1c9ff, idd: 3}", "unknown key 'idd', did you mean 'id'?"),
        ("a/b/temperature: {from: onewire, id: 28-0316a4f1c9ff}\n  a/b/temperature: {from: onewire}", "topics.yaml:5: topics.a/b/temperature: stands here again; the first is on line 4"),
        ("a/b/temperature: {from: onewire, id: 28-0316a4f1c9ff}\n  a/c/temperature: {from: onewire, id: 28-0316a4f1c9ff}", "topics.yaml:5: topics.a/c/temperature.id: the same sensor measures a/b/temperature already"),
        ("a/b/cell_{1..1001}_voltage: {from: onewire}", "its braces stand for 1001 names: a line makes 1 to 1000"),
        ("a/{1..999}/{1..999}_voltage: {from: onewire}", "its braces stand for 998001 names"),
        ("a/b/cell_{8..1}_voltage: {from: onewire}", "its braces stand for 0 names"),
        ("a/b/cell_{1..999999999}_voltage: {from: onewire}", "its braces stand for 999999999 names"),
        ("a/b/c_temperature: {from: onewire, id: 28-0316a4f1c9ff, was: 'a/b/{1..2}_temperature'}", "was: it stands for 2 names, the line for 1"),
        ("a/b/c_temperature: {from: onewire, was: 'a/b/c_{1.." + "1" * 5000 + "}'}", "a key has 1000 characters at most"),
        ("a/b/c_temperature: {from: onewire, was: 'a/b/c_{1.." + "1" * 500 + "}'}", "topics.a/b/c_temperature.was: 'a/b/c_{1..11"),
        ("a/b/c_temperature: {from: onewire, was: ../../../etc/shadow}", "'../../../etc/shadow' is no topic: it was place/thing/name"),
        ("'" + "{a," * 40 + "{1..2}" + "}" * 40 + "': {from: onewire}", "a topic is place/thing/name"),
        ("? '" + "{," * 4000 + "'\n  : {from: onewire}", "a key has 1000 characters at most"),
        ("'a/b/{" + "," * 900 + "{_temperature': {from: onewire}", "a topic is place/thing/name"),
        ('"a\\e]0;pwn\\a/b/temperature": {from: onewire}', "topics.a\\x1b]0;pwn\\x07/b/temperature: a topic is"),
        ("a/{b,c}/temperature: {from: onewire, id: 28-0316a4f1c9ff}\n  a/b/temperature: {from: onewire}", "a/b/temperature is made by 'a/{b,c}/temperature' already"),
    ],
)  # fmt: skip
def test_each_wrong_line_gets_a_sentence_with_its_place(tmp_path: Path, line: str, sentence: str) -> None:
    found = problems(tmp_path, HOUSE + f"  {line}\n")
    assert len(found) == 1, found
    assert sentence in found[0]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("topics: [", "not valid YAML"),
        ("topcis: {}", "topics.yaml:1: topcis: unknown section 'topcis', did you mean 'topics'?"),
        ("root: My House", "'My House' is no topic word"),
        ("timezone: Paris", "'Paris' is no time zone: write one such as Europe/Paris"),
        ("broker: {prot: 1}", "broker.prot: unknown key 'prot', did you mean 'port'?"),
        ("broker: {password: hunter2}", "broker.password: expected text matching regex '^secret:'"),
        ("sources: {onewyre: {}}", "no service is named 'onewyre', did you mean 'onewire'?"),
        ("sources: {all: {}}", "no name for an instance"),
        ("sources: {onewire: {}}\nsubscribers: {onewire: {}}", "stands below sources too"),
        ("sources: {onewire: {evry: 1s}}", "sources.onewire.evry: unknown key 'evry', did you mean 'every'?"),
        ("- a list", "expected sections"),
        ("phases: &all {all: *all}", "topics.yaml:1: phases.all: more than 32 levels deep"),
        ("phases: " + "[" * 40 + "]" * 40, "topics.yaml:1: phases[0]: more than 32 levels deep"),
        ("phases: " + "[" * 5000 + "]" * 5000, "more than 32 levels deep"),  # libyaml may end it before we do
    ],
)
def test_each_wrong_section_gets_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    found = problems(tmp_path, text + "\n")
    assert len(found) == 1, found
    assert sentence in found[0]


def test_all_problems_are_said_at_once(tmp_path: Path) -> None:
    text = HOUSE + "  a/b/temprature: {from: onewire}\n  a/c/temperature: {from: nobody}\n"
    assert len(problems(tmp_path, text)) == 2


def test_whoever_says_that_it_notifies_is_asked_in_the_order_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import services

    (tmp_path / "bell.py").write_text("class Bell:\n    NEEDS: ClassVar = Needs(notifies=True)\n")
    monkeypatch.setattr(services, "__path__", [*services.__path__, str(tmp_path)])
    registry = read(tmp_path, "subscribers: {bell: {}, rrd: {}, mail: {service: apprise}, pushover: {}}\n")
    assert registry.notifiers == ("bell", "mail", "pushover")


def test_one_mistake_is_one_line(tmp_path: Path) -> None:
    lines = "".join(
        f"  a/{place}/temperature: {{from: onewire, id: 28-0316a4f1c9f{n}}}\n" for n, place in enumerate("bcde")
    )
    found = problems(tmp_path, f"source:\n  onewire: {{}}\ntopics:\n{lines}")
    assert len(found) == 1, found
    assert "unknown section 'source', did you mean 'sources'?" in found[0]
    found = problems(tmp_path, f"sources:\n  onewirre: {{service: onewire}}\ntopics:\n{lines}")
    assert len(found) == 1, found
    assert "no source is named 'onewire', did you mean 'onewirre'?" in found[0]


def test_the_shipped_house_is_good() -> None:
    assert problems_of(Registry(PROJECT / "topics.yaml")) == []


def test_the_committed_schema_and_reference_page_are_fresh() -> None:
    from bootstrap_lib import schema

    fresh = json.dumps(schema.build(), indent=1, ensure_ascii=False)
    assert (PROJECT / "bootstrap_lib/topics.schema.json").read_text() == fresh, (
        "run `constellation schema > bootstrap_lib/topics.schema.json`"
    )
    assert (PROJECT / "docs/topics.md").read_text() == schema.page(), (
        "run `constellation schema --page > docs/topics.md`"
    )


def test_check_prints_problems_as_compilers_do_and_never_a_traceback(tmp_path: Path) -> None:
    path = tmp_path / "topics.yaml"
    path.write_text(HOUSE + "  a/b/temprature: {from: onewire}\n")
    result = subprocess.run(
        [sys.executable, "-m", "bootstrap_lib.cli", "check", path], capture_output=True, text=True, cwd=PROJECT
    )
    assert result.returncode == 78
    assert result.stderr.startswith(f"{path}:4: topics.a/b/temprature: ")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("key", "given", "value", "unit"),
    [
        ("temperature: {from: onewire, unit: °F", 68, 20.0, "°C"),
        ("temperature: {from: onewire, unit: K", 300, 26.85, "°C"),
        ("energy: {from: onewire, unit: Wh", 1500, 1.5, "kWh"),
        ("energy: {from: onewire, unit: Wmin", 60000, 1.0, "kWh"),
        ("pressure: {from: onewire, unit: mbar", 1013.2, 1.013, "bar"),
        ("volume: {from: onewire, unit: l", 2500, 2.5, "m³"),
        ("flow: {from: onewire, unit: l/min", 10, 0.6, "m³/h"),
        ("power: {from: onewire, unit: kvar", 1.5, 1.5, "kvar"),
        ('price_number: {from: onewire, unit: "€/kWh", decimals: 3', 0.301, 0.301, "€/kWh"),
        ("current: {from: onewire, invert: true", 3.5, -3.5, "A"),
        ("power: {from: onewire, scale: 2, offset: 10, unit: kW", 0.5, 11000.0, "W"),
        ("temperature: {from: onewire, offset: -0.5", 20, 19.5, "°C"),
        ("heat_active: {from: onewire, invert: true", False, True, ""),
        ("energy: {from: onewire, scale: 0.01", 1e9 + 1, 10000000.01, "kWh"),  # the range is that of the result
    ],
)
def test_what_a_source_gives_is_scaled_and_converted_before_its_range(
    tmp_path: Path, key: str, given: float, value: float, unit: str
) -> None:
    (topic,) = read(tmp_path, f"sources: {{onewire: {{}}}}\ntopics:\n  a/b/{key}}}\n").topics.values()
    assert (topic.measured(given), topic.unit) == (value, unit)


def test_a_value_out_of_range_after_its_conversion_is_refused(tmp_path: Path) -> None:
    text = "sources: {onewire: {}}\ntopics:\n  a/b/temperature: {from: onewire, unit: °F, range: [0, 30]}\n"
    (topic,) = read(tmp_path, text).topics.values()
    assert topic.measured(86.0) == 30.0
    with pytest.raises(ReadingError, match=r"37\.77"):
        topic.measured(100)


@pytest.mark.parametrize("value", [10**400, -(10**400), 2**63])
@pytest.mark.parametrize(
    "key", ["x_number: {from: onewire", "energy: {from: onewire, unit: Wh", "x_count: {from: onewire"]
)
def test_an_integer_of_more_than_64_bits_is_refused_before_it_is_reckoned_with(
    tmp_path: Path, key: str, value: int
) -> None:
    (topic,) = read(tmp_path, f"sources: {{onewire: {{}}}}\ntopics:\n  a/b/{key}}}\n").topics.values()
    with pytest.raises(ReadingError, match="more than 64 bits"):
        topic.measured(value)


def test_nothing_is_less_than_nothing(tmp_path: Path) -> None:
    (topic,) = read(tmp_path, "sources: {bms: {}}\ntopics:\n  a/b/current: {from: bms}\n").topics.values()
    assert [str(topic.measured(value)) for value in (-0.0, -0.00001, 0.0)] == ["0.0"] * 3


def test_no_rounding_makes_a_number_of_more_than_64_bits(tmp_path: Path) -> None:
    text = "sources: {onewire: {}}\ntopics:\n  a/b/x_number: {from: onewire, decimals: 0, range: [0, 1.0e+300]}\n"
    (topic,) = read(tmp_path, text).topics.values()
    assert topic.measured(1e30) == 1e30
    assert isinstance(topic.measured(1e30), float)


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("temperature: {from: onewire, unit: Wh", "'Wh' does not convert to °C: a temperature is in one of °C, °F, K"),
        ("x_text: {from: onewire, scale: 2", "a text has no scale, offset or sign"),
        ("x_active: {from: onewire, scale: 2", "true and false have no scale or offset: write invert: true"),
    ],
)
def test_a_unit_or_scale_that_means_nothing_is_refused(tmp_path: Path, key: str, sentence: str) -> None:
    (said,) = problems(tmp_path, f"sources: {{onewire: {{}}}}\ntopics:\n  a/b/{key}}}\n")
    assert sentence in said
