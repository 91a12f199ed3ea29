"""Draws graphs on request in a process of their own: fonts cost memory, and a graph never delays a reading."""

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from bootstrap_lib import Registry, Request, RequestError, reason
from services.stores.fresh import Fresh
from services.stores.graph import HEIGHT, WIDTH, GraphError, Span, select

SMALL: Final = 200_000
"""Bytes of the largest picture that is sent over MQTT."""


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Payload of `request/graph`: {"topics":["boiler/water/temperature"],"from":"4h"}; width and height in pixels."""

    topics: Annotated[list[str], Meta(min_length=1, max_length=16)]
    start: str = msgspec.field(name="from", default="4h")
    end: str | None = msgspec.field(name="to", default=None)
    width: Annotated[int, Meta(ge=200, le=4000)] = WIDTH
    height: Annotated[int, Meta(ge=100, le=3000)] = HEIGHT
    inline: bool = False


class Drawing:
    """Answers requests for graphs, one at a time, with the path of the picture."""

    def __init__(self, folder: Path) -> None:
        """Pictures are written into `folder`; the next one of the same topics replaces the last."""
        self._folder = folder
        self._busy = threading.Lock()

    def begin(self, request: Request, order: Order, registry: Registry, files: Path, fresh: Fresh) -> None:
        """Begin to draw from the round-robin files below `files` and what is newer; RequestError where it is no graph."""
        names = [name.removeprefix(f"{registry.root}/data/") for name in order.topics]
        recent = fresh.of(names)
        try:
            topics = select(registry, files, order.topics, recent)
            Span.parse(order.start, order.end, time.time())
        except GraphError as error:
            raise RequestError(str(error)) from None
        if not self._busy.acquire(blocking=False):
            raise RequestError("another graph is being drawn: ask again in a second")
        more = f"+{len(topics) - 1}" if len(topics) > 1 else ""
        output = self._folder / f"{topics[0].name.replace('/', '-')}{more}.png"
        command = [sys.executable, "-m", "bootstrap_lib.cli", "--config", str(registry.path), "graph", *order.topics]
        command += ["--folder", str(files), "--from", order.start, *(["--to", order.end] if order.end else [])]
        command += ["--output", str(output), "--width", str(order.width), "--height", str(order.height)]
        command += ["--recent", "-"]
        arguments = (request, command, msgspec.json.encode(recent), output, order.inline)
        threading.Thread(target=self._draw, args=arguments, daemon=True).start()

    def _draw(self, request: Request, command: list[str], recent: bytes, output: Path, inline: bool) -> None:
        try:
            output.parent.mkdir(exist_ok=True)
            subprocess.run(command, input=recent, capture_output=True, check=True, timeout=30)
            picture = output.read_bytes()
            small = {"base64": picture} if inline and len(picture) <= SMALL else {}
            request.reply({"path": str(output), "bytes": len(picture)} | small)
        except subprocess.CalledProcessError as error:
            request.refuse(error.stderr.decode(errors="replace").strip())
        except (OSError, subprocess.TimeoutExpired) as error:
            request.refuse(f"the graph cannot be drawn: {reason(error)}")
        finally:
            self._busy.release()
