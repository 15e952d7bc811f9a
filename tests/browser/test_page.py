"""The viewer's page in a real browser: what a visitor does, and that nothing else happens."""

from __future__ import annotations

import re
from typing import Any, Final

import pytest
from playwright.sync_api import FloatRect, Page

from tests.browser.browsing import Browser, Theme, until

MOMENT: Final = "document.getElementById('slider').getAttribute('aria-valuenow')"
CLOCK: Final = "parseFloat(document.querySelector('.clock').textContent)"
OVERLAPS: Final = """() => {
  const names = '.bar, .map, .inspector, .sentence, .logline, .slider';
  const parts = [...document.querySelectorAll(names)];
  const boxes = parts.map((each) => [each.className, each.getBoundingClientRect()]);
  const scrolls = getComputedStyle(document.body).overflowY === 'auto';
  const bottom = scrolls ? document.documentElement.scrollHeight : innerHeight;
  const found = [];
  for (const [name, a] of boxes) {
    if (a.left < 0 || a.top < 0 || a.right > innerWidth || a.bottom > bottom) found.push(name);
    for (const [other, b] of boxes) {
      const beside = a.left >= b.right || b.left >= a.right;
      if (name < other && !beside && a.top < b.bottom && b.top < a.bottom) {
        found.push(`${name} over ${other}`);
      }
    }
  }
  const whole = '.bar, .segment, .writer, .writer .state, .tabs, .panel';
  for (const each of document.querySelectorAll(whole)) {
    if (each.scrollWidth > each.clientWidth + 1) found.push(`cut off: ${each.className}`);
  }
  for (const each of document.querySelectorAll('.scl b')) {
    const right = each.closest('.segment').getBoundingClientRect().right;
    if (each.getBoundingClientRect().right > right - 2) found.push(`cut off: ${each.textContent}`);
  }
  const rows = '.scl, .littlelog, .segment .facts > *, .recent li';
  for (const each of document.querySelectorAll(rows)) {
    const [a, card] = [each.getBoundingClientRect(), each.closest('.segment')];
    const b = card.getBoundingClientRect();
    const seen = a.width && a.left + a.width / 2 < b.right;
    if (seen && a.bottom > b.bottom) found.push(`cut off: ${each.textContent}`);
    const bar = card.querySelector('.littlelog').getBoundingClientRect();
    if (each.matches('.scl') && a.bottom > bar.top) found.push('the bar over the SCL');
  }
  return found;
}"""
WITHOUT_CELLS: Final = """() => [...document.querySelectorAll('.segment')].filter((card) => {
  const cell = card.querySelector('.recent li')?.getBoundingClientRect();
  const { bottom, right } = card.getBoundingClientRect();
  return !cell || cell.bottom > bottom || cell.right > right + 1;
}).map((card) => card.textContent)"""
WAITING: Final = """[...document.querySelectorAll('.map')].map(
  (map) => +map.querySelector('.writer .value[data-word=waiting]').lastChild.textContent)"""
CUT_WORDS: Final = """(() => {
  window.cutWords = [];
  const write = CanvasRenderingContext2D.prototype.fillText;
  CanvasRenderingContext2D.prototype.fillText = function (words, x, y) {
    const wide = this.measureText(words).width;
    const right = x + { left: wide, center: wide / 2, right: 0 }[this.textAlign];
    const width = this.canvas.clientWidth;
    if (width && right > width && words.length > 1) window.cutWords.push(words);
    write.call(this, words, x, y);
  };
})()"""
LOG_LINE: Final = "document.querySelector('.logline canvas').toDataURL()"
FITS: Final = """(({ width, clientWidth }) => width === clientWidth)(
  document.querySelector('.logline canvas'))"""
