"""What the clients of a run call, drawn from a seed."""

from __future__ import annotations

from random import Random
from typing import Final

from sim.plan.chance import below, choice
from sim.plan.schedule import Knobs, Operation

_LISTS: Final = 0.3
"""Reads of old versions no older than this are lists of all pages instead."""


def draw_calls(random: Random, knobs: Knobs) -> tuple[Operation, ...]:
    """The calls of all clients, in the order of their times."""
    clients = 2 + below(random, 7)
    count = choice(random, (60, 150, 300))
    pages = choice(random, (3, 12, 40))
    write_share = 0.4 + random.random() * 0.5
    sticky = random.random() < 0.3
    found = []
    for _ in range(count):
        at_ns = below(random, knobs.duration_ns)
        if random.random() < write_share:
            kind = "put"
            touched = tuple(below(random, pages) for _ in range(1 + below(random, 4)))
        else:
            kind = choice(random, ("get", "get", "strict_get", "get_at", "view"))
            touched = (below(random, pages),)
        client = below(random, clients)
        offset = 8 * below(random, 1000)
        length = choice(random, (8, 16, 100))
        age = random.random()
        if kind == "get_at" and age < _LISTS:
            kind = "list"
        found.append(
            Operation(
                at_ns=at_ns,
                client=client,
                kind=kind,
                pages=touched,
                offset=offset,
                length=length,
                age=age,
                sticky=sticky and random.random() < 0.7,
            )
        )
    return tuple(sorted(found, key=lambda each: each.at_ns))
