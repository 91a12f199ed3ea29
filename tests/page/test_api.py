"""The page on the HTTP API: it names what there is and nothing else, and each of its examples is what a real page answers."""

import argparse
import itertools
import json
import math
import re
import shlex
import socket
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from harness import PROJECT, Broker, Ear, wait_for
from served import METER, PASSWORD, WATER, Page, serve
from voices import now

from bootstrap_lib import parse_time
from services.notices import permit
from services.page import forms
from services.page.description import REFUSALS, description
from services.page.door import BASE
from services.page.doors import DOORS

TEXT = (PROJECT / "docs/api.md").read_text("utf-8")
SECTIONS = {
    title: body.partition("\n## ")[0] for title, body in re.findall(r"(?ms)^### ([A-Z]+ /\S+)\n(.*?)(?=^### |\Z)", TEXT)
}
STREAM = f"GET {BASE}/stream"
KEY = "k" * 40


def operations() -> dict[str, dict[str, Any]]:
    """Operations of the description by the title that they have on the page."""
    found = description(DOORS)
    return {f"{verb.upper()} {path}": one for path, verbs in found["paths"].items() for verb, one in verbs.items()}


def rows(title: str) -> dict[str, str]:
    """What a section's table of parameters says of each."""
    return dict(re.findall(r"(?m)^\| `([\w.]+)` \| (.*) \|$", SECTIONS[title]))


def parts(document: Any, kind: str) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Members of a type, those of its own members by a path with dots: name, schema, whether it has to be there."""
    schema = document["components"]["schemas"][kind]
    for name, content in schema["properties"].items():
        yield name, content, name in schema.get("required", [])
        for one in (content, *content.get("anyOf", [])):
            if "$ref" in one:
                inner = parts(document, one["$ref"].rpartition("/")[2])
                yield from ((f"{name}.{part}", *rest) for part, *rest in inner)


# -- what is named ----------------------------------------------------------------------------------------------------


def test_every_door_has_its_section_and_no_section_is_without_a_door() -> None:
    assert set(SECTIONS) == {*operations(), STREAM}
    mentioned = set(re.findall(r"(?<!\w)/api/1/[\w./{}-]+", re.sub(r"(?ms)^```.*?^```$", "", TEXT)))
    assert {path.rstrip(".") for path in mentioned} <= {title.partition(" ")[2] for title in SECTIONS}


@pytest.mark.parametrize("door", DOORS, ids=lambda door: f"{door.method} {door.path}")
def test_each_parameter_is_named_with_its_bounds_and_none_that_is_not(door: Any) -> None:
    document = description(DOORS)
    title = f"{door.method} {BASE}{door.path.replace(':path', '')}"
    operation = operations()[title]
    there = {one["name"]: (one["schema"], one["required"]) for one in operation["parameters"]}
    if "requestBody" in operation:
        body = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        there |= {name: (schema, needed) for name, schema, needed in parts(document, body)}
    said = rows(title)
    assert said.keys() == there.keys()
    for name, (schema, needed) in there.items():
        line = said[name]
        assert line.startswith("required") == needed, name
        choices = [schema, *schema.get("anyOf", [])]
        if any(one.get("examples") == forms.TimeText.__metadata__[0].examples for one in choices):
            assert "a time" in line, name
            continue
        bounds = [one[key] for one in choices for key in ("minimum", "maximum", "maxLength", "minLength") if key in one]
        bounds += [word for one in choices for word in one.get("enum", [])]
        bounds += [schema["default"]] if schema.get("default") is not None else []
        assert [bound for bound in bounds if not re.search(rf"\b{bound}\b", line)] == [], (name, line)


@pytest.mark.parametrize("door", DOORS, ids=lambda door: f"{door.method} {door.path}")
def test_each_door_says_who_may_come_in(door: Any) -> None:
    text = SECTIONS[f"{door.method} {BASE}{door.path.replace(':path', '')}"]
    assert ("Takes a login" in text) == door.changes
    assert ("open to all" in text) == door.open


def test_all_that_is_answered_is_named() -> None:
    document = description(DOORS)
    words = set(re.findall(r"\w+", TEXT))
    for door in DOORS:
        for kind in re.findall(r"schemas/(\w+)", json.dumps(operations_answer(document, door))):
            for name, _, _ in parts(document, kind):
                assert name.rpartition(".")[2] in words, (door.path, name)


def operations_answer(document: Any, door: Any) -> Any:
    return document["paths"][f"{BASE}{door.path.replace(':path', '')}"][door.method.lower()]["responses"]["200"]


def test_each_status_is_told_and_described() -> None:
    code = "\n".join(path.read_text() for path in (PROJECT / "services/page").glob("*.py"))
    raised = set(re.findall(r"Refusal\(\s*(\d{3}),", code))
    assert raised == set(REFUSALS)
    assert set(re.findall(r"(?m)^\| (\d{3}) \|", TEXT)) == {*REFUSALS, "304"}


def test_no_parameter_of_a_query_may_be_null() -> None:
    for title, operation in operations().items():
        for parameter in operation["parameters"]:
            assert "null" not in json.dumps(parameter["schema"]), (title, parameter["name"])


# -- what is answered -------------------------------------------------------------------------------------------------


def moment(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A house with three days of January, an alert that fires, and one warning."""
    folder = tmp_path_factory.mktemp("api")
    broker = Broker(folder / "broker").start()
    hole = moment("2026-01-19T10:00Z")
    past = (
        moment("2026-01-17T23:00Z"),
        moment("2026-01-20T23:00Z"),
        moment("2026-01-20T05:40Z"),
        (hole, hole + 3_600_000),
    )
    try:
        page = serve(folder, broker, past, "archive", "alerts", **{permit.SECRET: KEY})
        try:
            page.voice.say(WATER, 61.4, now(), 1)
            page.voice.say(WATER, 90.2, now() + 1, 2)
            wait_for(lambda: page.get("house")["alerts"].get("hot", {}).get("state") == "firing", what="the alert")
            said = {"level": "warning", "text": "28-000000000002 does not answer"}
            ear = Ear(broker.port)
            ear.say("home/service/onewire/log", json.dumps(said))
            ear.close()
            wait_for(lambda: page.get("log"), what="the warning")
            wait_for(lambda: page.get("proof")["sources"][0]["stored"] == 2, what="the mark")
            yield page
        finally:
            page.close()
    finally:
        broker.stop()


