"""The page in a real browser: what is dead never looks alive, what was lost is never drawn over, and everybody can use it."""

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from harness import Broker, Ear, House, busy, wait_for
from served import BOX, CELLS, FLUE, METER, PASSWORD, PHASE, PUMP, SOC, WATER, Page, fill_archive, wait_on
from voices import now

pytestmark = pytest.mark.long

DAY = 86_400_000
SIZES = [(360, 740), (768, 1024), (1920, 1080)]
VIEWS = [
    "view=now",
    "view=history",
    "view=alerts",
    "view=meters",
    "view=proof",
    "view=services",
    "kiosk",
    "view=key",
    "view=login",
]


LIVING = [view for view in VIEWS if view not in ("view=key", "view=login")]
"""Views of what lives."""


@pytest.fixture
def archived(house: House) -> int:
    """An archive of thirty days, which ends two minutes ago; returns its last minute."""
    end = (now() - 120_000) // 60_000 * 60_000
    fill_archive(
        house.state("archive") / "archive.sqlite",
        end - 30 * DAY,
        end,
        end - 20 * DAY,
        (end - 7_200_000, end - 3_600_000),
    )
    return end


def speak(page: Page, water: float = 74.2) -> None:
    """Everything that the house measures, once."""
    page.say(WATER, water)
    page.say(FLUE, 105.6)
    page.say(BOX, 31.2)
    page.say(PUMP, True, "")
    page.say(PHASE, "combustion", "")
    page.say(SOC, 19.4, "%")
    page.say(METER, 533.2, "kWh")
    page.say("street/stand/bikes_count", 7, "")
    for number, cell in enumerate(CELLS):
        page.say(cell, 3.205 - (0.06 if number == 2 else 0), "V")


ROW = f"""(() => {{ const r = document.querySelector('.r[data-k="{WATER}"]'); return r && {{state: r.dataset.s, figure: r.querySelector('.v').innerText.replace(/\\s/g, ''), age: r.querySelector('.a').innerText, said: r.querySelector('.mk').innerText}}; }})()"""


def row(tab: Any) -> dict[str, str]:
    return tab.evaluate(ROW)


def until(tab: Any, state: str, timeout: float = 20.0) -> dict[str, str]:
    """The row of the water, once it looks like this."""
    found: dict[str, str] = wait_on(tab, f"""(row => row?.state === "{state}" && row)({ROW})""", timeout)
    return found


def show(tab: Any, query: str) -> None:
    """Go to another view, as a link on the page does: the page is loaded once, however many views are looked at."""
    tab.evaluate(
        "q => { history.replaceState(null, '', `?${q}`); dispatchEvent(new PopStateEvent('popstate')); }", query
    )
    name = "kiosk" if query == "kiosk" else query.partition("view=")[2].partition("&")[0]
    wait_on(tab, f"document.querySelector('main').dataset.view === '{name}' && !!document.querySelector('#main > *')")


def test_each_state_has_its_mark_its_word_and_its_number_or_none(page: Page, look: Any, ear: Ear) -> None:
    tab = look("view=now")
    assert until(tab, "never")["age"] == "never seen"
    page.say(WATER, 74.25)
    found = until(tab, "live")
    assert (found["figure"], found["age"]) == ("74.3", "<2 s")
    found = until(tab, "late")
    assert (found["figure"], found["age"][:4]) == ("74.3", "late")
    began = time.monotonic()
    found = until(tab, "silent")
    assert time.monotonic() - began < busy(5)
    assert (found["figure"], found["age"][:5]) == ("—", "since")
    assert not re.search(r"74", found["figure"])
    tab.wait_for_timeout(1200)
    assert row(tab)["state"] == "silent", "it is not shown again before a new reading"
    page.say(WATER, 75.0)
    assert until(tab, "live")["figure"] == "75.0"
    page.voice.raw(WATER, b"")
    assert until(tab, "silent")["figure"] == "—"
    health = {"state": "paused", "since": "2026-01-01T10:00:00.000Z", "beat": 30, "clock": "trusted"}
    ear.say("home/service/onewire/status", "online", retain=True)
    ear.say("home/service/onewire/health", json.dumps(health), retain=True)
    assert until(tab, "paused")["age"].startswith("paused")
    ear.say("home/service/onewire/health", json.dumps(health | {"state": "running", "clock": "estimated"}), retain=True)
    page.say(WATER, 76.0)
    assert until(tab, "guess")["age"] == "≈2 s"


