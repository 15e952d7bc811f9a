"""What is called for an event takes that event: no type checker sees the tables of handlers."""

from __future__ import annotations

from typing import Any, get_args, get_type_hints

import pytest

from aurora.terminal import narrate
from segments.protocol.events import Event
from sim.check import checker, marks

TABLES = {
    "checker": checker._ON_EVENT,
    "marks": marks._ON_EVENT,
    "narrator": narrate._TELLERS,
}
ROWS = [
    pytest.param(kind, handler, id=f"{name} {kind.__name__}")
    for name, table in TABLES.items()
    for kind, handler in table.items()
]


@pytest.mark.parametrize(("kind", "handler"), ROWS)
def test_a_handler_takes_the_event_it_is_called_for(kind: type[Event], handler: Any) -> None:
    *_, taken = [hint for name, hint in get_type_hints(handler).items() if name != "return"]
    assert kind in (get_args(taken) or (taken,))
