"""What a recovery has decided, and a writer starts from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from segments.protocol.heard import Mark
from segments.protocol.ids import Lsn, PgId, SegmentId, VolumeEpoch
from segments.protocol.record import RedoRecord
from segments.protocol.truncation import TruncationTable


@attrs.frozen
class RecoveryPlan:
    """How a writer incarnation starts."""

    epoch: VolumeEpoch
    table: TruncationTable
    """To be installed at a write quorum of every protection group before anything else."""
    vcl: Lsn
    vdl: Lsn
    tails: Mapping[PgId, Lsn]
    """Last record of each protection group, at or below the VDL; 0 for none."""
    records: Mapping[PgId, Sequence[RedoRecord]]
    """What is to be re-replicated: the records that not every write quorum is known to hold."""
    floor: Lsn = 0
    """Oldest read point that every segment heard of still serves."""
    clock_us: int = 0
    """The latest clock of a writer before, in the log above the VDL that was announced; 0: none."""
    heard: Mapping[SegmentId, Mark] = attrs.field(factory=dict)
    """The highest mark of each segment that its peers had heard."""
    rolled_back: Mapping[SegmentId, str] = attrs.field(factory=dict)
    """Who has less than that, and so is lost: how much, and who has heard of more."""

    @classmethod
    def fresh(cls, epoch: VolumeEpoch, pg_ids: Sequence[PgId]) -> RecoveryPlan:
        """A volume that was just formatted with ``epoch``: nothing to recover, nothing annulled."""
        tails = dict.fromkeys(pg_ids, 0)
        return cls(epoch, TruncationTable(epoch), 0, 0, tails, dict.fromkeys(pg_ids, ()))

    @property
    def next_lsn(self) -> Lsn:
        """The first LSN this incarnation allocates."""
        return max(self.vdl, self.table.last_annulled_lsn) + 1