EXAMPLES = re.findall(r"(?m)^```sh\n(curl .*)\n```\n\n```(json|csv)\n((?s:.*?))^```$", TEXT)


def shortened(example: str) -> Any:
    """An example with its `…`: a value that may be any, members and elements that are left out."""
    whole = re.sub(r":\s*…", ': "…"', example)
    inside: list[str] = []
    text = ""
    quoted = False
    for sign in whole:
        quoted ^= sign == '"'
        if not quoted and sign in "{[":
            inside.append(sign)
        elif not quoted and sign in "}]":
            inside.pop()
        text += ('"…": 0' if inside[-1] == "{" else '"…"') if sign == "…" and not quoted else sign
    return json.loads(text)


def differs(shown: Any, answer: Any, path: str, *, exact: bool) -> Iterator[str]:
    """Where an answer is another than what is shown of it; times of what lives may be any."""
    if shown == "…":
        return
    if isinstance(shown, dict) and isinstance(answer, dict):
        more = "…" in shown
        if missing := {*shown, *(() if more else answer)} - {"…"} - ({*answer} if more else {*shown} & {*answer}):
            yield f"{path}: {missing}"
        for name in shown.keys() & answer.keys():
            yield from differs(shown[name], answer[name], f"{path}.{name}", exact=exact)
    elif isinstance(shown, list) and isinstance(answer, list):
        kept = [one for one in shown if one != "…"]
        if len(kept) != len(answer) and "…" not in shown:
            yield f"{path}: {len(answer)} elements"
        for number, (one, other) in enumerate(zip(kept, answer, strict=False)):
            yield from differs(one, other, f"{path}[{number}]", exact=exact)
    elif isinstance(shown, float) and isinstance(
        answer, float
    ):  # the last digit of a sum is that of a version of SQLite
        if not math.isclose(shown, answer, rel_tol=1e-12):
            yield f"{path}: {answer!r}"
    elif shown != answer and (exact or not (is_time(shown) and is_time(answer))):
        yield f"{path}: {answer!r}"


