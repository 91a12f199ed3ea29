"""What every notifier may be told in topics.yaml."""

from typing import Annotated

from msgspec import Meta

from bootstrap_lib import Duration, InstanceOptions


class NotifierOptions(InstanceOptions, frozen=True, kw_only=True):
    """What every notifier may be told."""

    every: Annotated[Duration, Meta(description="How often it looks at the time.")] = Duration(1)
    keep: Annotated[Duration, Meta(description="How long a message is tried before it is given up.")] = Duration(86400)
    picture: Annotated[Duration, Meta(description="How much time a graph shows.")] = Duration(6 * 3600)
    links: (
        Annotated[
            str,
            Meta(
                pattern="^secret:", description="Key of links to the page, with which one acknowledges without a login."
            ),
        ]
        | None
    ) = None