def test_a_reading_reaches_its_pixel_within_half_a_second(page: Page, look: Any) -> None:
    tab = look("view=now")
    taken = []
    for number in range(9):
        value = f"{40 + number}.5"
        page.say(WATER, float(value))
        began = time.monotonic()
        wait_on(tab, f"""({ROW})?.figure === "{value}" """)
        taken.append(time.monotonic() - began)
    assert sorted(taken)[len(taken) // 2] < 0.5, taken


ALIVE = """(() => { const out = [], M = document.querySelector('main');
  for (const k of ['live', 'guess', 'late', 'yes', 'loud']) if (M.querySelectorAll(`use[href="#m-${k}"]`).length) out.push(k);
  if (M.querySelector('.fire.loud')) out.push('loud band');
  out.push(...[...M.querySelectorAll('button[data-act]:not(:disabled)')].map(b => 'can press ' + b.textContent));
  out.push(...[...M.querySelectorAll('.v .i, .meters b, .cell b, .only .i')].filter(e => +getComputedStyle(e).fontWeight >= 600 && /\\d/.test(e.textContent)).map(e => 'bold ' + e.textContent));
  if (M.querySelector('.r .spark circle')) out.push('a dot at a curve\u2019s end');
  return out; })()"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "views"),
    [
        ("broker", ["view=now", "view=alerts", "kiosk"]),
        *(pytest.param(way, LIVING, marks=pytest.mark.whole) for way in ("broker", "stream", "then")),
    ],
    ids=["broker", "broker, whole", "stream, whole", "then, whole"],
)
def test_nothing_that_is_dead_looks_alive(  # noqa: PLR0917
    page: Page, broker: Broker, look: Any, archived: int, way: str, views: list[str]
) -> None:
    """Views that are open when it dies, and all others when they are opened afterwards."""
    page.house.start("alerts")
    page.log_in()
    wait_for(lambda: page.get("house")["services"]["alerts"].get("status") == "online", what="alerts")
    speak(page, 90.0)
    wait_for(lambda: page.get("house")["alerts"].get("hot", {}).get("state") == "firing", what="the alert")
    tabs = {}
    for view in views:
        tab = tabs[view] = look(view, width=1000, height=700)
        tab.context.add_cookies([{"name": "constellation", "value": page.cookie.partition("=")[2], "url": page.url}])
        if view == "view=now":
            speak(page, 90.0)
            wait_on(tab, ALIVE)  # it can be seen at all
    if way == "broker":
        broker.kill()
    elif way == "stream":
        page.house.kill("web")
    began = time.monotonic()
    for view, tab in tabs.items():
        if way == "then":
            tab.evaluate(
                f"history.replaceState(null, '', '?{view}&at=' + new Date({archived} - 864e5).toISOString().slice(0, 19)); dispatchEvent(new PopStateEvent('popstate'))"
            )
            wait_on(tab, "document.body.classList.contains('then')")
            tab.wait_for_timeout(600)
        else:
            wait_on(tab, "document.body.classList.contains('nobroker')", 12)
            assert time.monotonic() - began < busy(7), "five seconds, and two for seven tabs"
        assert tab.evaluate(ALIVE) == [], (view, way)
    for view in [one for one in LIVING if one not in views]:
        show(tabs["view=alerts"], view)
        assert tabs["view=alerts"].evaluate(ALIVE) == [], (view, way, "opened afterwards")
    if way == "stream":
        tab = tabs["view=now"]
        assert "no line to the house" in tab.inner_text("#bands")
        page.house.start("web")
        wait_on(tab, "!document.body.classList.contains('nobroker')", 30)
        page.say(WATER, 61.0)
        wait_on(tab, f"""({ROW})?.figure === "61.0" """)
    if way == "broker":
        tab = tabs["view=now"]
        assert "No word from the broker" in tab.inner_text("#bands")
        broker.start()
        wait_on(tab, "!document.body.classList.contains('nobroker')", 40)
        assert row(tab)["state"] in ("silent", "ask"), "the broker forgot it, and nobody has said it again"
        wait_for(lambda: page.say(WATER, 61.0) or row(tab)["figure"] == "61.0", 30, what="the next reading")


def test_nothing_that_is_said_becomes_a_part_of_the_page(page: Page, look: Any) -> None:
    tab = look("view=now")
    speak(page)
    wait_on(tab, """document.querySelector('main').innerText.includes('<script>window.broken=1</script>"&')""")
    for view in ("view=history", "view=alerts", "view=proof", "kiosk"):
        tab.goto(
            f"{page.url}?{view}&topics={BOX}&if=%3Cimg%20src%3Dx%20onerror%3D%22window.broken%3D1%22%3E&span=%3Cb%3E&at="
        )
        tab.wait_for_selector("#main > *")
    assert tab.evaluate("window.broken") is None
    assert tab.evaluate("document.querySelectorAll('main script, main img, main b b').length") == 0


def test_a_browser_s_clock_that_is_an_hour_wrong_changes_nothing(page: Page, look: Any) -> None:
    tab = look("view=now")
    tab.evaluate("0")
    tab.add_init_script("const real = Date.now; Date.now = () => real() - 36e5;")
    tab.reload()
    speak(page)
    wait_on(tab, f"""({ROW})?.state === "live" """)
    shown = tab.inner_text("#clock")
    seconds = sum(int(part) * factor for part, factor in zip(shown.split(":"), (3600, 60, 1), strict=True))
    here = now() // 1000 % 86400
    assert min((seconds - here) % 3600, (here - seconds) % 3600) < 10, shown


# -- history ----------------------------------------------------------------------------------------------------------


def pixels(tab: Any, color: str, tolerance: int = 24, least: int = 1, rows: float = 1.0) -> dict[str, int]:
    """How many pixels of the first chart have a token's colour, within which columns (those that have `least` of them) and rows."""
    script = """([token, tolerance, least, rows]) => { const c = document.querySelector('#plot canvas'), x = c.getContext('2d'), d = x.getImageData(0, 0, c.width, Math.round(c.height * rows)).data;
      const probe = document.body.appendChild(document.createElement('i')); probe.className = 'probe'; probe.style.color = `var(${token})`; const v = getComputedStyle(probe).color.match(/[\\d.]+/g).map(Number); probe.remove();
      const columns = new Map(); let n = 0, y0 = 1e9, y1 = -1; for (let i = 0; i < d.length; i += 4) if (d[i + 3] > 200 && Math.abs(d[i] - v[0]) + Math.abs(d[i + 1] - v[1]) + Math.abs(d[i + 2] - v[2]) < tolerance) { n++; const px = i / 4 % c.width, py = Math.floor(i / 4 / c.width); columns.set(px, (columns.get(px) ?? 0) + 1); y0 = Math.min(y0, py); y1 = Math.max(y1, py); }
      const full = [...columns].filter(c => c[1] >= least).map(c => c[0]); const x0 = Math.min(...full), x1 = Math.max(...full); return {n, columns: full.length, x0, x1, y0, y1, width: c.width, height: c.height}; }"""
    return tab.evaluate(script, [color, tolerance, least, rows])


def drawn(tab: Any) -> None:
    wait_on(
        tab, "+(document.querySelector('#plot')?.dataset.drawn ?? 0) > 0 && !!document.querySelector('#plot canvas')"
    )
    tab.wait_for_timeout(150)


@pytest.mark.slow
def test_a_spike_of_one_reading_a_hole_and_a_fire_are_in_the_picture_and_soon(
    page: Page, look: Any, archived: int
) -> None:
    tab = look(f"view=history&topics={WATER}&span=30d", width=1400)
    drawn(tab)
    assert "121.9" in str(
        page.get(f"history?topics={WATER}&from={archived - 29 * DAY}&buckets=500")["series"][0]["high"]
    )
    ink = pixels(tab, "--s1")
    assert ink["n"] > 500
    top = tab.evaluate("document.querySelector('#plot canvas').height")
    assert ink["y0"] < top * 0.2, "the ring of the spike stands far above the line"
    tab.goto(f"{page.url}?view=history&topics={WATER}&span=4h")
    drawn(tab)
    hatch = pixels(tab, "--void", 60, 3, 0.12)  # above the line, where nothing else is
    assert hatch["n"] > 200
    share = hatch["columns"] / hatch["width"]
    assert 0.12 < share < 0.3, f"the hole of an hour in four, not {share:.2f}"
    line = tab.evaluate(
        """([a, z]) => { const c = document.querySelector('#plot canvas'), d = c.getContext('2d').getImageData(a, 0, z - a, c.height).data, v = getComputedStyle(document.body).getPropertyValue('--s1'); let n = 0; for (let i = 0; i < d.length; i += 4) if (d[i] < 40 && d[i + 1] < 40 && d[i + 2] < 45 && d[i + 3] > 200) n++; return n; }""",
        [hatch["x0"] + hatch["width"] // 40, hatch["x0"] + int(hatch["columns"] * 0.8)],
    )
    words = 400  # “nothing stored 12:00 to 13:00”, on paper
    assert line < words, "no line crosses the hole"
    tab.goto(f"{page.url}?view=history&topics={WATER}&span=24h")
    drawn(tab)
    fire = pixels(tab, "--fire-2")
    assert fire["n"] > 300, "the ribbon of the fires at the foot"
    took = tab.evaluate(
        """async () => { const n = document.querySelector('#plot'), was = n.dataset.drawn, began = performance.now(); document.querySelector('[data-span="30d"]').click(); while (n.dataset.drawn === was || !location.search.includes('30d')) await new Promise(requestAnimationFrame); return performance.now() - began; }"""
    )
    assert took < busy(3000), "a month is drawn soon; what a machine at rest takes is measured by tests/bench/page.py"


def test_an_alert_is_a_flag_in_the_picture(page: Page, look: Any, archived: int, ear: Ear) -> None:
    tab = look(f"view=history&topics={WATER}&span=24h")
    drawn(tab)
    before = pixels(tab, "--alarm")["n"]
    since = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(archived / 1000 - 36_000))
    ear.say(
        "home/alert/hot",
        json.dumps({"state": "firing", "since": since, "text": "Boiler at 90 °C", "rule": "hot"}),
        retain=True,
    )
    wait_for(lambda: page.get(f"alerts?from={archived - DAY}")["fired"], what="the alert in the diary")
    tab.reload()
    drawn(tab)
    assert pixels(tab, "--alarm")["n"] > before + 30
    assert "Boiler at 90 °C" in tab.inner_text("#sum")


def test_the_address_holds_the_view_and_wheel_keys_and_buttons_change_it(page: Page, look: Any, archived: int) -> None:
    tab = look(f"view=history&topics={WATER},{FLUE}&span=24h")
    drawn(tab)
    tab.click('[data-span="7d"]')
    wait_on(tab, "location.search.includes('span=7d')")
    tab.click('[data-move="-1"]')
    wait_on(tab, "location.search.includes('to=')")
    address, shown = tab.evaluate("location.search"), tab.inner_text("#span")
    other = look(address.lstrip("?"))
    drawn(other)
    assert other.inner_text("#span") == shown
    tab.hover("#plot")
    tab.mouse.wheel(0, -300)
    wait_on(tab, "/span=\\d+s/.test(location.search)")
    tab.focus("#plot")
    wait_on(tab, "document.querySelector('.read tbody tr').cells[1].textContent.length > 1")
    before = tab.inner_text("#cur")
    for _ in range(5):
        tab.keyboard.press("PageUp")
    assert tab.inner_text("#cur") != before
    tab.click("details:has(#rows) summary")
    assert tab.evaluate("document.querySelectorAll('#rows tbody tr').length") > 20
    held: list[Any] = []
    question = re.compile(r"/api/1/history\?")
    tab.route(question, lambda route: held.append(route))  # noqa: PLW0108 (Playwright takes no built-in)
    show(tab, f"view=history&topics={METER}&span=24h")
    wait_for(lambda: tab.wait_for_timeout(20) or held, what="the question for the other topic")
    figures = "[...document.querySelector('.read tbody tr').cells].slice(1).map(n => n.textContent).join('')"
    assert tab.evaluate(figures) == "", "what the water had is not the meter's"
    assert tab.evaluate("document.querySelectorAll('#plot canvas, #rows tr').length") == 0
    tab.evaluate("document.querySelector('#csv').href = '?of-before'")
    for route in held:
        route.continue_()
    wait_on(tab, f"({figures}) !== '' && !!document.querySelector('#plot canvas')")
    assert f"history?topics={METER}&from=" in tab.evaluate("document.querySelector('#csv').href"), "of what is drawn"


# -- for everyone -----------------------------------------------------------------------------------------------------


def axe() -> str:
    where = pytest.importorskip(
        "axe_playwright_python", reason="pip install axe-playwright-python: it brings axe.min.js"
    )
    return (Path(where.__file__).parent / "axe.min.js").read_text()


RULES = "['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scheme", "sizes"),
    [("light", SIZES[:1]), *(pytest.param(one, SIZES, marks=pytest.mark.whole) for one in ("light", "dark"))],
    ids=["light", "light, whole", "dark, whole"],
)
def test_axe_finds_nothing_and_nothing_overflows(
    page: Page, look: Any, archived: int, scheme: str, sizes: list[tuple[int, int]]
) -> None:
    speak(page)
    found = []
    tab = look("view=now", scheme=scheme, bypass_csp=True)
    tab.evaluate(axe())
    for width, height in sizes:
        tab.set_viewport_size({"width": width, "height": height})
        for view in [*VIEWS, "view=now&at=2026-11-20T12:00", "view=alerts&at=2026-11-20T12:00"]:
            speak(page)
            show(tab, view)
            if view == "view=history":
                drawn(tab)
            tab.wait_for_timeout(250)
            result = tab.evaluate(
                f"axe.run(document, {{runOnly: {RULES}}}).then(r => r.violations.map(v => [v.id, v.nodes.length, v.nodes[0].target.join(' '), (v.nodes[0].any[0] || v.nodes[0].all[0] || v.nodes[0].none[0] || {{}}).message]))"
            )
            found += [(scheme, width, view, *one) for one in result]
            wide = tab.evaluate("[document.documentElement.scrollWidth, innerWidth]")
            if wide[0] > wide[1]:
                found.append((scheme, width, view, "overflows", *wide))
    assert not found, "\n".join(map(str, found))