DOTS: Final = "document.querySelector('.dots').toDataURL()"
PLAYS: Final = "document.querySelector('#play[aria-label=Pause]') !== null"
LOST: Final = """import('view/store.js').then(({ app }) => {
  const { film } = app.runs.get('main');
  const kind = (node) => film.nodes[node].kind;
  const { sent_ns, to } = film.messages.find(
    (each) => each.lost && kind(each.from) === 'writer' && kind(each.to) === 'segment');
  return [film.nodes[to].id, sent_ns, film.tripNs];
})"""
FAULT: Final = """import('view/store.js').then(({ app }) => {
  const { title, from_ns } = app.runs.get('main').film.episodes[0];
  return [title, from_ns];
})"""
FAINT: Final = """() => {
  const paper = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const light = (color) => {
    paper.fillStyle = color;
    paper.fillRect(0, 0, 1, 1);
    const parts = [...paper.getImageData(0, 0, 1, 1).data.slice(0, 3)].map((each) => {
      const part = each / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const behind = (each) => {
    for (let at = each; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if (!/, 0\\)|transparent/.test(color)) return color;
    }
    return 'white';
  };
  const found = new Set();
  for (const each of document.querySelectorAll('.bar *, .map *, .inspector *, .sentence *')) {
    const own = [...each.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || each.closest('svg, :disabled, .future')) continue;
    const [a, b] = [light(getComputedStyle(each).color), light(behind(each))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) found.add(`${each.className || each.tagName} ${contrast.toFixed(1)}`);
  }
  return [...found];
}"""


def cursor(page: Page) -> int:
    """How many events have happened at the page's moment."""
    return int(page.evaluate(MOMENT))


def find(page: Page, words: str) -> None:
    """Name a thing in the field for it."""
    page.keyboard.press("/")
    page.fill("#find", words)
    page.keyboard.press("Enter")


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def tip_in(page: Page, box: FloatRect, down: float, words: str) -> tuple[float, float]:
    """The first place from left to right, so far down the window, where a tip has these words."""
    for across in range(3, int(box["width"]), 5):
        page.mouse.move(box["x"] + across, down)
        if any(words in each for each in page.locator("#tip:not([hidden])").all_inner_texts()):
            return box["x"] + across, down
    raise AssertionError(f"no tip says {words!r}")


def shown_scls(page: Page) -> list[int]:
    """The SCLs on the map, in the order of the film's nodes."""
    texts = page.eval_on_selector_all(
        ".segment",
        """cards => cards.sort((a, b) => a.dataset.node - b.dataset.node)
           .map(card => card.querySelector('.scl b').textContent)""",
    )
    return [int(text.replace(",", "")) for text in texts]


def scls_of(film: dict[str, Any], state: list[Any]) -> list[int]:
    """The SCLs in a keyframe's state, likewise."""
    slots = {
        slot["node"]: number
        for number, slot in enumerate(film["slots"])
        if slot["field"] == "scl" and film["nodes"][slot["node"]]["kind"] == "segment"
    }
    return [state[slots[node]] or 0 for node in sorted(slots)]


def test_each_moment_is_the_films(browser: Browser, served: str) -> None:
    def steps(page: Page) -> None:
        film = page.evaluate(
            "fetch('./film?run=main').then(answer => answer.json()).then("
            "({keyframes, slots, nodes, landmarks}) => ({keyframes, slots, nodes, landmarks}))"
        )
        for keyframe in film["keyframes"][-1:0:-3]:
            find(page, f"event {keyframe['event']}")
            until(page, f"{MOMENT} === '{keyframe['event']}'")
            expected = scls_of(film, keyframe["state"])
            assert shown_scls(page) == expected
            assert page.evaluate(OVERLAPS) == []  # with LSNs of six digits, too
            press(page, "ArrowLeft", "ArrowLeft", "ArrowRight", "ArrowRight")  # by assignments
            until(page, f"{MOMENT} === '{keyframe['event']}'")
            assert shown_scls(page) == expected
        opened = [each["event"] for each in film["landmarks"] if each["kind"] == "opened"]
        find(page, f"event {opened[-1] + 1}")  # LSNs are annulled, and none is given yet
        until(page, f"{MOMENT} === '{opened[-1] + 1}'")
        widths = page.eval_on_selector_all(
            ".littlelog .have", "bars => bars.map(b => +b.getAttribute('width'))"
        )
        assert max(widths) == 100
        find(page, "1.7")
        press(page, "Escape")
        until(page, f"{CLOCK} === 1.7 && document.querySelector('.lifehead') === null")
        page.evaluate(CUT_WORDS)
        drawn = page.evaluate(LOG_LINE)
        for width in (1100, 1188, 1280):  # at the second one a label would be cut
            page.set_viewport_size({"width": width, "height": 720})
            until(page, FITS)
        assert page.evaluate("window.cutWords") == []
        assert page.evaluate(LOG_LINE) == drawn  # the same moment, the same picture

    assert browser.visit(served, steps) == []


