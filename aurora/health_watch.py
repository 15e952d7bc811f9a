"""The task that looks at an open cluster, and logs what is waited for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import trio

from aurora.health import HealthReport
from aurora.wait_watch import WaitWatch

LOG: Final = logging.getLogger("aurora")
INTERVAL_S: Final = 0.25
"""Time between two looks."""


class HealthWatch:
    """Watches one cluster for as long as it is open."""

    def __init__(self, health: Callable[[], HealthReport]) -> None:
        """``health`` looks at the cluster."""
        self.report = health()
        """The latest."""
        self._health = health
        self._waits = WaitWatch()

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            self.look()
            await trio.sleep(INTERVAL_S)

    def look(self) -> None:
        """Look at the cluster, and log what is due."""
        self.report = self._health()
        for level, text in self._waits.observe(trio.current_time(), self.report):
            LOG.log(level, "%s", text)