def test_everything_is_reached_by_the_keyboard(page: Page, look: Any) -> None:
    page.house.start("alerts")
    tab = look("view=now")
    speak(page)
    wait_on(tab, f"""({ROW})?.state === "live" """)
    reached = []
    for _ in range(14):
        tab.keyboard.press("Tab")
        reached.append(
            tab.evaluate(
                "[(document.activeElement.innerText || document.activeElement.id).trim().slice(0, 20), getComputedStyle(document.activeElement).outlineStyle]"
            )
        )
    assert [name for name, _ in reached if name in ("History", "Alerts", "Services")] == [
        "History",
        "Alerts",
        "Services",
    ]
    assert all(style != "none" for name, style in reached if name)
    tab.evaluate("document.activeElement.blur()")
    for key, title in (("2", "History"), ("3", "Alerts"), ("6", "Services"), ("1", "House"), ("?", "Constellation")):
        tab.keyboard.press(key)
        wait_on(tab, f"document.title.startsWith('{title}')")
    tab.keyboard.press("t")
    wait_on(tab, "document.body.classList.contains('then')")
    tab.keyboard.press("t")
    wait_on(tab, "!document.body.classList.contains('then')")


def test_a_person_logs_in_and_acknowledges_on_the_page(page: Page, look: Any, ear: Ear) -> None:
    page.house.start("alerts")
    tab = look("view=now")
    page.say(WATER, 91.0)
    tab.wait_for_selector(".fire.loud")
    assert "Boiler at 91 °C <b>" in tab.inner_text(".fire.loud"), "what a rule says is shown as it is"
    tab.click(".fire.loud button")
    tab.fill("#name", "ada")
    tab.fill("#password", "wrong")
    tab.click("#login button")
    wait_on(tab, "document.querySelector('#wrong').textContent.includes('wrong')")
    tab.fill("#password", PASSWORD)
    tab.keyboard.press("Enter")
    wait_on(tab, "document.querySelector('main').innerText.includes('logged in as ada')")
    tab.keyboard.press("1")
    tab.click(".fire.loud button")
    ear.wait("home/alert/hot", lambda one: one["acknowledged"])
    wait_on(tab, "!document.querySelector('.fire.loud') && !!document.querySelector('.fire')")


