"""Chromium for tests: pages are visited in a thread of its own, and whatever goes wrong is kept."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final, Literal, TypeAlias

from playwright.sync_api import BrowserContext, Page, Playwright, sync_playwright

from tests.patience import PATIENCE_S

Theme: TypeAlias = Literal["dark", "light"]

PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome")
WAIT_MS: Final = 60_000
_SEEN: Final = "try { localStorage.setItem('aurora-sim tour', 'seen') } catch {}"


def chromium() -> str | None:
    """Where a browser of the system is, None if there is none."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


class Browser:
    """One browser for many visits, each with a profile of its own.

    Playwright runs an event loop in the thread that drives it; here that is never the tests' own.
    """

    def __init__(self, program: str) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="browser")
        self._thread.submit(self._start, program).result(PATIENCE_S)

    def _start(self, program: str) -> None:
        self._playwright: Playwright = sync_playwright().start()
        self._browser = self._playwright.chromium.launch(
            executable_path=program,
            args=["--no-sandbox", "--disable-gpu"],
        )

    def close(self) -> None:
        """End the browser and its thread."""
        self._thread.submit(self._browser.close).result(PATIENCE_S)
        self._thread.submit(self._playwright.stop).result(PATIENCE_S)
        self._thread.shutdown()

    def visit(
        self,
        address: str,
        steps: Callable[[Page], None],
        *,
        size: tuple[int, int] = (1280, 720),
        theme: Theme = "light",
        first: bool = False,
    ) -> list[str]:
        """Do ``steps`` on the page at ``address``; returns what went wrong on it meanwhile.

        That are errors and warnings of the console, exceptions, and requests to anywhere but the
        address. A visitor who is there for the ``first`` time is offered the tour.
        """
        job = self._thread.submit(self._visit, address, steps, size, theme, first)
        return job.result(PATIENCE_S * 2)

    def _visit(
        self,
        address: str,
        steps: Callable[[Page], None],
        size: tuple[int, int],
        theme: Theme,
        first: bool,
    ) -> list[str]:
        width, height = size
        context = self._browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=theme
        )
        if not first:
            context.add_init_script(_SEEN)
        with _closing(context):
            page = context.new_page()
            page.set_default_timeout(WAIT_MS)
            troubles = _troubles_of(page, address)
            page.goto(address)
            page.wait_for_selector("html[data-ready]")
            steps(page)
            return troubles


def until(page: Page, condition: str) -> None:
    """Wait until an expression of JavaScript holds on the page, looked at in each frame.

    (Playwright's own way is to compile a string there, which the page's policy refuses.)
    """
    page.evaluate(
        "() => new Promise((done) => {"
        f" const look = () => (({condition}) ? done() : requestAnimationFrame(look)); look(); }})"
    )


@contextmanager
def _closing(context: BrowserContext) -> Iterator[None]:
    try:
        yield
    finally:
        context.close()


def _troubles_of(page: Page, address: str) -> list[str]:
    troubles: list[str] = []

    def listen_to_requests(url: str) -> None:
        if not url.startswith((address, "data:", "blob:")):
            troubles.append(f"asked for {url}")

    page.on("request", lambda request: listen_to_requests(request.url))
    page.on("pageerror", lambda error: troubles.append(f"threw {error}"))
    page.on(
        "console",
        lambda message: (
            troubles.append(f"{message.type}: {message.text}")
            if message.type in ("error", "warning")
            else None
        ),
    )
    return troubles
