"""What can be shown of the promise that nothing is lost: each claim with its figures, never greener than they are."""

import contextlib
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct, field

from bootstrap_lib import ReadingError, Sequence, parse_time
from services.page.forms import Claim, ProofAnswer, SourceProof
from services.page.live import Live, ServiceFacts

Healths = Mapping[str, Mapping[str, Any]]
"""By service; empty for one that does not live."""

REMEMBERED: Final = 2000
"""Readings of a source whose arrival is remembered until the mark has passed them."""

WAITING: Final = 5000
"""Milliseconds after which a reading that is not on disk is one that waits."""

FRESH: Final = 2 * 86_400_000
"""Age (ms) up to which a backup is believed."""
BEATS: Final = 3.5
"""Beats after which a health is not believed any more."""
USUAL_BEAT: Final = 30
LONGEST_BEAT: Final = 86_400
"""Seconds between two healths that are believed."""
TRIED: Final = 35 * 86_400_000
"""Age (ms) up to which a trial shows that backups can be put back."""


class Sent(Struct):
    """A source's numbers as they went by: the newest, those above the mark with their arrival (ms), and the mark's lag (ms)."""

    stream: str = ""
    newest: int = 0
    stored: int | None = None
    lag: int | None = None
    last: int | None = None
    above: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    gaps: int = 0
    """Times that the archive asked for what it misses, without those that were asked again before it had it."""
    filled: int = 0
    gap_to: int | None = None
    """Number up to which the archive must have everything for the last gap to be filled."""


class Lived(Struct):
    """How a service lived, as far as it was heard without a break. Times in ms."""

    heard: int
    start: int
    stopping: bool
    lost: int
    lost_since: int | None = None
    """When readings were first heard to be lost; None where that was before it was heard."""


class Ledger:
    """What each source sent, what the archive said it has, and how services ended: kept while this service runs, and nowhere else."""

    def __init__(self, begun: int) -> None:
        """Begin with nothing seen at a time (ms)."""
        self.begun = begun
        self.sources: dict[str, Sent] = {}
        self._lives: dict[str, Lived] = {}
        self.unclean: dict[str, int] = {}
        """When each service was last heard before it began anew without having said that it stops."""

    def ask(self) -> None:
        """Know nothing of how services live until they are heard again: what they said meanwhile was not."""
        self._lives.clear()

    def hear(self, name: str, health: Mapping[str, Any], now: int) -> None:
        """Take a service's health."""
        before = self._lives.get(name)
        start, lost = _number(health, "start"), _lost(health)
        life = self._lives[name] = Lived(now, start, health.get("state") == "stopping", lost)
        if before is None:
            return
        if start != before.start and not before.stopping:
            self.unclean[name] = before.heard
        if lost:
            life.lost_since = before.lost_since if start == before.start and before.lost else now

    def lost_since(self, name: str) -> int | None:
        """When a source was first heard to lose readings (ms); None where it lost none, or lost them before."""
        life = self._lives.get(name)
        return life.lost_since if life else None

    def resent(self, source: str) -> None:
        """Note that a source was asked for what the archive misses."""
        sent = self.sources.get(source)
        if sent is not None and sent.gap_to is None:
            sent.gaps, sent.gap_to = sent.gaps + 1, sent.newest

    def read(self, source: str, sequence: Sequence | None, time: int, now: int) -> None:
        """Note a reading that went by."""
        sent = self.sources.setdefault(source, Sent())
        sent.last = max(time, sent.last or 0)
        if sequence is None:
            return
        if sequence.stream != sent.stream:
            sent.stream, sent.newest, sent.stored, sent.lag = sequence.stream, 0, None, None
            sent.above.clear()
            sent.gap_to = None
        if sequence.number > sent.newest:
            sent.newest = sequence.number
            if sent.stored is None or sequence.number > sent.stored:
                sent.above.append((sequence.number, now))

    def mark(self, source: str, stream: str, after: int, now: int) -> None:
        """Note up to which number everything of a source is on disk."""
        sent = self.sources.setdefault(source, Sent(stream=stream))
        if stream != sent.stream:
            return
        sent.stored = after
        if sent.gap_to is not None and after >= sent.gap_to:
            sent.filled, sent.gap_to = sent.filled + 1, None
        while sent.above and sent.above[0][0] <= after:
            sent.lag = now - sent.above.popleft()[1]


def of(live: Live, ledger: Ledger, archive: Mapping[str, Any], now: int, gone: int | None) -> ProofAnswer:
    """The proof at a time (ms). `archive` says what was found beside it: bytes, backup (ms), trouble."""
    healths = _healths(live, now)
    sources = [_source(name, healths[name], ledger, now) for name in _sources(live)]
    claims = [
        _on_disk(sources, gone),
        _nothing_lost(sources, live, healths, gone),
        _whole(live, healths, archive, gone),
        _filled(live, healths, gone),
        _backup(archive, now),
        _nothing_refused(healths, gone),
    ]
    shown = all(claim.state == "yes" for claim in claims)
    return ProofAnswer(at=now, heard=ledger.begun, shown=shown, claims=claims, sources=sources)


