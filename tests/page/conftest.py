"""A house with a page, and a browser that looks at it: Debian's Chromium, headless, driven by Playwright."""

from collections.abc import Iterator
from typing import Any

import pytest
from harness import Broker, House, free_port, wait_for
from served import PEOPLE, TOPICS, WATER, Page
from voices import Voice

from services.page import people


@pytest.fixture
def page(house: House, broker: Broker, voice: Voice, request: pytest.FixtureRequest) -> Page:
    """The house's page, served; `indirect` parameters are more options of `web`, `archived` fills an archive first."""
    port = free_port()
    options = getattr(request, "param", "")
    house.write(TOPICS.format(port=port, web=options))
    credentials = house.folder / "credentials"
    credentials.mkdir(parents=True, exist_ok=True)
    secret = credentials / people.SECRET
    secret.touch(mode=0o600)
    secret.write_text(PEOPLE)
    house.environment = {**house.environment, "CONSTELLATION_CREDENTIALS": str(credentials)}
    house.start("web")
    page = Page(house, port, voice)
    wait_for(lambda: not page.get("house").get("gone"), what="the broker, on the page")
    wait_for(lambda: not page.get("house")["values"][WATER].get("asked"), what="the broker's answer")
    return page


@pytest.fixture
def look(chromium: Any, page: Page) -> Iterator[Any]:
    """Opens the page: `look("view=now", width=360, scheme="dark")`; errors on it, and requests elsewhere, fail the test."""
    contexts: list[Any] = []
    wrong: list[str] = []

    def open_(query: str = "", *, width: int = 1280, height: int = 900, scheme: str = "light", **more: Any) -> Any:
        more.setdefault("service_workers", "block")  # each new context would fetch the whole shell a second time
        context = chromium.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, locale=more.pop("locale", "en-GB"), **more
        )
        contexts.append(context)
        tab = context.new_page()
        tab.set_default_timeout(20_000)
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on(
            "console",
            lambda one: (
                wrong.append(one.text)
                if one.type == "error" and "Failed to load" not in one.text and "ERR_" not in one.text
                else None
            ),
        )
        tab.on(
            "request",
            lambda one: wrong.append(one.url) if not one.url.startswith((page.url, "blob:", "data:")) else None,
        )
        tab.goto(f"{page.url}?{query}")
        tab.wait_for_selector("#main > *")
        return tab

    yield open_
    for context in contexts:
        context.close()
    assert not wrong, wrong
