"""Messages by e-mail, SMS and all else that Apprise knows (docs/services/apprise.md)."""

import logging
import tempfile
from pathlib import Path
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from bootstrap_lib import Needs, Registry, reason, secrets
from services.notices.notifier import Notifier
from services.notices.options import NotifierOptions
from services.notices.permit import WORDS
from services.notices.queued import Delivered, Outcome, Queued, Refused, Unanswered

log = logging.getLogger(__name__)


class Options(NotifierOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where messages go."""

    urls: Annotated[
        list[Annotated[str, Meta(pattern="^secret:")]],
        Meta(min_length=1, description="References to Apprise's addresses: they hold passwords."),
    ]


class Apprise(Notifier):
    """Messages by e-mail, SMS and the rest."""

    NEEDS: ClassVar = Needs(extra="apprise", libraries=("apprise",), network="internet", notifies=True)

    options: Options

    def __init__(self, registry: Registry, name: str) -> None:
        """Prepare the instance; nothing is opened yet."""
        super().__init__(registry, name)
        self._urls: list[str] = []
        self._apprise: Any = None

    def begin(self) -> None:
        """Take up what waits, and the addresses; SecretError where they are missing."""
        super().begin()
        self._urls = [secrets.resolve(reference) for reference in self.options.urls]
        logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)  # its messages hold addresses, with passwords

    def deliver(self, entry: Queued, picture: bytes | None) -> Outcome:
        """Send a message by all addresses; where one of several took it, it is not sent again."""
        import apprise  # 17 MB, only once there is a message

        if self._apprise is None:
            self._apprise = apprise.Apprise()
            for reference, url in zip(self.options.urls, self._urls, strict=True):
                if not self._apprise.add(url):
                    self._apprise = None
                    return Refused(f"{reference} holds no address that Apprise knows")
        notice = entry.notice
        kinds = apprise.NotifyType
        kind = kinds.FAILURE if notice.priority > 0 else kinds.WARNING if notice.priority == 0 else kinds.INFO
        body = entry.text + (f"\n{notice.url}" if notice.url else "")
        body += f"\n{WORDS}: {entry.link}" if entry.link else ""
        with tempfile.TemporaryDirectory() as folder:
            attached = Path(folder) / "graph.png"
            if picture:
                attached.write_bytes(picture)
            try:
                result = self._apprise.notify(
                    title=notice.title, body=body, notify_type=kind, attach=str(attached) if picture else None
                )
            except Exception as error:  # noqa: BLE001 (plug-ins raise anything)
                return Unanswered(f"{type(error).__name__}: {self._redacted(reason(error))}", lost=True)
        return self._outcome_of(result)

    def _outcome_of(self, result: Any) -> Outcome:
        """Judge Apprise's result, which is true when all addresses took it (2.x names what became of them)."""
        status = getattr(getattr(result, "status", None), "name", "")
        if result or status == "PARTIAL":
            if status == "PARTIAL":
                log.warning("one of the addresses did not take the message")
            return Delivered()
        return Unanswered("no address took the message", lost=status == "TIMEOUT")

    def _redacted(self, text: str) -> str:
        for url in self._urls:
            text = text.replace(url, "…")
        return text