def test_slider_steps_jumps_and_playing(browser: Browser, served: str) -> None:
    def steps(page: Page) -> None:
        press(page, " ")  # so slowly that messages are seen, and without the time between calls
        until(page, f"+{CLOCK} > 0.0225")
        press(page, " ")
        assert page.inner_text(".speed .number").endswith("µs/s")
        press(page, "Home", "ArrowRight", "ArrowRight")
        until(page, f"{MOMENT} === '2'")
        press(page, "f")
        until(page, "document.getElementById('sentence').textContent.includes('crash A0')")
        at_fault = cursor(page)
        press(page, "Shift+ArrowRight")  # of the schedule: its next fault
        until(page, f"+{MOMENT} > {at_fault}")
        assert "restart A0" in page.inner_text("#sentence")
        place = page.locator("#slider canvas").bounding_box()
        assert place is not None
        page.mouse.move(place["x"] + place["width"] * 0.2, place["y"] + 60)
        page.mouse.down()
        page.mouse.move(place["x"] + place["width"] * 0.5, place["y"] + 60, steps=3)
        page.mouse.up()
        until(page, "/^1\\.1/.test(document.querySelector('.clock').textContent)")
        page.click(".jumps button:has-text('commit')")
        middle = cursor(page)
        press(page, "+", "+", "+", "+", " ")  # it plays, and does not press the button again
        page.wait_for_selector("#play[aria-label=Pause]")
        until(page, f"+{MOMENT} > {middle} + 20")
        press(page, " ")
        page.wait_for_selector("#play[aria-label=Play]")
        stopped = cursor(page)
        press(page, "Shift+C")
        until(page, f"+{MOMENT} < {stopped}")

    assert browser.visit(served, steps) == []


def test_one_thing_is_followed_through_its_life(browser: Browser, served: str) -> None:
    def steps(page: Page) -> None:
        find(page, "commit 4")
        page.wait_for_selector("h2:text('Commit LSN 3–4')")
        page.click(".life li.fourth button")
        page.wait_for_selector(".life li.fourth[class*=current], .life li.durable[class*=current]")
        assert page.inner_text(".summary").startswith("4 of 6")
        assert page.locator(".holder.acknowledged").count() == 4
        page.click(".panel .link:text-is('18')")
        page.wait_for_selector("h2:text('Page 18')")
        page.click(".lifehead button:text-is('lanes')")
        press(page, " ")  # the pointer leaves no button that takes it
        until(page, PLAYS)
        press(page, " ", "l", "/")  # what was typed before is selected
        page.keyboard.type("page 19")
        press(page, "Enter")
        page.wait_for_selector("h2:text('Page 19')")
        press(page, "Backspace", "Backspace")
        page.wait_for_selector("h2:text('Commit LSN 3–4')")
        find(page, "#7")
        page.wait_for_selector("h2:text('#7')")
        title = page.inner_text(".lifehead h2")
        press(page, "Escape")
        find(page, title)
        page.wait_for_selector(f"h2:text-is('{title}')")
        press(page, "Home", "Shift+X")
        page.wait_for_selector(".notice:has-text('no earlier finding')")
        find(page, "Commit 3-4")
        page.click("button:text('go there')")
        page.wait_for_selector(".life li.current")
        assert page.inner_text(".notice") == ""
        canvas = page.locator(".logline canvas")
        canvas.click(position={"x": 64 + 15 * 0.5, "y": 40})
        page.wait_for_selector("h2:text('Commit LSN 1–2')")
        press(page, "l")
        page.wait_for_selector(".lanes canvas")
        page.locator(".filters label:has-text('LSN') input").press_sequentially("1a2")
        page.wait_for_selector(".filters button:has-text('only LSN 12')")
        assert page.locator(".filters label:has-text('LSN') input").input_value() == "12"
        press(page, "Escape", "l", "1")  # the map has the way out, too
        page.click(".listhead button:has-text('only LSN 12')")
        page.wait_for_selector(".listhead button", state="detached")
        press(page, "l")
        page.select_option("select[aria-label=Kind]", "fault")
        press(page, "1")
        until(
            page, "[...document.querySelectorAll('.events .klass')].every(e => e.matches('.fault'))"
        )

    assert browser.visit(served, steps) == []


