"""Passkeys in a real browser, with an authenticator that Chromium plays (WebDriver's virtual authenticators, over its tools)."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from harness import free_port, wait_for
from served import PASSWORD, Page, wait_on
from test_look import RULES, axe

pytestmark = pytest.mark.long

AUTHENTICATOR = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}

LOG_IN_FROM = """async wanted => {
  const bytes = text => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), c => c.charCodeAt(0));
  const text = b => btoa(String.fromCharCode(...new Uint8Array(b))).replace(/\\+/g, "-").replace(/\\//g, "_").replace(/=+$/, "");
  const { id, response: r } = await navigator.credentials.get({ publicKey: { ...wanted, challenge: bytes(wanted.challenge) } });
  return { id, response: { clientDataJSON: text(r.clientDataJSON), authenticatorData: text(r.authenticatorData), signature: text(r.signature), userHandle: text(r.userHandle) } };
}"""
"""What a page of somebody else's would do with a question of ours."""


def body(tab: Any) -> str:
    return str(tab.inner_text("main"))


def press(tab: Any, selector: str) -> None:
    """Press a button as who has a keyboard alone."""
    tab.focus(selector)
    tab.keyboard.press("Enter")


def by_passkey(tab: Any) -> Any:
    """Log in by a passkey from the login view; returns the answer of the house."""
    with tab.expect_response("**/api/1/passkeys/login") as found:
        press(tab, "[data-passkey=enter]")
    return found.value


def libraries(page: Page) -> list[str]:
    """What of the library the page's process has loaded."""
    process = page.house.processes["web"].pid
    maps = Path(f"/proc/{process}/maps").read_text()
    return [word for word in ("cryptography", "cbor2", "_openssl") if word in maps]


def test_a_passkey_registers_logs_in_and_is_refused_where_it_should_be(page: Page, look: Any) -> None:
    page.url = f"http://localhost:{page.port}/"
    tab = look("view=login", bypass_csp=True)
    tools = tab.context.new_cdp_session(tab)
    tools.send("WebAuthn.enable")
    device = tools.send("WebAuthn.addVirtualAuthenticator", {"options": AUTHENTICATOR})["authenticatorId"]
    tab.fill("#name", "ada")
    tab.fill("#password", PASSWORD)
    tab.keyboard.press("Enter")
    wait_on(tab, "document.querySelector('main').innerText.includes('logged in as ada')")

    press(tab, "footer a[href*='view=login']")
    tab.fill("#passkey [name=name]", "<b>phone</b>")
    press(tab, "#passkey button")
    wait_on(tab, "!!document.querySelector('[data-passkey=forget]')")
    assert "<b>phone</b>" in body(tab)
    kept = page.house.state("web") / "passkeys.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    tab.fill("#passkey [name=name]", "once more")
    press(tab, "#passkey button")
    wait_on(tab, "document.querySelector('#told').textContent === 'This device has one already.'")
    tab.evaluate(axe())
    tab.set_viewport_size({"width": 360, "height": 740})
    found = tab.evaluate(
        f"axe.run(document, {{runOnly: {RULES}}}).then(r => r.violations.map(v => [v.id, v.nodes[0].html]))"
    )
    assert found == []
    assert tab.evaluate("document.documentElement.scrollWidth") == 360
    assert tab.locator("[data-passkey=forget]").bounding_box()["x"] < 340, "what removes it is in sight"

    press(tab, "[data-logout]")
    wait_on(tab, "!!document.querySelector('[data-passkey=enter]')")
    answer = by_passkey(tab)
    assert answer.status == 200
    wait_on(tab, "document.querySelector('main').innerText.includes('logged in as ada')")
    (cookie,) = [one for one in tab.context.cookies() if one["name"] == "constellation"]
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    given, ticket = json.loads(answer.request.post_data), answer.request.all_headers()["cookie"]
    status, _, said = page.knock("/api/1/passkeys/login", given, Cookie=ticket, Host=f"localhost:{page.port}")
    assert (status, json.loads(said)["where"]) == (410, "challenge"), "the same once more"
    wait_for(lambda: "ada logs in by the passkey '<b>phone</b>'" in page.house.log("web"), what="who, in the journal")
    assert libraries(page) == [], "the page's own process loads nothing of it"

    other = free_port()  # the same host to the browser, another origin
    tab.context.route(f"http://localhost:{other}/*", lambda route: route.fulfill(body="<title>evil</title>"))
    status, headers, said = page.knock("/api/1/passkeys/login/begin", {}, Host=f"localhost:{page.port}")
    assert status == 200
    evil = tab.context.new_page()
    evil_tools = tab.context.new_cdp_session(evil)
    evil_tools.send("WebAuthn.enable")
    theirs = evil_tools.send("WebAuthn.addVirtualAuthenticator", {"options": AUTHENTICATOR})["authenticatorId"]
    (credential,) = tools.send("WebAuthn.getCredentials", {"authenticatorId": device})["credentials"]
    evil_tools.send("WebAuthn.addCredential", {"authenticatorId": theirs, "credential": credential})
    evil.goto(f"http://localhost:{other}/")
    given = evil.evaluate(LOG_IN_FROM, json.loads(said))
    ticket = headers["set-cookie"].partition(";")[0]
    status, _, said = page.knock("/api/1/passkeys/login", given, Cookie=ticket, Host=f"localhost:{page.port}")
    assert status == 401
    assert "origin" in json.loads(said)["error"]
    evil.close()

    tools.send("WebAuthn.clearCredentials", {"authenticatorId": device})
    tools.send("WebAuthn.addCredential", {"authenticatorId": device, "credential": credential | {"signCount": 0}})
    press(tab, "[data-logout]")
    press(tab, "footer a[href*='view=login']")
    wait_on(tab, "!!document.querySelector('[data-passkey=enter]')")
    assert by_passkey(tab).status == 401
    wait_on(tab, "document.querySelector('#wrong').textContent.includes('less often than before')")
    tools.send("WebAuthn.clearCredentials", {"authenticatorId": device})
    tools.send("WebAuthn.addCredential", {"authenticatorId": device, "credential": credential | {"signCount": 50}})
    assert by_passkey(tab).status == 200

    wait_on(tab, "document.querySelector('main').innerText.includes('logged in as ada')")
    press(tab, "footer a[href*='view=login']")
    wait_on(tab, "!!document.querySelector('[data-passkey=forget]')")
    press(tab, "[data-passkey=forget]")
    wait_on(tab, "!!document.querySelector('[data-passkey=enter]')")  # the session that began by it is over, too
    assert by_passkey(tab).status == 401
    wait_on(tab, "document.querySelector('#wrong').textContent.includes('not known here')")
    assert json.loads(kept.read_text()) == {}
