"""Films as files: the page in one file, and the forms of other tools, by how the file is called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import attrs

from segments.protocol.errors import Invalid
from sim.view.film import Film, packed
from sim.view.mermaid import as_mermaid, fitting
from sim.view.page import in_one_file, read_assets
from sim.view.perfetto import as_perfetto
from sim.view.shiviz import HEADER, as_shiviz
from sim.view.window import Window


@attrs.frozen
class Form:
    """What a file of a name like this is."""

    words: str
    begins: bytes
    """By which a file that was written before is known again."""
    make: Callable[[Film, Window], bytes]
    fit: Callable[[Film, Window], Window] = lambda _, window: window
    """So much of what nobody has narrowed as there is room for."""
    has_all: bool = False
    """Whether it always has the whole run."""


def _page(film: Film, _: Window) -> bytes:
    return in_one_file(read_assets(), packed(film))


FORMS: Final[Mapping[str, Form]] = {
    ".html": Form(
        "the page in one file, which needs no server", b"<!doctype html>", _page, has_all=True
    ),
    ".json": Form(
        "trace events for Perfetto (ui.perfetto.dev) or chrome://tracing",
        b'{"traceEvents":',
        lambda film, window: as_perfetto(film, window).encode(),
    ),
    ".mmd": Form(
        "a Mermaid sequence diagram", b"%% ",
        lambda film, window: as_mermaid(film, window).encode(), fitting,
    ),
    ".shiviz": Form(
        "a log with vector clocks for ShiViz", HEADER.encode(),
        lambda film, window: as_shiviz(film, window).encode(),
    ),
}  # fmt: skip
"""By suffix."""


def form_of(path: Path, window: Window) -> Form:
    """What a file is to be; raises `Invalid` for a name that does not say, or a wrong window."""
    form = FORMS.get(path.suffix.lower())
    if form is None:
        known = ", ".join(FORMS)
        raise Invalid(f"{path}: expected a name that ends in one of {known}")
    if form.has_all and not window.is_all:
        raise Invalid(f"{path}: a page has the whole run: expected no --window")
    return form
