"""The page: its files, as they ship with this package, served one by one or all in one file.

The files are read once, by their names: what is asked for by another name cannot be had.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from hashlib import sha256
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, Final

from segments.protocol.errors import Invalid

INDEX: Final = "index.html"
TYPES: Final[Mapping[str, str]] = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "mjs": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
}
_PLAIN: Final = "text/plain; charset=utf-8"
_ASSETS: Final = "./assets/"
_CSP_PLACE: Final = "<!-- csp -->"
_FILM_PLACE: Final = "<!-- film -->"
_IMPORT_MAP: Final = re.compile(r'<script type="importmap">(.*?)</script>', re.DOTALL)
_STYLE: Final = re.compile(r'<link rel="stylesheet" href="\./assets/([\w./-]+)">')
_ICON: Final = re.compile(r'<link rel="icon" href="\./assets/([\w./-]+)">')
_MAIN: Final = re.compile(r'<script type="module" src="\./assets/([\w./-]+)"></script>')


def type_of(name: str) -> str:
    """What a file is, by the end of its name."""
    return TYPES.get(name.rpartition(".")[2], _PLAIN)


def read_assets() -> dict[str, bytes]:
    """The page's files by their names, such as ``vendor/preact.mjs``."""
    return dict(_files(resources.files("sim.view") / "assets", ""))


def _files(directory: Traversable, prefix: str) -> Iterator[tuple[str, bytes]]:
    for each in sorted(directory.iterdir(), key=lambda one: one.name):
        if each.is_dir():
            yield from _files(each, f"{prefix}{each.name}/")
        else:
            yield f"{prefix}{each.name}", each.read_bytes()


# ---- served --------------------------------------------------------------------------------------


def served(assets: Mapping[str, bytes]) -> tuple[bytes, str]:
    """The page as a server gives it, and the content security policy that goes with it."""
    text = assets[INDEX].decode().replace(_CSP_PLACE, "").replace(_FILM_PLACE, "")
    policy = _policy(script=f"'self' {_hash(_import_map(text))}", style="'self'", connect="'self'")
    return text.encode(), f"{policy}; frame-ancestors 'none'"


def _policy(*, script: str, style: str, connect: str) -> str:
    return (
        f"default-src 'none'; script-src {script}; style-src {style}; connect-src {connect}; "
        "img-src 'self' data:; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def _import_map(text: str) -> str:
    found = _IMPORT_MAP.search(text)
    if found is None:
        raise Invalid(f"{INDEX}: expected an import map")
    return found[1]


# ---- in one file ---------------------------------------------------------------------------------


def in_one_file(assets: Mapping[str, bytes], film: bytes) -> bytes:
    """The page with everything that it needs within, a compressed film too: it asks nobody."""
    text = assets[INDEX].decode()
    style, text = _taken(_STYLE, text, "a style sheet")
    icon, text = _taken(_ICON, text, "an icon")
    main, text = _taken(_MAIN, text, "a module to begin with")
    known: dict[str, Any] = json.loads(_import_map(text))
    modules = {
        name: _data_url(assets, place.removeprefix(_ASSETS))
        for name, place in known["imports"].items()
    }
    mapped = json.dumps({"imports": modules}, separators=(",", ":"))
    css = assets[style].decode()
    if "</style" in css:
        raise Invalid(f"{style}: expected no </style in it")
    policy = _policy(script=f"{_hash(mapped)} data:", style=f"{_hash(css)}", connect="'none'")
    parts = (
        (_CSP_PLACE, f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        ("<!-- style -->", f"<style>{css}</style>"),
        ("<!-- icon -->", f'<link rel="icon" href="{_data_url(assets, icon)}">'),
        (_FILM_PLACE, _film_element(film)),
        ("<!-- main -->", f'<script type="module" src="{_data_url(assets, main)}"></script>'),
    )
    text = _IMPORT_MAP.sub(lambda _: f'<script type="importmap">{mapped}</script>', text)
    for place, part in parts:
        if text.count(place) != 1:
            raise Invalid(f"{INDEX}: expected {place} once")
        text = text.replace(place, part)
    return text.encode()


def _taken(pattern: re.Pattern[str], text: str, what: str) -> tuple[str, str]:
    """Which file an element of the page names, and the page with a place where that was."""
    place = {_STYLE: "<!-- style -->", _ICON: "<!-- icon -->", _MAIN: "<!-- main -->"}[pattern]
    names = pattern.findall(text)
    if len(names) != 1:
        raise Invalid(f"{INDEX}: found {len(names)}: expected {what} once")
    return names[0], pattern.sub(place, text)


def _data_url(assets: Mapping[str, bytes], name: str) -> str:
    kind = type_of(name).partition(";")[0]
    return f"data:{kind};base64,{b64encode(assets[name]).decode()}"


def _film_element(film: bytes) -> str:
    kind = "application/octet-stream;base64"
    return f'<script type="{kind}" id="film">{b64encode(film).decode()}</script>'
