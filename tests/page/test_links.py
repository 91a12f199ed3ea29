"""Links in messages: who got one on the phone acknowledges or snoozes without a login, once, and nobody else does."""

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from harness import Broker, Ear, House, free_port, wait_for
from served import PASSWORD, PEOPLE, TOPICS, WATER, Page, wait_on
from test_look import RULES, axe
from voices import Voice, now

from services.notices import permit
from services.page import people
from services.simulators.pushover import PushoverServer

pytestmark = pytest.mark.long

KEY = "k" * 40
LINKS = "/api/1/link"
USE = "/api/1/link/use"


@pytest.fixture
def phone() -> Iterator[PushoverServer]:
    with PushoverServer() as server:
        yield server


@pytest.fixture
def page(house: House, broker: Broker, voice: Voice, phone: PushoverServer) -> Page:
    """A house that tells a phone what fires, and a page that the phone reaches."""
    port = free_port()
    reached = f", address: 'http://127.0.0.1:{port}', look: local"
    options = f'api_url: "{phone.url}/1/", every: 50ms, links: secret:web.links'
    told = f"\n  pushover: {{{options}}}\n  web:"
    topics = TOPICS.format(port=port, web=reached).replace("clear: 80", "clear: 80, hold_off: 0s")
    house.write(topics.replace("\n  web:", told))
    folder = house.folder / "credentials"
    folder.mkdir(parents=True)
    given = {
        people.SECRET: PEOPLE,
        permit.SECRET: KEY,
        "pushover.token": "a" * 30,
        "pushover.user": "u" * 30,
    }
    for name, text in given.items():
        (folder / name).touch(mode=0o600)
        (folder / name).write_text(text)
    house.environment = {**house.environment, "CONSTELLATION_CREDENTIALS": str(folder)}
    for name in ("web", "alerts", "pushover"):
        house.start(name, wait=False)
    page = Page(house, port, voice)
    for name in ("web", "alerts", "pushover"):
        wait_for(lambda name=name: ": started" in house.log(name), what=f"start of {name}")
    wait_for(lambda: not page.get("house").get("gone"), what="the broker, on the page")
    wait_for(lambda: page.get("house")["services"]["alerts"].get("status") == "online", what="alerts")
    return page


def alert(page: Page) -> dict[str, Any]:
    return dict(page.get("house")["alerts"].get("hot", {}))


def told(page: Page, phone: PushoverServer, degrees: float = 90.0) -> str:
    """What stands behind the # of the link that the phone got, once the alert fires."""
    count = len(phone.taken)
    page.say(WATER, degrees)
    wait_for(lambda: len(phone.taken) > count, what="the message")
    wait_for(lambda: alert(page).get("state") == "firing", what="the alert on the page")
    message = phone.taken[-1]
    assert message["url_title"] == "Acknowledge or snooze"
    address, _, token = message["url"].partition("#")
    assert address == f"{page.url}link.html"
    return token


def refused(page: Page, path: str, body: dict[str, Any]) -> tuple[int, str, str]:
    status, _, answer = page.knock(path, body)
    said = json.loads(answer)
    return status, said["where"], said["error"]


def test_a_phone_acknowledges_by_its_message_once_and_without_a_login(
    page: Page, phone: PushoverServer, ear: Ear
) -> None:
    token = told(page, phone)
    status, _, body = page.knock(LINKS, {"token": token})
    (one,) = json.loads(body)["alerts"]
    assert (status, one["state"], one["text"][:13]) == (200, "firing", "Boiler at 90 ")
    assert page.knock("/link.html")[0] == 200, "what a preview of the link fetches"
    assert page.knock(LINKS, method="GET")[0] in (404, 405)
    assert page.knock(USE, method="GET")[0] in (404, 405)
    evil = {"token": token, "act": "acknowledge"}
    assert page.knock(USE, evil, Origin="http://evil.example")[0] == 403
    assert not alert(page)["acknowledged"], "nothing of all this has acted"
    assert token not in "".join(str(one) for one in ear.all("home/notify/+")), "the broker never carries it"

    with ThreadPoolExecutor(2) as tabs:
        answers = list(tabs.map(lambda _: page.knock(USE, {"token": token, "act": "acknowledge"}), range(2)))
    assert sorted(status for status, _, _ in answers) == [200, 410], answers
    ear.wait("home/alert/hot", lambda one: one["acknowledged"])
    assert "pushover's link asks alerts to acknowledge" in page.house.log("web")
    (fired,) = page.get(f"alerts?from={now() - 86_400_000}")["fired"]
    assert ("acknowledge", "pushover's link") in [(step["kind"], step["text"]) for step in fired["steps"]]

    page.restart()
    wait_for(lambda: alert(page).get("state") == "firing", what="the alert on the page, again")
    for path, body in ((LINKS, {"token": token}), (USE, {"token": token, "act": "snooze", "for": "1h"})):
        status, where, sentence = refused(page, path, body)
        assert (status, where) == (410, "used"), sentence
        assert "used already" in sentence


