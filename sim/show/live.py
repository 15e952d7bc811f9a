"""The live view of a run on a terminal: segments, watermarks, commits in flight, faults.

It looks on from the trace, is drawn at most ten times a second of real time, and changes nothing:
no event of the world knows of it.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final

from rich.bar import Bar
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from segments.host import SegmentHost
from sim.durations import moment, moment_column
from sim.plan.episodes import Episode, episodes_of
from sim.plan.schedule import SECOND
from sim.show.looks import look_at_writer, segment_state
from sim.world.world import World

_EVERY_EVENTS: Final = 64
"""Events between two looks at the real clock."""
_EVERY_S: Final = 0.1
_MOST_FAULTS: Final = 4
_MOST_GROUPS: Final = 4


class LiveView:
    """A context in which a world runs and is looked at."""

    def __init__(self, world: World, console: Console) -> None:
        self._world = world
        self._episodes = episodes_of(world.schedule, world.schedule.knobs.duration_ns)
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._events = 0
        self._drawn_at = 0.0

    def __enter__(self) -> LiveView:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def on_event(self) -> None:
        """Something happened in the world; draw it if it is time."""
        self._events += 1
        if self._events % _EVERY_EVENTS == 0:
            now = monotonic()
            if now - self._drawn_at >= _EVERY_S:
                self._drawn_at = now
                self._live.update(self.render(), refresh=True)

    # ---- drawing ---------------------------------------------------------------------------------

    def render(self) -> RenderableType:
        """The world as it is now."""
        active = self.active()
        parts = [self._clock(), "", self._segments(active), self._watermarks(), ""]
        return Group(*parts, _fault_lines(active, self._world.healed))

    def active(self) -> list[Episode]:
        """The faults that last at the moment, and those of the last tenth of a second."""
        now = self._world.scheduler.now_ns
        if self._world.healed:
            return [each for each in self._episodes if each.action.kind == "wipe"]
        return [
            each
            for each in self._episodes
            if each.start_ns <= now < max(each.end_ns, each.start_ns + SECOND // 10)
        ]

    def _clock(self) -> RenderableType:
        now, end = self._world.scheduler.now_ns, self._world.schedule.knobs.duration_ns
        state = "healed" if self._world.healed else "faults"
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_row(
            Text(moment_column(now), style="bold"),
            Bar(end, 0, min(now, end), width=30, color="green" if state == "healed" else "cyan"),
            Text(f"of {moment(end)}, {state}", style="dim"),
            Text(f"{self._world.network.statistics().sent:,} messages", style="dim"),
        )
        return grid

    def _segments(self, active: list[Episode]) -> RenderableType:
        hosts = list(self._world.cluster.hosts.values())
        tail = _per_group(self._world, self._tail)
        grid = Table.grid(expand=True, padding=(0, 1, 0, 0))
        for _ in range(3):
            grid.add_column(ratio=1)
        panels = []
        for zone in (1, 2, 3):
            rows = Table.grid(expand=True, padding=(0, 1, 0, 0))
            rows.add_column(no_wrap=True)
            rows.add_column(no_wrap=True, ratio=1)
            rows.add_column(justify="right", no_wrap=True)
            for host in hosts:
                if host.az == zone and host.group.pg_id < _MOST_GROUPS:
                    rows.add_row(*_segment_row(host, active, tail[host.group.pg_id]))
            panels.append(Panel(rows, title=f"AZ{zone}", title_align="left", border_style="dim"))
        grid.add_row(*panels)
        return grid

    def _tail(self, pg_id: int) -> int:
        core = self._world.leading_writer.core
        return 0 if core is None else core.tail_lsn(pg_id)

    def _watermarks(self) -> RenderableType:
        engine = self._world.leading_writer
        look = look_at_writer(engine, {})
        text = Text.assemble((f" {engine.name} ", "reverse"), "  ")
        if engine.error is not None:
            return text.append("down", "red")
        if look.state == "opening":
            return text.append("recovering", "yellow")
        for name, value in (
            ("VCL", look.vcl),
            ("VDL", look.vdl),
            ("commits", look.commits),
            ("in flight", look.waiting),
        ):
            text.append(f"{name} ", "dim").append(f"{value:,}", "bold").append("   ")
        text.append("\n" + " " * (len(engine.name) + 4))
        for pg_id, lsn in list(look.pgcl.items())[:_MOST_GROUPS]:
            text.append(f"PGCL {pg_id} ", "dim").append(f"{lsn:,}", "bold").append("   ")
        return text


def _per_group(world: World, value: Callable[[int], int]) -> dict[int, int]:
    return {group.pg_id: value(group.pg_id) for group in world.cluster.groups}


def _segment_row(host: SegmentHost, active: list[Episode], tail: int) -> tuple[Text, Text, Text]:
    """Name, state and SCL of one segment."""
    faults = [each.state for each in active if host.segment in each.segments and each.state]
    scl = host.core.state.scl if host.core is not None else 0
    state = segment_state(host, faults, tail)
    style = {"up": "green", "lost": "red", "down": "red"}.get(state, "yellow")
    up = host.up and host.core is not None
    return (
        Text(f"● {host.segment}", style=style),
        Text(state, style=style),
        Text(f"{scl:,}" if up else "-", style="bold" if up else "dim"),
    )


def _fault_lines(active: list[Episode], healed: bool) -> RenderableType:
    if not active:
        return Text("  no faults: everything has healed" if healed else "  no faults", style="dim")
    lines = [
        Text.assemble("  ", (f"{moment_column(each.start_ns)}  ", "dim"), (each.title, "yellow"))
        for each in active[-_MOST_FAULTS:]
    ]
    hidden = len(active) - len(lines)
    if hidden:
        lines.append(Text(f"  and {hidden} more", style="dim"))
    return Group(*lines)