def is_time(given: Any) -> bool:
    if isinstance(given, str):
        return bool(re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", given)) and parse_time(given) > 0
    return isinstance(given, int) and given > 10**12


def asked(page: Page, command: str) -> tuple[int, dict[str, str], bytes]:
    """What the page answers to a command of the page: curl's words, with this house's own place, cookie and token."""
    words = argparse.ArgumentParser()
    for option in "bcdHX":
        words.add_argument(f"-{option}", action="append", default=[])
    words.add_argument("address")
    given = words.parse_args(shlex.split(command)[1:])
    since = moment_of_alert(page) if "TOKEN" in command else 0
    token = permit.signed(permit.Permit("pushover", "m1", now() + 60_000, (("hot", since),)), KEY)
    body = given.d[0].replace("PASSWORD", PASSWORD).replace("TOKEN", token) if given.d else None
    headers = {name: value.strip() for name, _, value in (line.partition(":") for line in given.H)}
    headers = {name: value.replace("localhost:8080", f"127.0.0.1:{page.port}") for name, value in headers.items()}
    cookie, page.cookie = page.cookie, page.cookie if given.b else ""
    method = given.X[0] if given.X else "POST" if body else "GET"
    headers = {name.replace("-", "_"): value for name, value in headers.items()}
    found = page.knock(given.address.removeprefix("localhost:8080"), body, method, **headers)
    page.cookie = cookie
    return found


def moment_of_alert(page: Page) -> int:
    return parse_time(page.get("house")["alerts"]["hot"]["since"])


def test_each_example_is_what_a_real_page_answers(page: Page) -> None:
    acts = ("/link", "/link/use", "/acknowledge", "/snooze", "/logout")  # looked at before, done after all that looks
    order = {"": []} | {act: [] for act in acts}
    for example in EXAMPLES:
        order[next((act for act in acts if example[0].endswith(act)), "")].append(example)
    wrong = []
    for command, kind, example in itertools.chain(*order.values()):
        status, headers, body = asked(page, command)
        assert headers["content-type"].startswith(f"{'text' if kind == 'csv' else 'application'}/{kind}"), command
        assert (status >= 400) == ('{"error"' in example), (command, status, body)
        exact = bool(re.search(r"(from|to|at)=2026", command)) and "/alerts?" not in command and "house" not in command
        answer = json.loads(body) if kind == "json" else body.decode().splitlines()
        shown = shortened(example) if kind == "json" else example.splitlines()
        wrong += [f"{command}\n  {line}\n  {body[:3000]!r}" for line in differs(shown, answer, "", exact=exact)]
    assert not wrong, "\n".join(wrong)


def test_the_first_events_are_those_that_are_shown(page: Page) -> None:
    (example,) = re.findall(r"(?ms)^```text\n(.*?)^```$", SECTIONS[STREAM])
    assert example.startswith("retry: 1000\n\nevent: house\n")
    shown = dict(re.findall(r"event: (\w+)\ndata: (.*)\n", example))
    sent = "".join((PROJECT / path).read_text() for path in ("services/web.py", "services/page/live.py"))
    assert set(re.findall(r"(?m)^\| `(\w+)` \|", SECTIONS[STREAM])) == set(
        re.findall(r'(?:_send\(|append\(\()"(\w+)"', sent)
    )
    heard: dict[str, Any] = {}
    with socket.create_connection(("127.0.0.1", page.port), 20) as link, link.makefile("rb") as lines:
        link.sendall(b"GET /api/1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        name = ""
        while "values" not in heard or heard["tick"]["count"] != 1:
            line = lines.readline().decode().strip()
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
                if name == "tick":
                    page.say(WATER, 61.4)
            elif line.startswith("data: "):
                heard[name] = json.loads(line.removeprefix("data: "))
    assert next(iter(heard)) == "house"
    for name, text in shown.items():
        assert list(differs(shortened(text), heard[name], name, exact=False)) == []


def test_a_method_that_no_door_takes_is_told_which_one_does(page: Page) -> None:
    takes: dict[str, list[str]] = {}
    for door in DOORS:
        takes.setdefault(BASE + re.sub(r"{\w+(:path)?}", "x", door.path), []).append(door.method)
    for path, methods in takes.items():
        for other in {"GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "FETCH"} - {*methods}:
            status, headers, body = page.knock(path, method=other)
            assert (status, headers.get("allow")) == (405, ", ".join(methods)), (other, path)
            assert json.loads(body)["error"] == f"this door takes {', '.join(methods)}"
    status, headers, body = page.knock(f"{BASE}/house", method="HEAD")
    assert (status, body, int(headers["content-length"]) > 1000) == (200, b"", True)
    for other in ("HEAD", "POST"):  # whose answer would have no end
        with socket.create_connection(("127.0.0.1", page.port), 20) as link, link.makefile("rb") as lines:
            link.sendall(f"{other} {BASE}/stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode())
            assert lines.readline().split()[1] == b"405", other


def test_what_no_door_and_no_page_takes_is_refused_in_our_words(page: Page) -> None:
    for path, method, status in (
        (f"{BASE}/topics/boiler%0Awater", "GET", 404),
        (f"{BASE}/nothing", "GET", 404),
        (f"{BASE}/nothing", "POST", 404),
        ("/nothing", "GET", 404),
        ("/a%0Ab", "GET", 404),
        ("/index.html", "POST", 405),
    ):
        found, headers, body = page.knock(path, method=method)
        assert (found, headers["content-type"]) == (status, "application/json"), (path, method)
        assert json.loads(body)["error"], path
    assert headers["allow"] == "GET"


def test_what_was_fetched_before_is_not_sent_again(page: Page) -> None:
    path = f"{BASE}/history?topics={METER}&from=2026-01-19&to=2026-01-20"
    _, headers, body = page.knock(path)
    assert body
    assert page.knock(path, If_None_Match=headers["etag"])[::2] == (304, b"")