def _sources(live: Live) -> list[str]:
    publishing = {topic.source for topic in live.topics.values() if topic.stored}
    return [name for name in live.services if name in publishing]


def _healths(live: Live, now: int) -> Healths:
    """What each service says of itself, as long as it says so; what stands at the broker outlives who said it."""
    return {name: (one.health or {}) if _is_alive(one, now) else {} for name, one in live.services.items()}


def _is_alive(service: ServiceFacts, now: int) -> bool:
    beat = (service.health or {}).get("beat")
    beat = beat if isinstance(beat, (int, float)) and 0 < beat <= LONGEST_BEAT else USUAL_BEAT
    return service.status == "online" and now - service.heard <= BEATS * 1000 * beat


def _number(content: object, *path: str) -> int:
    for step in path:
        content = content.get(step) if isinstance(content, dict) else None
    return content if isinstance(content, int) else 0


def _lost(health: Mapping[str, Any]) -> int:
    return _number(health, "spool", "dropped") + _number(health, "counters", "lost")


def _source(name: str, health: Mapping[str, Any], ledger: Ledger, now: int) -> SourceProof:
    sent = ledger.sources.get(name, Sent())
    late = sum(1 for _, arrived in sent.above if now - arrived > WAITING)
    return SourceProof(
        source=name,
        state=str(health.get("state", "offline")),
        taken=_number(health, "counters", "published"),
        newest=sent.newest or None,
        stored=sent.stored,
        waiting=max(_number(health, "spool", "waiting") if late else 0, late),
        lag=sent.lag,
        refused=_number(health, "counters", "refused") + _number(health, "spool", "dead"),
        lost=_lost(health),
        lost_since=ledger.lost_since(name),
        gaps=sent.gaps,
        filled=sent.filled,
        unclean=ledger.unclean.get(name),
        last=sent.last,
    )


def _on_disk(sources: list[SourceProof], gone: int | None) -> Claim:
    known = [one for one in sources if one.newest is not None]
    waiting = sum(one.waiting for one in sources)
    unmarked = [one.source for one in known if one.stored is None]
    facts = {
        "sources": len(known),
        "waiting": waiting,
        "unmarked": unmarked,
        "lag": max((one.lag for one in known if one.lag is not None), default=None),
    }
    shown = bool(known) and not waiting and not unmarked and gone is None
    return Claim(key="on_disk", state="yes" if shown else "open", facts=facts)


def _nothing_lost(sources: list[SourceProof], live: Live, healths: Healths, gone: int | None) -> Claim:
    lost = {one.source: one.lost for one in sources if one.lost}
    since = {one.source: one.lost_since for one in sources if one.lost}
    stores = [name for name, one in live.services.items() if one.service == "archive"]
    dead = [name for name in (*(one.source for one in sources), *stores) if not healths[name]]
    missing = [span for name in stores for span in _spans(healths[name].get("lost"))]
    facts = {"lost": lost, "since": since, "missing": missing, "silent": dead}
    return Claim(key="nothing_lost", state="no" if lost or missing else "open" if dead or gone else "yes", facts=facts)


def _spans(found: object) -> list[tuple[int, int]]:
    """Times (ms) between which an archive says that readings are missing for good; of what is none, nothing."""
    spans = []
    for span in found if isinstance(found, list) else ():
        with contextlib.suppress(ReadingError, TypeError, ValueError):
            since, until = span
            spans.append((parse_time(since), parse_time(until)))
    return spans


def _whole(live: Live, healths: Healths, archive: Mapping[str, Any], gone: int | None) -> Claim:
    name = next((name for name, one in live.services.items() if one.service == "archive"), None)
    health = healths[name] if name else {}
    facts = {key: archive.get(key) for key in ("bytes", "trouble", "first")} | {"state": health.get("state")}
    if archive.get("trouble"):
        return Claim(key="whole", state="no" if name else "open", facts=facts)
    shown = health.get("state") == "running" and gone is None
    return Claim(key="whole", state="yes" if shown else "open", facts=facts)


def _filled(live: Live, healths: Healths, gone: int | None) -> Claim:
    stores = [name for name, one in live.services.items() if one.service in ("influx", "rrd")]
    filling = [name for name in stores if healths[name].get("filling")]
    silent = [name for name in stores if not healths[name]]
    facts = {"stores": stores, "filling": filling, "silent": silent}
    return Claim(key="filled", state="open" if filling or silent or gone else "yes", facts=facts)


def _backup(archive: Mapping[str, Any], now: int) -> Claim:
    taken, size, tried = archive.get("backup"), archive.get("backup_bytes"), archive.get("backup_tried") or None
    facts = {"taken": taken, "bytes": size, "tried": tried}
    shown = (
        taken and now - taken < FRESH and size and tried and now - tried < TRIED
    )  # what was not put back is no backup yet
    return Claim(key="backup", state="yes" if shown else "open", facts=facts)


def _nothing_refused(healths: Healths, gone: int | None) -> Claim:
    refused = {name: dead for name, health in healths.items() if (dead := _number(health, "counters", "dead"))}
    return Claim(
        key="nothing_refused", state="no" if refused else "open" if gone else "yes", facts={"refused": refused}
    )