def test_the_tour_ends_with_two_runs_side_by_side(browser: Browser, served: str) -> None:
    def steps(page: Page) -> None:
        page.click("#tour-start")
        page.click(".life li.durable button")
        page.wait_for_selector(".summary:has-text('4 of 6'):has-text('Durable')")
        page.click("#tour-next")
        until(page, "document.getElementById('tour-next') === null")
        assert page.locator(".segment.down").count() == 0
        press(page, "c", "c", "c")
        page.click("#tour-next")
        page.select_option("#fork-kind", "slow")
        page.fill(".form input", "-3")
        page.click("#fork-add")
        page.wait_for_selector(".notice:has-text('factor: found -3: expected a number from')")
        page.select_option("#fork-kind", "crash")
        page.click("#fork-add")
        page.wait_for_selector(".changes b")
        page.check(".changes li:has-text('slow D0') input")
        page.click("#fork-run")
        page.wait_for_selector("[data-fork][data-state=done]")
        until(page, "document.querySelectorAll('.map').length === 2")
        page.wait_for_selector(".differ")
        ours, theirs = page.inner_text("#sentence"), page.inner_text(".othersentence")
        assert ours != theirs.partition(": ")[2]
        assert "stops at once" in theirs
        maps = page.locator(".map").all()
        ours_down, theirs_down = (each.locator(".segment.down").count() for each in maps)
        assert theirs_down == ours_down + 1
        button = page.locator("[data-fork] button:text-is('Close')").bounding_box()
        panel = page.locator("#panel").bounding_box()
        assert button is not None
        assert panel is not None
        assert button["y"] + button["height"] < panel["y"] + panel["height"]
        command = page.inner_text("[data-fork] .command")
        assert "python -m aurora.sim" in command
        assert command.count("--remove") == 2  # that it ends goes with it
        page.click("#tour-end")
        find(page, "0.7")  # in the fork only three copies are left
        until(page, f"{WAITING}[1] > {WAITING}[0]")
        place = page.locator("#slider canvas").bounding_box()
        assert place is not None
        tip_in(page, place, place["y"] + 41, "fork-1: crash")
        assert page.locator("#tip strong").count() == 0  # a mark's time is its own
        place = page.locator(".logline canvas").bounding_box()
        assert place is not None
        page.mouse.click(*tip_in(page, place, place["y"] + place["height"] - 25, "fork-1: commit"))
        page.wait_for_selector(".map.active .runname:has-text('fork-1')")
        find(page, "1.6")  # with two writers
        assert page.evaluate(OVERLAPS) == []
        page.set_viewport_size({"width": 1024, "height": 700})
        until(page, FITS)
        assert page.evaluate(OVERLAPS) == []
        assert page.evaluate(WITHOUT_CELLS) == []
        press(page, "Escape", "Escape")  # the selection, and the comparison
        until(page, "document.querySelectorAll('.map').length === 1")

    assert browser.visit(served, steps, first=True) == []


def test_an_exported_finding_tells_why(browser: Browser, exported: str) -> None:
    def steps(page: Page) -> None:
        page.wait_for_selector("h2:text('pgcl-is-backed')")
        assert "PGCL = the 3rd highest SCL" in page.inner_text("div.finding")
        assert page.get_attribute(".ring", "aria-label") == (
            "LSN 16–17: 3 of 6 acknowledged, declared durable"
        )
        assert set(page.locator(".recent li:first-child").all_inner_texts()) == {"17"}
        assert (
            page.evaluate("import('view/signs.js').then((m) => m.family('ConfirmEpoch'))") == "read"
        )
        page.click(".story li:has-text('and yet its PGCL') .goto")
        page.click(".story li:has-text('and yet its PGCL') .link:text('LSN 17')")
        press(page, "2")
        page.wait_for_selector(".summary:has-text('3 of 6')")
        told = page.inner_text(".life li:last-child")
        assert re.fullmatch(r"The run ends here: client \d+ has not been told yet", told)
        assert "17" in page.inner_text(".writer .value[data-word=VDL]")
        assert page.locator(".invariants li.broken").count() == 0
        press(page, "3")
        page.wait_for_selector(
            ".invariants li.broken"
        )  # by the clock: one event before the finding
        assert page.inner_text(".invariants li.broken > :first-child") == "✕"
        find(page, "pgcl")
        page.wait_for_selector(".panel:has-text('write quorum of the group')")
        press(page, "Shift+T")
        page.wait_for_selector(".tour:has-text('Watch a rule break')")
        page.click(".story li >> nth=0 >> .goto")
        press(page, "End")
        page.click("#tour-end")
        name, sent_ns, trip_ns = page.evaluate(LOST)
        find(page, f"{(sent_ns + trip_ns) / 1e9:.9f}")
        card = page.locator(f".segment:has(strong:text-is('{name}'))").bounding_box()
        writer = page.locator(".writer").first.bounding_box()
        assert card is not None
        assert writer is not None
        strip = 0.55 * (writer["y"] + writer["height"]) + 0.45 * card["y"]
        page.mouse.click(*tip_in(page, card, strip, f"→ {name}"))  # above the card it was for
        page.wait_for_selector("h2:text('#')")
        find(page, f"{sent_ns / 1e9 - 1e-6:.9f}")
        until(page, f"{CLOCK} < {sent_ns / 1e9}")
        before = page.evaluate(DOTS)
        press(page, "Escape")
        until(page, f"{DOTS} === {before!r}")  # no way of what was not sent
        for word, says in (("heartbeat", "without redo"), ("pgcl-is-backed", "4 of 6 members")):
            find(page, word)
            page.wait_for_selector(f".panel:has-text('{says}')")
        title, begins = page.evaluate(FAULT)
        find(page, title)
        until(page, f"Math.abs({CLOCK} - {begins / 1e9}) < 1e-6")
        press(page, "4")
        page.wait_for_selector("h2:text('Fork at')")
        assert "A run ends at its finding" in page.inner_text(".panel .how")
        assert page.locator(".panel button:disabled").first.inner_text() == "Run the fork"
        assert "third-highest-scl" in page.inner_text(".command")

    assert browser.visit(exported, steps, theme="dark") == []


