"""What a message to Pushover may say, and how it is posted: as Pushover's own API refuses it (pushover.net/api)."""

import email.parser
import email.policy
import json
import re
from collections.abc import Mapping

from services.simulators.server import parse_form

KEY = re.compile(r"[A-Za-z0-9]{30}")
QUOTA = 10_000
"""Messages an application may send in a month; one for each user who gets it."""
MOST_USERS = 50
LONGEST = {"message": 1024, "title": 250, "url": 512, "url_title": 100}
ATTACHMENT_LIMIT = 5_242_880
EMERGENCY = 2
PRIORITIES = range(-2, EMERGENCY + 1)
LEAST_RETRY, MOST_EXPIRE = 30, 10_800
SOUNDS = {"pushover": "Pushover (default)", "bike": "Bike", "siren": "Siren", "none": "None (silent)"}


def invalid(fields: Mapping[str, str]) -> dict[str, str]:
    """Return what is wrong with a message, by parameter; empty if it would be taken."""
    wrong = {}
    number = {name: _whole(fields.get(name, "0")) for name in ("priority", "retry", "expire", "ttl", "timestamp")}
    if not KEY.fullmatch(fields.get("token", "")):
        wrong["token"] = "application token is invalid, see https://pushover.net/api"  # noqa: S105 - a sentence
    users = fields.get("user", "").split(",")
    if len(users) > MOST_USERS or not all(KEY.fullmatch(user) for user in users):
        wrong["user"] = (
            "user identifier is not a valid user, group, or subscribed user key, see https://pushover.net/api"
        )
    if not fields.get("message", "").strip():
        wrong["message"] = "message cannot be blank"
    for name, longest in LONGEST.items():
        if len(fields.get(name, "")) > longest:
            wrong[name] = f"{name} is too long, must be {longest} characters or less"
    if "html" in fields and "monospace" in fields and fields["html"] == fields["monospace"] == "1":
        wrong["html"] = "html and monospace cannot both be set"
    for name, value in number.items():
        if value is None:
            wrong[name] = f"{name} is invalid, must be a number"
    if number["priority"] not in PRIORITIES:
        wrong["priority"] = "priority is invalid, see https://pushover.net/api#priority"
    if number["priority"] == EMERGENCY and "retry" not in wrong and "expire" not in wrong:
        if (number["retry"] or 0) < LEAST_RETRY:
            wrong["retry"] = f"retry must be at least {LEAST_RETRY} seconds with emergency priority"
        if not 0 < (number["expire"] or 0) <= MOST_EXPIRE:
            wrong["expire"] = f"expire must be at most {MOST_EXPIRE} seconds with emergency priority"
    if "ttl" in fields and "ttl" not in wrong and (number["ttl"] or 0) <= 0:
        wrong["ttl"] = "ttl must be a positive number of seconds"
    if int(fields.get("attachment_bytes", 0)) > ATTACHMENT_LIMIT:
        wrong["attachment"] = f"attachment is too large, must be {ATTACHMENT_LIMIT} bytes or less"
    return wrong


def _whole(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


def parse(kind: str, body: bytes) -> dict[str, str]:
    """Return the fields of a form, a multipart form or JSON; an attachment becomes `attachment_bytes`, its size."""
    if kind.startswith("multipart/form-data"):
        return _parse_multipart(kind, body)
    is_json = kind.startswith("application/json")
    fields = {name: str(value) for name, value in json.loads(body).items()} if is_json else parse_form(body)
    if encoded := fields.pop("attachment_base64", ""):
        fields["attachment_bytes"] = str(len(encoded) * 3 // 4)
    return fields


def _parse_multipart(kind: str, body: bytes) -> dict[str, str]:
    head = f"Content-Type: {kind}\r\n\r\n".encode()
    fields = {}
    for part in email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body).iter_parts():
        name = str(part.get_param("name", header="content-disposition"))
        content = part.get_payload(decode=True)
        raw = content if isinstance(content, bytes) else b""
        if part.get_filename():
            fields[f"{name}_bytes"] = str(len(raw))
        else:
            fields[name] = raw.decode("utf-8", "replace")
    return fields
