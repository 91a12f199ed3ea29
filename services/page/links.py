"""What links in messages do here: they show how the alerts of their message stand, and act once."""

from typing import Any

from services.page import forms
from services.page.answers import Refusal
from services.page.house import PageHouse
from services.page.permits import standing


def seen(house: PageHouse, token: str) -> forms.LinkAnswer:
    """What a link permits, and how its alerts stand; Refusal 403, 410, 503."""
    found = house.permits.read(token, house.now())
    if house.gone is not None:
        raise Refusal(503, "there is no word from the broker", "broker")
    with house.lock:
        stood = standing(house.live.alerts, found)
    alerts = [
        forms.LinkedAlert(
            name=name,
            state=word,
            text=str(document.get("text") or name),
            since=begun,
            acknowledged=bool(document.get("acknowledged")),
            snoozed_until=document.get("snoozed_until"),
        )
        for (name, word, document), (_, begun) in zip(stood, found.alerts, strict=True)
    ]
    zone = house.registry.zone
    return forms.LinkAnswer(told=found.notifier, until=found.until, zone=zone, alerts=alerts, more=found.more)


async def used(house: PageHouse, token: str, verb: str, arguments: dict[str, Any]) -> list[str]:
    """Acknowledge or snooze what a message told of; Refusal 403, 409, 410, 503, 504. Returns the alerts."""
    alerts = [one.name for one in seen(house, token).alerts if one.state == "firing"]
    found = house.permits.read(token, house.now())
    if not alerts:
        raise Refusal(409, "what it told of is over: nothing is left to do", "over")
    house.permits.claim(found, house.now())
    try:
        for name in alerts:
            await house.act_for(f"{found.notifier}'s link", "alerts", verb, {"rule": name, **arguments})
    except BaseException:
        house.permits.release(found)
        raise
    return alerts
