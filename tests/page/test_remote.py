"""The page as remote control, behind the login: meters that a receiver is to hear, and sources that rest."""

import json
from pathlib import Path
from typing import Any

import pytest
from harness import Broker, Ear, House, free_port, wait_for
from served import PASSWORD, PEOPLE, TOPICS, Page, wait_on
from voices import Voice

from services.page import people

pytestmark = pytest.mark.long

METERS = "/api/1/services/wmbus/meters"
KEY = "9A25139E3244CC2E391A8EF6B915B697"[::-1]


@pytest.fixture
def page(house: House, broker: Broker, voice: Voice) -> Page:
    """A house with a receiver of meters that hears lines of a file."""
    port = free_port()
    heard = house.folder / "heard"
    heard.touch()
    house.write(TOPICS.format(port=port, web="").replace("/dev/null", f"'lines:{heard}', heartbeat: 500ms"))
    credentials = house.folder / "credentials"
    credentials.mkdir(parents=True)
    (credentials / people.SECRET).touch(mode=0o600)
    (credentials / people.SECRET).write_text(PEOPLE)
    house.environment = {**house.environment, "CONSTELLATION_CREDENTIALS": str(credentials)}
    house.start("wmbus", wait=False)
    house.start("web")
    page = Page(house, port, voice)
    wait_for(lambda: not page.get("house").get("gone"), what="the broker, on the page")
    wait_for(lambda: page.get("house")["services"]["wmbus"].get("status") == "online", what="the receiver")
    return page


def listed(page: Page) -> dict[str, str]:
    return dict(page.get("house")["services"]["wmbus"]["listed"])


def texts(folder: Path) -> str:
    return "".join(
        path.read_text() for path in folder.rglob("*") if path.is_file() and path.suffix in (".log", ".yaml")
    )


def test_a_person_adds_a_meter_and_removes_it_and_its_key_is_shown_nowhere(page: Page) -> None:
    meter = {"number": "32666857", "maker": "KAM", "key": KEY}
    assert page.knock(METERS, {"add": meter})[0] == 401, "only a person does that"
    page.log_in()
    status, _, body = page.knock(METERS, {"add": meter}, X_Forwarded_For="203.0.113.9")
    assert (status, json.loads(body)["where"]) == (403, "key"), "a key comes from the machine itself, or by TLS"
    status, _, body = page.knock(METERS, {"add": meter})
    assert (status, json.loads(body)) == (200, [{"meter": "32666857", "topics": "home/data/meters/kam_32666857/+"}])
    wait_for(lambda: listed(page) == {"32666857": "KAM"}, what="the meter on the page")
    assert page.knock(METERS, {"add": {"number": "7120441"}})[0] == 409
    status, _, body = page.knock(METERS, {"add": {"number": "07120441", "key": "short"}})
    assert (status, "32 hexadecimal digits" in json.loads(body)["error"]) == (409, True)
    assert page.knock(METERS, {"add": {"number": "07120441"}})[0] == 200
    wait_for(lambda: listed(page).keys() == {"32666857", "07120441"}, what="both")
    assert "ada asks wmbus to meters {'mode': 'add', 'meters': ['32666857']}" in page.house.log("web")
    kept = page.house.state("wmbus") / "secrets/wmbus.32666857"
    assert kept.read_text().strip() == KEY
    assert KEY not in texts(page.house.folder) + json.dumps(page.get("house"))

    assert page.knock(METERS, {"remove": "32666857"})[0] == 200
    wait_for(lambda: listed(page).keys() == {"07120441"}, what="what is left")
    assert not kept.exists()
    status, _, body = page.knock(METERS, {"remove": "32666857"})
    assert (status, "cannot be removed" in json.loads(body)["error"]) == (409, True)
    for wrong in ({}, {"add": meter, "remove": "1"}, {"replace": []}, {"add": []}):
        assert page.knock(METERS, wrong)[0] == 422, wrong
    assert page.knock("/api/1/services/onewire/meters", {"remove": "1"})[0] == 404, "it hears none"


def test_the_services_view_shows_what_a_receiver_answered_and_rests_a_source(page: Page, look: Any, ear: Ear) -> None:
    tab = look("view=login")
    tab.fill("#name", "ada")
    tab.fill("#password", PASSWORD)
    tab.keyboard.press("Enter")
    wait_on(tab, "document.querySelector('main').innerText.includes('logged in as ada')")
    tab.fill("form.listen [name=number]", "32666857")
    tab.fill("form.listen [name=maker]", "KAM")
    tab.click("form.listen button")
    wait_on(tab, "document.querySelector('.heard').textContent.includes('home/data/meters/kam_32666857/+')")
    wait_on(tab, "!!document.querySelector('[data-meter=\"32666857\"]')")
    tab.click('[data-meter="32666857"]')
    wait_on(tab, "document.querySelector('.heard').textContent.includes('32666857: removed')")
    wait_on(tab, "!document.querySelector('[data-meter]')")
    tab.fill("form.listen [name=number]", "12")
    tab.click("form.listen button")
    wait_on(tab, "document.querySelector('.heard').textContent.includes('eight digits')")
    assert tab.input_value("form.listen [name=number]") == "12", "what was refused can be mended"
    tab.click("[data-act=pause][data-instance=wmbus]")
    ear.wait("home/service/wmbus/health", lambda one: one["state"] == "paused")
    tab.click("[data-act=resume][data-instance=wmbus]")
    ear.wait("home/service/wmbus/health", lambda one: one["state"] == "running")