def test_it_is_used_by_keyboard_alone(browser: Browser, exported: str) -> None:
    def steps(page: Page) -> None:
        seen = []
        for _ in range(12):
            press(page, "Tab")
            style = "getComputedStyle(document.activeElement).outlineStyle"
            assert page.evaluate(style) == "solid", page.evaluate(
                "document.activeElement.outerHTML"
            )
            seen.append(page.evaluate("document.activeElement.getAttribute('aria-label')"))
        assert "Play" in seen
        press(page, "?")
        page.wait_for_selector("dialog[open]:has-text('◔slow')")
        press(page, "Escape")
        page.wait_for_selector("dialog:not([open])", state="attached")
        page.focus("#tab-why")
        press(page, "ArrowRight")
        page.wait_for_selector("#tab-fork[aria-selected=true]:focus")
        find(page, "D0")
        page.wait_for_selector("h2:text-is('D0')")
        press(page, "Home", "Shift+ArrowRight")
        until(page, "document.getElementById('sentence').textContent.startsWith('D0')")
        press(page, "x")
        until(page, "document.getElementById('sentence').textContent.includes('is backed')")
        press(page, "x")
        page.wait_for_selector(".notice:has-text('no later finding')")
        press(page, "3")
        page.focus("summary")
        press(page, "Home")
        until(page, "document.querySelector('.notice').textContent === ''")
        press(page, " ")  # a button that has the focus takes it, nothing else does
        page.wait_for_selector("details[open]")
        page.focus("#panel")
        press(page, " ")
        until(page, PLAYS)
        press(page, " ")
        page.wait_for_selector("#play[aria-label=Play]")
        assert page.get_attribute("#sentence", "aria-live") == "polite"

    assert browser.visit(exported, steps) == []


@pytest.mark.parametrize(
    ("theme", "size"), [("light", (1280, 720)), ("dark", (1920, 1080))], ids=str
)
def test_it_is_legible(
    browser: Browser, exported: str, theme: Theme, size: tuple[int, int]
) -> None:
    """Each theme and each size once: places know nothing of colours."""

    def steps(page: Page) -> None:
        assert page.evaluate("document.documentElement.dataset.theme") == theme
        for tab in ("3", "1"):
            press(page, tab)
            until(page, "document.querySelector('.panel').innerText.length > 0")
            assert page.evaluate(OVERLAPS) == []
            assert page.evaluate(FAINT) == []
        for width, height in ((1280, 600), (1024, 700), (700, 800)):
            page.set_viewport_size({"width": width, "height": height})
            until(page, FITS)
            assert page.evaluate(OVERLAPS) == []
            assert page.evaluate(WITHOUT_CELLS) == []
            press(page, "l")
            page.wait_for_selector(".lanes canvas")
            assert page.evaluate(OVERLAPS) == []
            press(page, "l")
            page.wait_for_selector(".map")
        press(page, "t")
        until(page, f"document.documentElement.dataset.theme !== '{theme}'")

    assert browser.visit(exported, steps, size=size, theme=theme) == []