def test_what_is_forged_too_old_or_over_does_nothing_and_says_why(page: Page, phone: PushoverServer, ear: Ear) -> None:
    token = told(page, phone)
    begun = permit.read(token, KEY)
    content, _, mark = token.partition(".")
    other = base64.urlsafe_b64encode(base64.urlsafe_b64decode(content + "==").replace(b"hot", b"all")).decode()
    forged = [
        f"{other.rstrip('=')}.{mark}",
        permit.signed(begun, "another key that is quite as long as it"),
        content,
        f"{content}.",
        "",
        "é",
    ]
    for one in forged:
        assert refused(page, USE, {"token": one, "act": "acknowledge"})[:2] == (403, "forged"), one
    old = permit.signed(permit.Permit("pushover", "1", now() - 1, begun.alerts), KEY)
    status, where, sentence = refused(page, USE, {"token": old, "act": "acknowledge"})
    assert (status, where) == (410, "expired"), sentence
    assert page.knock(USE, {"token": token, "act": "snooze"})[0] == 422, "for how long?"
    assert page.knock(USE, {"token": token, "act": "pause"})[0] == 422
    assert not alert(page)["acknowledged"]

    page.say(WATER, 60.0)
    wait_for(lambda: alert(page).get("state") == "ok", what="its end")
    assert refused(page, USE, {"token": token, "act": "acknowledge"})[:2] == (409, "over")
    count = len(phone.taken)
    wait_for(lambda: len(phone.taken) > count or "url" not in phone.taken[-1], what="what tells its end")
    assert "url" not in phone.taken[-1], "there is nothing to acknowledge any more"

    following = told(page, phone, 91.0)
    (stands,) = json.loads(page.knock(LINKS, {"token": token})[2])["alerts"]
    assert stands["state"] == "again"
    assert refused(page, USE, {"token": token, "act": "acknowledge"})[:2] == (409, "over"), "it is another's begin"
    assert not alert(page)["acknowledged"]
    page.house.stop("alerts")
    wait_for(lambda: page.get("house")["services"]["alerts"]["status"] == "offline", what="that alerts are away")
    assert refused(page, USE, {"token": following, "act": "snooze", "for": "2h"})[0] == 503
    page.house.start("alerts")
    wait_for(lambda: page.get("house")["services"]["alerts"]["status"] == "online", what="alerts")
    assert page.knock(USE, {"token": following, "act": "snooze", "for": "2h"})[0] == 200, "what failed did not use it"
    ear.wait("home/alert/hot", lambda one: one.get("snoozed_until"))


def test_a_person_opens_it_sees_what_it_told_and_presses_a_button(
    page: Page, phone: PushoverServer, look: Any, ear: Ear
) -> None:
    tab = look("view=key", width=360, bypass_csp=True)
    address = f"{page.url}link.html#{told(page, phone)}"
    tab.goto(address)
    wait_on(tab, "document.querySelector('main').innerText.includes('Boiler at 90')")
    tab.evaluate(axe())
    found = tab.evaluate(
        f"axe.run(document, {{runOnly: {RULES}}}).then(r => r.violations.map(v => v.id + v.nodes[0].target))"
    )
    assert found == []
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert not alert(page)["acknowledged"], "to open it does nothing"
    tab.focus("button[data-act=acknowledge]")
    tab.keyboard.press("Enter")
    wait_on(tab, "document.querySelector('#said').textContent === 'Acknowledged: hot.'")
    ear.wait("home/alert/hot", lambda one: one["acknowledged"])
    tab.goto("about:blank")
    tab.goto(address)
    wait_on(tab, "document.querySelector('#said').textContent.includes('used already')")
    assert tab.evaluate("document.querySelectorAll('button').length") == 0
    assert PASSWORD not in tab.content()
