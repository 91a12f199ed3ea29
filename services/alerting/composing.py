"""What a message says: the newest of everything that it speaks of."""

from bootstrap_lib import format_time
from services.alerting.judging import Judge
from services.alerting.outbox import Member, Outgoing
from services.alerting.settings import TellerSettings
from services.alerting.told import TellerMemory, Told, Track
from services.alerting.verdict import Alert
from services.alerting.wording import Mention, Wording, text_of, title_of
from services.notices.notice import Notice


class Composer:
    """Makes notices of what is so and of what people know."""

    def __init__(self, judge: Judge, memory: TellerMemory, settings: TellerSettings) -> None:
        """All three are only read."""
        self.judge, self.memory, self.settings = judge, memory, settings

    def renewed(self, message: Outgoing, wall: int) -> Notice:
        """A message with the newest values."""
        if not message.members:
            return message.notice
        alerts = [alert for name in message.members if (alert := self.judge.alerts.get(name))]
        rules = [alert.watch.rule for alert in alerts]
        over, wording = message.kind == "resolved", Wording(self.settings.timezone, wall)
        mentions = [self._mention(name, member, message, wall) for name, member in message.members.items()]
        priority = max((self._told(name).priority for name in message.members), default=0)
        later = format_time(wall + self.settings.fallback) if len(message.route) > 1 and not over else ""
        return Notice(
            title=wording.title(mentions, meanwhile=message.meanwhile),
            text=wording.text(mentions),
            time=message.notice.time,
            priority=-1 if message.meanwhile else min(0, priority) if over or message.kind == "went" else priority,
            sound=rules[0].sound if rules and not over else None,
            url=rules[0].url if rules else None,
            picture=next((rule.picture for rule in rules if rule.picture), None),
            rules=message.notice.rules,
            begun=tuple(member.since for member in message.members.values())
            if message.kind in ("fires", "still")
            else (),
            until=later,
        )

    def _told(self, name: str) -> Told:
        return self.memory.told.get(name) or Told(title=title_of(name))

    def _mention(self, name: str, member: Member, message: Outgoing, wall: int) -> Mention:
        told, alert = self._told(name), self.judge.alerts.get(name)
        track = told.tracks.get(",".join(message.route)) or Track(fired=member.fired, fired_for=member.fired_for)
        if alert is None or (message.kind == "resolved" and alert.verdict.fired < member.fired):
            return Mention(told.title, message.kind, "", None, None)
        verdict = alert.verdict
        since = track.fired - (1 if message.kind in ("resolved", "still") else 0)
        now = max(0, wall - verdict.since) if verdict.firing else 0
        return Mention(
            told.title or title_of(name),
            message.kind,
            self.text(alert, wall),
            verdict,
            alert.watch,
            member.since,
            max(1, verdict.fired - since),
            verdict.fired_for - track.fired_for + now,
        )

    @staticmethod
    def text(alert: Alert, wall: int) -> str:
        """What an alert says now."""
        verdict, silence = alert.verdict, alert.watch.is_silence
        age = wall - alert.signal.pulse.time if silence else max(wall, verdict.time) - verdict.since
        return text_of(alert.watch, verdict.value, age)