def test_the_page_speaks_its_reader_s_language(page: Page, look: Any) -> None:
    speak(page)
    for language in ("fr", "de"):
        words = json.loads((Path(__file__).parents[2] / f"services/page/static/words/{language}.json").read_text())
        tab = look("view=now", locale=language)
        assert tab.evaluate("document.documentElement.lang") == language
        assert words["History"] in tab.inner_text("nav")
        wait_on(tab, f"document.querySelector('main').innerText.includes('{words['Nothing fires.']}')")


def test_a_kiosk_needs_nobody_and_does_not_grow(page: Page, look: Any, broker: Broker) -> None:
    tab = look("kiosk", width=1920, height=1080)
    session = tab.context.new_cdp_session(tab)

    def weigh() -> tuple[int, int]:
        session.send("HeapProfiler.collectGarbage")
        found = session.send("Runtime.getHeapUsage")["usedSize"]
        return int(found), int(tab.evaluate("document.querySelectorAll('*').length"))

    def live(rounds: int) -> None:
        for number in range(rounds):
            page.say(WATER, 60 + number % 20)
            page.say(SOC, number % 100, "%")
        wait_on(tab, "true")
        tab.wait_for_timeout(300)

    live(400)
    first, nodes = weigh()
    for _ in range(3):
        live(1500)
    last, nodes_after = weigh()
    assert last - first < 2_000_000, f"{(last - first) / 1e6:.1f} MB more after 4500 readings"
    assert abs(nodes_after - nodes) < 200
    assert tab.evaluate("document.documentElement.scrollHeight <= innerHeight")


