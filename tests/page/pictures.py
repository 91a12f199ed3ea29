"""Makes the pictures of the docs from a demo that runs: `python tests/page/pictures.py http://127.0.0.1:8080`."""

import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

FOLDER = Path(__file__).resolve().parents[2] / "docs/pictures"
PICTURES = [
    ("house-1920", "", 1920, 1080, "light"),
    ("house-768", "", 768, 1024, "dark"),
    ("house-360", "", 360, 740, "light"),
    ("history-1920", "view=history&span=1200s", 1920, 1080, "light"),
    ("history-360", "view=history&span=1200s", 360, 740, "dark"),
    ("alerts-768", "view=alerts&if=boiler/water/temperature > 68 for 5s", 768, 1024, "light"),
    ("proof-1920", "view=proof", 1920, 1080, "dark"),
    ("kiosk-1920", "kiosk", 1920, 1080, "dark"),
]


def main(address: str) -> None:
    FOLDER.mkdir(exist_ok=True)
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"])
        for name, query, width, height, scheme in PICTURES:
            context = browser.new_context(
                viewport={"width": width, "height": height}, color_scheme=scheme, locale="en-GB"
            )
            page = context.new_page()
            page.goto(f"{address}/?{query}")
            page.wait_for_selector("#main > *")
            page.wait_for_timeout(6000)
            page.screenshot(path=FOLDER / f"{name}.png")
            print(name, page.evaluate("[document.documentElement.scrollWidth, innerWidth]"))
            context.close()
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/"))
