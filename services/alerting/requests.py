"""What people ask of the alerts service, as it travels on its request topics."""

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from bootstrap_lib import Duration


class Acknowledge(Struct, forbid_unknown_fields=True):
    """Payload of `request/acknowledge` and `request/why`: {"rule":"hot"}, an alert or a rule."""

    rule: Annotated[str, Meta(max_length=200)]


class SnoozeSpan(Struct, forbid_unknown_fields=True):
    """Payload of `request/snooze`: {"rule":"hot","for":"2h"}."""

    rule: Annotated[str, Meta(max_length=200)]
    span: Duration = msgspec.field(name="for")


class Maintenance(Struct, forbid_unknown_fields=True):
    """Payload of `request/maintenance`: {"for":"2h"}; 0s ends it."""

    span: Duration = msgspec.field(name="for")


class Test(Struct, forbid_unknown_fields=True):
    """Payload of `request/test`: {} or {"notify":"apprise"}."""

    notify: str = ""
