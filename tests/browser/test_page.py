"""The viewer's page in a real browser: what a visitor does, and that nothing else happens."""

from __future__ import annotations

from typing import Any, Final

import pytest
from playwright.sync_api import Page

from tests.browser.browsing import Browser, Theme, until

MOMENT: Final = "document.getElementById('slider').getAttribute('aria-valuenow')"
OVERLAPS: Final = """() => {
  const names = '.bar, .map, .inspector, .sentence, .logline, .slider';
  const parts = [...document.querySelectorAll(names)];
  const boxes = parts.map((each) => [each.className, each.getBoundingClientRect()]);
  const found = [];
  for (const [name, a] of boxes) {
    if (a.left < 0 || a.top < 0 || a.right > innerWidth || a.bottom > innerHeight) found.push(name);
    for (const [other, b] of boxes) {
      const beside = a.left >= b.right || b.left >= a.right;
      if (name < other && !beside && a.top < b.bottom && b.top < a.bottom) {
        found.push(`${name} over ${other}`);
      }
    }
  }
  for (const each of document.querySelectorAll('.bar, .segment, .writer, .tabs, .panel')) {
    if (each.scrollWidth > each.clientWidth + 1) found.push(`cut off: ${each.className}`);
  }
  for (const each of document.querySelectorAll('.scl b')) {
    const right = each.closest('.segment').getBoundingClientRect().right;
    if (each.getBoundingClientRect().right > right - 2) found.push(`cut off: ${each.textContent}`);
  }
  return found;
}"""
WAITING: Final = """[...document.querySelectorAll('.map')].map(
  (map) => +map.querySelector('.writer .value[data-word=waiting]').lastChild.textContent)"""
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
            "({keyframes, slots, nodes}) => ({keyframes, slots, nodes}))"
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

    assert browser.visit(served, steps) == []


def test_slider_steps_jumps_and_playing(browser: Browser, served: str) -> None:
    def steps(page: Page) -> None:
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
        press(page, " ")  # it plays, and does not press the button again
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
        press(page, "Backspace")
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
        assert "crash" in theirs
        command = page.inner_text("[data-fork] .command")
        assert "python -m aurora.sim" in command
        assert command.count("--remove") == 2  # that it ends goes with it
        page.click("#tour-end")
        find(page, "0.7")  # in the fork only three copies are left
        until(page, f"{WAITING}[1] > {WAITING}[0]")

    assert browser.visit(served, steps, first=True) == []


def test_an_exported_finding_tells_why(browser: Browser, exported: str) -> None:
    def steps(page: Page) -> None:
        page.wait_for_selector("h2:text('pgcl-is-backed')")
        assert "PGCL = the 3rd highest SCL" in page.inner_text("div.finding")
        page.click(".story li:has-text('and yet its PGCL') .goto")
        page.click(".story li:has-text('and yet its PGCL') .link:text('LSN 17')")
        press(page, "2")
        page.wait_for_selector(".summary:has-text('3 of 6')")
        assert "17" in page.inner_text(".writer .value[data-word=VDL]")
        assert page.locator(".invariants li.broken").count() == 0
        press(page, "3")
        page.wait_for_selector(".invariants li.broken")
        find(page, "pgcl")
        page.wait_for_selector(".panel:has-text('write quorum of the group')")
        press(page, "Shift+T")
        page.wait_for_selector(".tour:has-text('Watch a rule break')")
        page.click(".story li >> nth=0 >> .goto")
        press(page, "End")
        page.click("#tour-end")
        press(page, "4")
        page.wait_for_selector("h2:text('Fork at')")
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
        page.wait_for_selector("dialog[open]")
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
        assert page.get_attribute("#sentence", "aria-live") == "polite"

    assert browser.visit(exported, steps) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 720), (1920, 1080)], ids=str)
def test_it_is_legible(
    browser: Browser, exported: str, theme: Theme, size: tuple[int, int]
) -> None:
    def steps(page: Page) -> None:
        assert page.evaluate("document.documentElement.dataset.theme") == theme
        for tab in ("3", "1"):
            press(page, tab)
            until(page, "document.querySelector('.panel').innerText.length > 0")
            assert page.evaluate(OVERLAPS) == []
            assert page.evaluate(FAINT) == []
        press(page, "t")
        until(page, f"document.documentElement.dataset.theme !== '{theme}'")

    assert browser.visit(exported, steps, size=size, theme=theme) == []
