"""What the page costs: a year's first paint and a span's change, at full speed and throttled; bytes; memory; fifty viewers.

    PYTHONPATH=tests:tests/page python -m tests.bench.page

An archive of a year of minutes of one topic with their hours, a real broker, the real service, Debian's Chromium. The service's
processor time is that of all its threads; the browser's is that of the page's own thread, which a busy machine changes little.
"""

import gzip
import shutil
import socket
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import Broker, House, free_port
from playwright.sync_api import sync_playwright
from served import TOPICS, WATER, Page, compute_hours, fill_archive
from voices import Voice, now

from services.page.serving import FILES
from tests.bench.processes import cpu, memory

YEAR = 365 * 86_400_000


def paint(tab: Any, script: str) -> float:
    """Milliseconds until the chart was drawn anew after a script."""
    return float(
        tab.evaluate(
            f"""async () => {{ const was = document.querySelector('#plot')?.dataset.drawn, began = performance.now(); {script};
            while (document.querySelector('#plot')?.dataset.drawn === was) await new Promise(requestAnimationFrame); return performance.now() - began; }}"""
        )
    )


def busy_for(tools: Any) -> float:
    """Milliseconds for which the page's thread has worked."""
    return 1000 * next(
        float(one["value"]) for one in tools.send("Performance.getMetrics")["metrics"] if one["name"] == "TaskDuration"
    )


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="bench-page-"))
    broker = Broker(folder / "broker").start()
    house, voice = House(folder / "house", broker.port), Voice(broker.port)
    port, end = free_port(), now() // 60_000 * 60_000
    house.write(TOPICS.format(port=port, web=""))
    fill_archive(
        house.state("archive") / "archive.sqlite",
        end - YEAR,
        end,
        end - YEAR // 2,
        (end - YEAR // 3, end - YEAR // 3 + 3_600_000),
    )
    compute_hours(house.state("archive") / "archive.sqlite", end)
    house.start("web")
    page, process = Page(house, port, voice), house.processes["web"]
    try:
        small = [
            len(gzip.compress(path.read_bytes(), 9))
            for path in FILES.rglob("*")
            if path.suffix in (".html", ".css", ".js", ".svg")
        ]
        print(f"page, all views, gzip: {sum(small) / 1000:.1f} KB in {len(small)} files, and a catalog")
        time.sleep(3)
        print(f"private memory idle: {memory(process.pid)[0]:.1f} MB")
        with sync_playwright() as player:
            browser = player.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
            )
            for throttle in (1, 6):
                tab = browser.new_page(viewport={"width": 1400, "height": 900})
                tools = tab.context.new_cdp_session(tab)
                tools.send("Emulation.setCPUThrottlingRate", {"rate": throttle})
                tools.send("Performance.enable", {"timeDomain": "threadTicks"})
                first, work = [], []
                for _ in range(5):
                    tab.goto("about:blank")
                    before = busy_for(tools)
                    tab.goto(f"{page.url}?view=history&topics={WATER}&span=1y")
                    while not (mark := tab.evaluate("performance.getEntriesByName('drawn')[0]?.startTime")):
                        tab.wait_for_timeout(10)
                    first.append(mark)
                    work.append(busy_for(tools) - before)
                change = [
                    paint(tab, f"document.querySelector('[data-span=\"{span}\"]').click()")
                    for span in ("30d", "7d", "24h", "1y") * 2
                ]
                print(
                    f"throttled {throttle} times: first paint of a year {statistics.median(first):.0f} ms"
                    f" ({statistics.median(work):.0f} ms of the page's thread), change of span {statistics.median(change):.0f} ms"
                )
                tab.close()
            browser.close()
        viewers = []
        for _ in range(50):
            link = socket.create_connection(("127.0.0.1", port))
            link.sendall(b"GET /api/1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
            link.setblocking(False)
            viewers.append(link)
        began, used, value = time.monotonic(), cpu(process.pid), 0
        while time.monotonic() - began < 20:
            for _ in range(6):
                value += 1
                voice.say(WATER, value % 80, now())
            time.sleep(0.1)
            for link in viewers:
                try:
                    while link.recv(65_536):
                        pass
                except BlockingIOError:
                    pass
        took = time.monotonic() - began
        print(
            f"50 viewers at {value / took:.0f} readings a second: {100 * (cpu(process.pid) - used) / took:.1f} % of a core, {memory(process.pid)[0]:.1f} MB"
        )
    finally:
        voice.close()
        house.close()
        broker.stop()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
