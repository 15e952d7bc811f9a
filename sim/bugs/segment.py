"""Bugs of a segment: its promises, its log, gossip, pages and collection."""

from __future__ import annotations

from typing import Final

from sim.bugs.registry import Bug, Edit

_ADMIT: Final = "segments.core:SegmentCore._admit"
_CYCLE: Final = "segments.write_cycle:WriteCycle"
_TAKE_OVER: Final = "segments.core:SegmentCore._take_over"
_GOSSIP: Final = "segments.gossip:Gossip.step"
_WIPED_COMES_BACK: Final = (
    Edit("aurora.cluster:Cluster.wipe", 'host.lost = f"the disk of {segment} was wiped"', "pass"),
    Edit(
        "sim.world.world:SimulatedDiskHandle.open",
        'raise SegmentLost("the disk was wiped: expected a segment\'s identity")',
        "self.storage.replace_disk()",
    ),
    Edit(
        "segments.restart:restart_job",
        "if scan.durable_length <= starts[-1]:",
        "if False:",
    ),
)
_BACKGROUND: Final = "segments.background:Background"
_BLANK: Final = 2**63 - 1
"""What a segment on a blank disk would have to hold before it may vote: more than there can be."""
_FOLLOWS_A_BLANK_DISK: Final = f"scan.frames[0].frame.entries[:1] == (HeldEntry({_BLANK}),)"

SEGMENT_BUGS: Final = (
    Bug(
        name="ack-before-persist",
        summary="a segment acknowledges first and syncs then",
        section="protocol §4, step 3",
        edits=(
            Edit(
                f"{_CYCLE}._started",
                "self._trace(started)\n",
                "self._trace(started)\n"
                "    if not write.new_file:\n"
                "        self._core.wrote()\n"
                "        self._send()\n",
            ),
            Edit(
                f"{_CYCLE}._take_effect",
                "self._core.wrote()",
                "if self._write.new_file:\n        self._core.wrote()",
            ),
        ),
    ),
    Bug(
        name="no-fencing",
        summary="segments ignore epochs",
        section="protocol §7; 2017 §4.3",
        edits=(
            Edit(_ADMIT, "if epoch == self._promised:", "if epoch <= self._promised:"),
            Edit(
                "segments.core:SegmentCore._has_table",
                "self.state.table.epoch == epoch",
                "self.state.table.epoch >= epoch",
            ),
        ),
    ),
    Bug(
        name="queue-survives-seal",
        summary="input of an older epoch that was queued is persisted after the seal",
        section="protocol §7, step 2",
        edits=(
            Edit(_TAKE_OVER, "if epoch > self._promised:", "if False:"),
            Edit(
                _TAKE_OVER,
                "self._push(Pending(entry, epoch, answer=answer))",
                "self._queue.insert(0, Pending(entry, epoch, answer=answer))",
            ),
        ),
    ),
    Bug(
        name="gossip-resurrects",
        summary="annulled records are accepted from gossip",
        section="protocol §8",
        edits=(
            Edit(
                _ADMIT,
                "    if epoch == self._promised:",
                "    if isinstance(message, GossipStatus | GossipRecords):\n"
                "        return True\n"
                "    if epoch == self._promised:",
            ),
            Edit(_GOSSIP, "if table.epoch > self._state.table.epoch:", "if False:"),
            Edit(_GOSSIP, "if table.epoch < self._state.table.epoch:", "if False:"),
            Edit(
                "segments.state:SegmentState.add_run",
                "if run.lsns[0] > self.table.last_annulled_lsn:",
                "if True:",
            ),
        ),
    ),
    Bug(
        name="gc-above-pgmrpl",
        summary="a segment collects past the floor",
        section="protocol §6; 2017 §4.2.3",
        edits=(
            Edit(
                f"{_BACKGROUND}.collectable_floor",
                "min(self._state.announced_floor, self._state.vdl)",
                "self._state.vdl",
            ),
        ),
    ),
    Bug(
        name="serve-below-required",
        summary="reads are served by segments whose SCL is too low",
        section="protocol §5; 2018 §3.1",
        edits=(
            Edit(
                "aurora.read_router:ReadRouter.candidates",
                "[member for member in members if scls.get(member, 0) >= required_scl]",
                "list(members)",
            ),
            Edit(
                "segments.core:SegmentCore._can_answer",
                "if required_scl <= state.scl and read_point >= state.floor:",
                "if read_point >= state.floor:",
            ),
        ),
    ),
    Bug(
        name="coalesce-above-vdl",
        summary="versions of pages above the VDL are kept",
        section="protocol §6; 2017 §3.3",
        edits=(
            Edit(
                "segments.layers.materializer:Materializer._page",
                "min(reading.read_point, self._vdl, self._index.scl)",
                "min(reading.read_point, self._index.scl)",
            ),
        ),
    ),
    Bug(
        name="retransmit-not-idempotent",
        summary="a record that comes again is linked again",
        section="protocol §4, step 5",
        edits=(
            Edit(
                "segments.chain_index:ChainIndex._insert",
                "    if held.run.prev_lsn == self.scl and",
                "    if held.lsns[-1] == self.scl:\n        self._link(held)\n"
                "    if held.run.prev_lsn == self.scl and",
            ),
        ),
    ),
    Bug(
        name="torn-tail-kept",
        summary="a restarted segment appends after what a crash has torn",
        section="protocol §6",
        edits=(Edit("segments.server:SegmentServer._restart", "if plan.torn_bytes:", "if False:"),),
    ),
    Bug(
        name="wiped-rejoins",
        summary="a wiped segment copies from its peers and takes its old place",
        section="protocol §8",
        edits=(
            *_WIPED_COMES_BACK,
            Edit(
                "segments.state:SegmentState.restore_steps",
                "if scan.damage:",
                f"if scan.frames[:1] == () or {_FOLLOWS_A_BLANK_DISK}:\n"
                f"        state._repair_lsn = {_BLANK}\n"
                "    elif scan.damage:",
            ),
            Edit(
                "segments.state:SegmentState.lacks_records",
                "return self.index.scl < self._repair_lsn",
                f"copied = self._repair_lsn == {_BLANK} and 0 < self.vdl <= self.index.scl\n"
                "    return not copied and self.index.scl < self._repair_lsn",
            ),
        ),
    ),
    Bug(
        name="amnesiac-votes",
        summary="a wiped segment answers Seal with the nothing that it has",
        section="protocol §8",
        edits=_WIPED_COMES_BACK,
    ),
)
