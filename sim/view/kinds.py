"""Which kinds of events a film has, and what the page is told of each.

Most are the steps of the cores; the rest is what the simulator, the network and the clients do.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Final

import attrs

from aurora import events as of_writers
from segments.protocol import events as of_segments
from segments.protocol.events import Event

WRITE: Final = "write"
READ: Final = "read"
DISK: Final = "disk"
RECOVERY: Final = "recovery"
GOSSIP: Final = "gossip"
LAYER: Final = "layer"
FAULT: Final = "fault"
CALL: Final = "call"
NET: Final = "net"
FINDING: Final = "finding"

CLASSES: Final[Mapping[str, tuple[type[Event], ...]]] = {
    WRITE: (
        of_writers.MtrAllocated, of_writers.RoomWaitStarted, of_writers.PoolApplied,
        of_writers.Sent, of_writers.Acknowledged, of_writers.CommitsAcknowledged,
        of_segments.BatchReceived, of_segments.RecordsApplied, of_segments.AckSent,
    ),
    READ: (
        of_writers.PoolLookedUp, of_writers.ReadStarted, of_writers.ReadSent,
        of_writers.ReadAnswered, of_writers.PageCached, of_writers.EpochVouched,
        of_segments.PageMaterialized, of_segments.PagesFound, of_segments.ReadDeclined,
    ),
    DISK: (
        of_segments.Restored, of_segments.StorageRefused, of_segments.SegmentFailed,
        of_segments.RolledBack, of_segments.WriteStarted, of_segments.WriteSynced,
        of_segments.WriteFailed, of_segments.PromiseFailed, of_segments.SpaceLookedAt,
        of_segments.ScrubFoundBadManifest, of_segments.ScrubFoundBadPromise,
        of_segments.ScrubFoundDamage,
    ),
    RECOVERY: (
        of_writers.WriterFenced, of_writers.SealingStarted, of_writers.RollbackFound,
        of_writers.SealAnswered, of_writers.LogFetched, of_writers.RecoveryPlanned,
        of_writers.WriterStarted, of_writers.TableAcknowledged, of_writers.VolumeOpened,
        of_segments.Sealed, of_segments.TableAdopted, of_segments.TableSettled,
        of_segments.RequestRefused,
    ),
    GOSSIP: (
        of_segments.GossipReceived, of_segments.LayerReceived, of_segments.Hydrated,
        of_segments.TableGossiped,
    ),
    LAYER: (
        of_segments.LayerPublished, of_segments.LogCollected, of_segments.RewriteStarted,
        of_segments.LogRewritten, of_segments.JobFailed, of_segments.LayerDamaged,
    ),
}  # fmt: skip
"""The steps of the cores, by what they are about."""

OTHERS: Final[Mapping[str, tuple[str, str]]] = {
    "ActionDone": (FAULT, "The schedule has done something to the world."),
    "FaultEnded": (FAULT, "The schedule has ended what it had done to the world."),
    "Crashed": (FAULT, "A segment has stopped at once: what it had in memory is gone."),
    "DiskRolledBack": (FAULT, "A segment is down, and its disk is an older copy of itself."),
    "Rotted": (FAULT, "Bits on a segment's disk have flipped."),
    "Healed": (FAULT, "All faults are over: what is down and not lost comes back."),
    "CallInvoked": (CALL, "A client has made a call."),
    "CallReturned": (CALL, "A client has been answered."),
    "CallAbandoned": (CALL, "A client has given up waiting."),
    "MessageDropped": (NET, "The network has lost a message on its way."),
    "Finding": (FINDING, "What must hold does not: the run ends here."),
}
"""What else happens: its class, and a sentence."""

_NO_LANE: Final = frozenset({
    "PoolApplied", "PoolLookedUp", "PageCached", "ReadStarted", "Sent", "AckSent", "WriteStarted",
})  # fmt: skip
"""Told in the inspector only: another mark on the same lane says it already."""

_BY_TYPE: Final = {kind: name for name, kinds in CLASSES.items() for kind in kinds}


@attrs.frozen
class Kind:
    """A kind of event, as the page knows it."""

    name: str
    words: str
    """What it means, in a sentence or two."""
    class_: str
    """What it is about: one of the constants above."""
    lane: bool
    """Whether it is marked on its node's lane."""

    def as_json(self) -> dict[str, object]:
        """With the names that the page uses."""
        return {"name": self.name, "words": self.words, "class": self.class_, "lane": self.lane}


def kind_of(event: type[Event] | str) -> Kind:
    """The kind of a core's step, or of another event by its name."""
    if isinstance(event, str):
        about, words = OTHERS[event]
        return Kind(event, words, about, lane=True)
    words = " ".join((inspect.getdoc(event) or "").replace("`", "").split())
    return Kind(event.__name__, words, _BY_TYPE[event], event.__name__ not in _NO_LANE)
