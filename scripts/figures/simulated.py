"""What the simulator takes for a message."""

from __future__ import annotations

import time
from typing import Final

from scripts.figures.figure import Bound, Figure, Sizes, judge
from segments.protocol import codec
from sim.plan.generate import generate
from sim.run import Run
from sim.world.listener import Listener
from sim.world.network import NetworkEvent
from sim.world.world import World

_BEFORE: Final = 0.0102
"""The ratio when each segment held all of its records as objects, and its disk was one log."""


def simulated_messages(sizes: Sizes) -> Figure:
    """Messages that the simulator delivers in a second of computing, all checkers on.

    The limit is what remains when all else costs nothing: the same messages, only encoded and
    decoded.
    """
    payloads: list[bytes] = []
    failed, taken = 0, 0.0
    for seed in range(sizes.simulated_seeds):
        run, sent = Run(World(generate(seed))), _Sent()
        run.world.listen(sent)
        started = time.process_time()
        failed += run.run().verdict.value != "passed"
        taken += time.process_time() - started
        payloads += sent.payloads
    started = time.process_time()
    for payload in payloads:
        codec.encode(codec.decode(payload))
    coding = time.process_time() - started
    note = f"{len(payloads):,} messages, {sizes.simulated_seeds} seeds"
    return judge(
        "simulator", "simulated messages, random faults, all checkers on", "messages/s",
        len(payloads) / taken, "the same messages, encoded and decoded, nothing else",
        len(payloads) / coding, Bound(_BEFORE, at_least=True),
        note + (f", {failed} failed" if failed else ""),
    )  # fmt: skip


class _Sent(Listener):
    """Keeps what is sent in a world."""

    def __init__(self) -> None:
        self.payloads: list[bytes] = []

    def on_message(self, event: NetworkEvent) -> None:
        if event.kind == "sent":
            self.payloads.append(event.payload)