def test_the_shell_opens_without_a_network_and_says_so(page: Page, look: Any) -> None:
    tab = look("view=now", service_workers="allow")
    wait_on(tab, "caches.match('page.js').then(Boolean)", 60)
    page.house.kill("web")
    tab.reload()
    wait_on(tab, "document.body.innerText.includes('Asking the house')")
    assert tab.evaluate("document.querySelectorAll('.r[data-s=live]').length") == 0


def test_rows_do_not_move_while_readings_come(page: Page, look: Any) -> None:
    tab = look("view=now")
    speak(page)
    wait_on(tab, f"""({ROW})?.state === "live" """)
    tab.wait_for_timeout(1500)
    tab.evaluate(
        "window.moved = 0; new PerformanceObserver(l => { for (const e of l.getEntries()) if (!e.hadRecentInput) window.moved += e.value; }).observe({type: 'layout-shift', buffered: false})"
    )
    node = tab.evaluate_handle(f"document.querySelector('.r[data-k=\"{FLUE}\"]')")
    for number in range(20):
        page.say(WATER, 60 + number)
        tab.wait_for_timeout(100)
    assert tab.evaluate("window.moved") < 0.001, "a row that moves by its height gives a hundredth"
    assert tab.evaluate(f"n => n === document.querySelector('.r[data-k=\"{FLUE}\"]')", node), (
        "the view is not drawn anew"
    )
