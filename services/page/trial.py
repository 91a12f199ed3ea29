"""What if: a rule over stored readings, by the alerts service's own machine."""

from collections.abc import Callable
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from bootstrap_lib import DocumentError, Duration, Registry
from services.page.answers import Refusal
from services.page.forms import WhatIfAnswer
from services.page.past import Asked, Past

if TYPE_CHECKING:
    from services.alerting import Rule

NAME: Final = "what_if"


def run(  # noqa: PLR0917
    registry: Registry, past: Past, asked: Callable[[list[str]], list[Asked]], text: str, since: int, until: int
) -> WhatIfAnswer:
    """When a rule would have fired in a span (ms). Refusal 422 says what is wrong with it; PastAway."""
    from services.alerting import compile_rules, scope_of
    from services.alerting.trial import fears_low, try_rule

    scope = scope_of(registry)
    watches, problems = compile_rules({NAME: _rule(registry, text)}, scope)
    if problems:
        raise Refusal(422, str(problems[0][1]), "rule")
    topics = [watch.key for watch in watches if not watch.of_service]
    if not topics:
        raise Refusal(422, "what services say of themselves is not kept: only readings are", "rule")
    readings, seen = past.readings(asked(topics), since, until, fears_low(watches))
    signs = past.silences(topics, since, seen)  # beyond, that others spoke would be a silence of the topic
    trial = try_rule(watches, sorted([*signs, *readings], key=itemgetter(2)), scope)
    fired = [(firing.since + round(firing.watch.lasts * 1000), firing.until) for firing in trial.firings]
    one = topics[0] if len(topics) == 1 else None
    unseen = sum(end - begin for begin, end in past.series(asked([one])[0], since, seen, 1000).holes) if one else 0
    limit = watches[0].condition.operand
    return WhatIfAnswer(
        topic=one,
        limit=float(limit) if isinstance(limit, float | int) and not isinstance(limit, bool) else None,
        fired=sorted(fired, key=lambda span: span[0]),
        readings=trial.readings,
        unseen=unseen,
        until=seen,
        whole=seen == until,
    )


def _rule(registry: Registry, text: str) -> "Rule":
    from services.alerting import Rule

    try:
        named = registry.entries("alerts", Rule)
    except DocumentError as error:
        raise Refusal(422, str(error), "rule") from None
    if text in named:
        import msgspec

        return msgspec.structs.replace(named[text], inhibited_by=[], notify=[], picture=None)
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
