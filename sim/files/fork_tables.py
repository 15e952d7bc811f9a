"""What a scenario file says of a fork: from when on chances are drawn anew, and recorded messages.

``[[redraw]]`` has ``at`` and ``salt``. The fork of a recording keeps what became of its messages
until the moment ``messages_until``, in the text ``messages``: a line for each, with its number and
the delays of its copies in nanoseconds; none if it was lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from segments.protocol.errors import Invalid
from sim.files.toml_reader import Table, format_time
from sim.plan.redraws import MAX_SALT, Redraw
from sim.world.network_policy import Decided, Decision

_MOST_REDRAWS: Final = 1_000
_MAX_DELAY_NS: Final = 1 << 53


def read_redraws(tables: list[Table]) -> tuple[Redraw, ...]:
    """The redraws of a scenario in the order of their times; raises `ScenarioError`."""
    found: dict[int, Redraw] = {}
    for table in tables:
        redraw = Redraw(table.time("at"), table.integer("salt", most=MAX_SALT))
        table.finish()
        if redraw.at_ns in found:
            raise table.error("at", f"found {format_time(redraw.at_ns)} twice: expected once")
        found[redraw.at_ns] = redraw
    if len(found) > _MOST_REDRAWS:
        raise tables[0].error(None, f"found {len(found)}: expected at most {_MOST_REDRAWS}")
    return tuple(sorted(found.values()))


def redraw_row(redraw: Redraw) -> dict[str, Any]:
    """A redraw as `read_redraws` reads it."""
    return {"at": format_time(redraw.at_ns), "salt": redraw.salt}


def read_decided(root: Table) -> Decided | None:
    """What a scenario says of recorded messages; raises `ScenarioError`."""
    if not root.has("messages_until"):
        root.get("messages_until")
        if root.has("messages"):
            raise root.error("messages_until", "missing: expected it beside messages")
        root.get("messages")
        return None
    until_ns = root.time("messages_until")
    try:
        return Decided(_decisions(root.text("messages")), until_ns)
    except Invalid as error:
        raise root.error("messages", str(error)) from None


def _decisions(text: str) -> Mapping[int, Decision]:
    found: dict[int, Decision] = {}
    last = 0
    for line in text.splitlines():
        if not line.strip():
            continue
        try:
            message, *delays = map(int, line.split())
        except ValueError:
            raise Invalid(f"found {line[:80]!r}: expected a number and delays") from None
        if message <= last or any(not 0 <= each <= _MAX_DELAY_NS for each in delays):
            raise Invalid(
                f"found {line[:80]!r}: expected a number above {last}, and delays from 0 to "
                f"{_MAX_DELAY_NS} ns"
            )
        found[message] = tuple(delays)
        last = message
    return found


def decided_lines(decided: Decided) -> list[str]:
    """The lines of a scenario file that `read_decided` reads."""
    assert decided.until_ns is not None, "only a fork keeps messages until a moment"
    rows = [" ".join(map(str, (message, *of))) for message, of in decided.decisions.items()]
    return [f'messages_until = "{format_time(decided.until_ns)}"', 'messages = """', *rows, '"""']
