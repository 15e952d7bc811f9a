"""The command ``view``: a run in a browser, or in a file for somebody else's."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import sys
import webbrowser
from pathlib import Path
from typing import Final

import click
import trio

from aurora.terminal.finishing import writing
from aurora.terminal.integers import Integer
from segments.protocol.errors import Invalid, Unavailable
from sim.commands.case import Case, case_options, input_paths, open_case
from sim.commands.exit_codes import EXIT_CODES, PASSED
from sim.durations import moment
from sim.files.outputs import OUTPUT, begins_with, check_output, force_option, writable_path
from sim.run import Verdict
from sim.view.exports import FORMS, form_of
from sim.view.film import Film, make_film
from sim.view.maker import MAX_EVENTS
from sim.view.page import read_assets
from sim.view.server import HOST, Server, listening
from sim.view.site import Site
from sim.view.studio import Studio, Workers, shown
from sim.view.window import Window, parse_window
from sim.wording import PROGRAM, counted, say

DEFAULT: Final = "default"
_TOKEN_BYTES: Final = 16
_LAST_PORT: Final = 65_535
_ENDING: Final = (signal.SIGINT, signal.SIGTERM)
_SUFFIXES: Final = ", ".join(FORMS)


def _window(_context: click.Context, _option: click.Parameter, value: str | None) -> Window:
    try:
        return Window() if value is None else parse_window(value)
    except Invalid as error:
        raise click.BadParameter(str(error)) from None


@click.command("view")
@case_options
@click.option(
    "--export", "export", type=OUTPUT, metavar="FILE", callback=writable_path,
    help=f"Write a file and end; its name says what it is: {_SUFFIXES}.",
)  # fmt: skip
@click.option(
    "--window", callback=_window, metavar="FROM..TO",
    help="With --export of any file but a page: only what happens then, such as 300ms..500ms.",
)  # fmt: skip
@force_option("Let --export replace a file that is no export.")
@click.option(
    "--port", type=Integer(0, _LAST_PORT), metavar="N",
    help="Where to serve on this machine; any port that is free unless told.",
)  # fmt: skip
@click.option("--no-open", is_flag=True, help="Print the address, and open no browser.")
def command(
    seed: int | None,
    name: str | None,
    bug: str | None,
    knobs: tuple[str, ...],
    export: Path | None,
    window: Window,
    force: bool,
    port: int | None,
    no_open: bool,
) -> int:
    """Look at a run in a browser: a slider over time, messages on their way, and why.

    SCENARIO is a name that `list` shows, FILE a scenario file or a recording; with --seed alone,
    what this seed draws is run, and with nothing at all the scenario "default". The page is served
    to this machine alone, under an address that nobody can guess, until Ctrl-C. The exit code is 0
    whatever the run has come to.

    --export writes the page in one file (.html) that needs no server, trace events for Perfetto
    (.json), a Mermaid sequence diagram (.mmd) or a log for ShiViz (.shiviz).
    """
    if export is None and not window.is_all:
        raise click.UsageError("--window: expected together with --export")
    _check_opened(name)
    case = open_case(seed, name or (DEFAULT if seed is None else None), bug, knobs)
    if export is not None:
        if port is not None:
            raise click.UsageError("--port: expected no --export, which serves nothing")
        _check_export(export, window, name, force=force)
    else:
        _check_port(port or 0)
    if sys.stderr.isatty():
        click.echo(f"{case.source}: running …", err=True)
    film = make_film(case)
    _tell(film)
    if export is not None:
        _export(film, export, window)
    else:
        _serve(case, film, port or 0, opening=not no_open)
    internal = film["run"]["verdict"] == Verdict.INTERNAL.value
    return EXIT_CODES[Verdict.INTERNAL] if internal else PASSED


def _check_opened(name: str | None) -> None:
    """Say of what `view` itself has written that it is no run."""
    path = Path(name or "")
    form = FORMS.get(path.suffix.lower())
    if form is not None and path.is_file() and begins_with(form.begins)(path):
        raise click.UsageError(
            f"{name} has been exported, and cannot be opened again: expected a scenario or a "
            f"recording"
        )


def _tell(film: Film) -> None:
    run = film["run"]
    events = counted(len(film["events"]["t"]), "event")
    say(f"{run['title']}: {run['verdict']} after {moment(run['end_ns'])}, {events}")
    if run["finding"]:
        say(f"{run['invariant']}: {run['finding'].splitlines()[0]}")
    if run["cut"]:
        say(f"shown are the first {MAX_EVENTS:,} events: the rest of the run is left out")
        if run["finding"]:
            command = f"{PROGRAM} shrink {run['source']} -o smaller.toml"
            say(f"the finding comes later; a smaller run may have it: {command}")


# ---- exported ------------------------------------------------------------------------------------


def _check_export(path: Path, window: Window, name: str | None, *, force: bool) -> None:
    try:
        form = form_of(path, window)
    except Invalid as error:
        raise click.UsageError(f"--export {error}") from None
    written_before = begins_with(form.begins)
    check_output(
        "--export", path, inputs=input_paths(name), force=force, written_before=written_before
    )


def _export(film: Film, path: Path, window: Window) -> None:
    form = form_of(path, window)
    if window.from_ns > film["run"]["end_ns"]:
        end = moment(film["run"]["end_ns"])
        raise click.UsageError(f"--window {window.typed}: the run has ended by then, at {end}")
    narrowed = form.fit(film, window) if window.is_all else window
    try:
        data = form.make(film, narrowed)
    except Invalid as error:
        raise click.UsageError(str(error)) from None
    with writing(path):
        path.write_bytes(data)
    say(f"{path}: {form.words}, {_size(len(data))}")
    if narrowed != window:
        say(f"it has {narrowed}, the rest would not fit: --window {narrowed.typed} or another")


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1_000_000 else f"{count / 1e3:.0f} kB"


# ---- served --------------------------------------------------------------------------------------


def _check_port(port: int) -> None:
    """Raise `Unavailable` if the port is taken: before a long run, not after it."""
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, os.name == "posix")
        try:
            tried.bind((HOST, port))
        except OSError as error:
            raise Unavailable(f"--port {port}: {error.strerror or error}") from None


def _serve(case: Case, film: Film, port: int, *, opening: bool) -> None:
    why = ""
    try:
        trio.run(_serve_until_told, case, film, port, opening)
    except* OSError as errors:
        error = errors.exceptions[0]
        why = f"--port {port}: {getattr(error, 'strerror', error)}"
    if why:  # what is raised above would be a group
        raise Unavailable(why)


async def _serve_until_told(case: Case, film: Film, port: int, opening: bool) -> None:
    token, once = secrets.token_urlsafe(_TOKEN_BYTES), secrets.token_urlsafe(_TOKEN_BYTES)
    workers = Workers()
    studio = Studio(case, shown(film), workers.run, _jobs())
    assets = read_assets()

    def make_server(bound: int) -> Server:
        return Server(Site(token, bound, assets, studio, once))

    try:
        with trio.open_signal_receiver(*_ENDING) as signals:
            async with listening(port, make_server) as bound, trio.open_nursery() as nursery:
                nursery.start_soon(studio.run)
                address = f"http://{HOST}:{bound}/{token}/"
                say(f"{address}\nfor this machine alone, until Ctrl-C")
                sys.stdout.flush()
                if opening:
                    nursery.start_soon(_open, f"http://{HOST}:{bound}/{once}")
                await anext(signals)
                nursery.cancel_scope.cancel()
    finally:
        workers.close()
    say("\nended")


def _jobs() -> int:
    """One core is left to the page."""
    return max(1, (os.cpu_count() or 1) - 1)


async def _open(address: str) -> None:
    """Open a browser, unless that would be one within this terminal."""
    if _has_screen() and await trio.to_thread.run_sync(
        webbrowser.open, address, abandon_on_cancel=True
    ):
        return
    say("no browser to open here: open the address yourself")


def _has_screen() -> bool:
    if sys.platform in ("win32", "darwin"):
        return True
    return any(os.environ.get(each) for each in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
