"""The shapes that a drawn run can have, each with its weight; see `shape.Shape`."""

from __future__ import annotations

from typing import Final

from sim.plan.shapes.churn import CHURN
from sim.plan.shapes.corners import CORNERS
from sim.plan.shapes.limits import LIMITS
from sim.plan.shapes.losses import LOSSES
from sim.plan.shapes.lulls import LULLS
from sim.plan.shapes.mixed import MIXED
from sim.plan.shapes.power import POWER
from sim.plan.shapes.shape import Shape
from sim.plan.shapes.storm import STORM

SHAPES: Final[tuple[Shape, ...]] = (
    MIXED,
    STORM,
    POWER,
    LOSSES,
    LIMITS,
    CORNERS,
    LULLS,
    CHURN,
)
"""All of them. A seed's shape is drawn by weight, in this order."""
