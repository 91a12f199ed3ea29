"""What if: a rule over stored readings, by the alerts service's own machine."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from bootstrap_lib import DocumentError, Duration, Registry, parse_time
from services.page.answers import Refusal
from services.page.forms import WhatIfAnswer
from services.page.past import MOST_RAW, Asked, Past

if TYPE_CHECKING:
    from services.alerting import Rule

NAME: Final = "what_if"


def run(  # noqa: PLR0917
    registry: Registry, past: Past, asked: Callable[[list[str]], list[Asked]], text: str, since: int, until: int
) -> WhatIfAnswer:
    """When a rule would have fired in a span (ms). Refusal 422 says what is wrong with it; PastAway."""
    from services.alerting import RuleError, compile_rules, replay, scope_of  # noqa: PLC0415 (only who tries a rule pays)

    scope = scope_of(registry)
    rule = _rule(registry, text)
    watches, problems = compile_rules({NAME: rule}, scope)
    if problems:
        raise Refusal(422, str(problems[0][1]), "rule")
    topics = [watch.key for watch in watches if not watch.key.startswith("service ")]
    if not topics:
        raise Refusal(422, "what services say of themselves is not kept: only readings are", "rule")
    lines = past.lines(topics, since, until)
    fired: dict[str, int] = {}
    found: list[tuple[int, int | None]] = []
    try:
        for line in replay(lines, {NAME: rule}, scope, registry.root):
            where, _, body = line.partition(" ")
            document = json.loads(body)
            moment = parse_time(document["since"]) if "since" in document else since
            if document["state"] == "firing":
                fired[where] = moment + round(watches[0].lasts * 1000)
            elif where in fired:
                found.append((fired.pop(where), moment))
    except (ValueError, RuleError) as error:
        raise Refusal(422, str(error), "rule") from None
    found += ((begin, None) for begin in fired.values())
    one = topics[0] if len(topics) == 1 else None
    unseen = sum(end - begin for begin, end in past.series(asked([one])[0], since, until, 1000).holes) if one else 0
    limit = watches[0].condition.operand
    return WhatIfAnswer(
        topic=one,
        limit=float(limit) if isinstance(limit, float | int) and not isinstance(limit, bool) else None,
        fired=sorted(found, key=lambda span: span[0]),
        readings=len(lines),
        unseen=unseen,
        whole=len(lines) < MOST_RAW,
    )


def _rule(registry: Registry, text: str) -> "Rule":
    from services.alerting import Rule, listed  # noqa: PLC0415

    try:
        named = registry.entries("alerts", Rule)
    except DocumentError as error:
        raise Refusal(422, str(error), "rule") from None
    if text in named:
        import msgspec  # noqa: PLC0415

        found = named[text]
        return (
            msgspec.structs.replace(found, inhibited_by=[], notify=[], picture=None) if listed(found.notify) else found
        )
    when, lasts = text.strip(), None
    for word in (", for: ", " for: ", " for "):
        head, found_word, tail = text.rpartition(word)
        if found_word:
            try:
                when, lasts = head, Duration.parse(tail.strip())
                break
            except ValueError:
                continue
    return Rule(when=when, lasts=lasts, hold_off=Duration(0))
