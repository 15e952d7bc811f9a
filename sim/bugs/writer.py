"""Bugs of the writer: quorums, watermarks, LSNs and its cache of pages."""

from __future__ import annotations

from typing import Final

from sim.bugs.registry import Bug, Edit

_QUORUM_RULES: Final = "aurora.quorum:QuorumModel.__attrs_post_init__"
_OPEN_WRITER: Final = "aurora.cluster:Cluster.open_writer"
_ADVANCE: Final = "aurora.consistency:VolumeConsistency.advance"
_VCL: Final = "aurora.consistency:VolumeConsistency.vcl"

WRITER_BUGS: Final = (
    Bug(
        name="write-quorum-3",
        summary="commit at 3 of 6",
        section="protocol §1; 2017 §2.1",
        edits=(
            Edit(_QUORUM_RULES, "self.write + self.read <= votes", "False"),
            Edit(_QUORUM_RULES, "2 * self.write <= votes", "False"),
            Edit(_OPEN_WRITER, "QuorumModel(group.members)", "QuorumModel(group.members, write=3)"),
        ),
    ),
    Bug(
        name="read-quorum-2",
        summary="recover from 2 of 6",
        section="protocol §1; 2017 §2.1",
        edits=(
            Edit(_QUORUM_RULES, "self.write + self.read <= votes", "False"),
            Edit(_OPEN_WRITER, "QuorumModel(group.members)", "QuorumModel(group.members, read=2)"),
        ),
    ),
    Bug(
        name="vdl-not-cpl",
        summary="VDL = VCL, even in the middle of a mini-transaction",
        section="protocol §1; 2017 §4.1",
        edits=(
            Edit("aurora.consistency:VolumeConsistency.vdl", "self._vdl", "self.vcl"),
            Edit("aurora.recovery:plan_recovery", "if record.is_cpl:", "if True:"),
        ),
    ),
    Bug(
        name="third-highest-scl",
        summary="PGCL = the 3rd highest SCL",
        section="protocol §1; 2018 §2.3",
        edits=(
            Edit("aurora.quorum:QuorumModel.complete_lsn", "ranked[-self.write]", "ranked[-3]"),
        ),
    ),
    Bug(
        name="count-per-record",
        summary="acknowledgements count record by record, whatever is missing before; "
        "recovery counts SCLs",
        section="protocol §3",
        edits=(
            Edit(
                "aurora.core:WriterCore._on_ack",
                "    stream.on_ack(ack, now)\n",
                "    acked = [each.last_lsn for each in stream._in_flight if each.seq == ack.seq]\n"
                "    stream.on_ack(ack, now)\n",
            ),
            Edit(
                "aurora.core:WriterCore._on_ack",
                "self._observe(stream, ack.scl)",
                "self._observe(stream, max([ack.scl, *acked]))",
            ),
        ),
    ),
    Bug(
        name="vcl-max-pgcl",
        summary="VCL = max(PGCL)",
        section="protocol §3",
        edits=(
            Edit(_ADVANCE, "<= pgcls[outstanding[0][2]]", "<= max(pgcls.values())"),
            Edit(_VCL, "self._pgcls[pg_id]", "max(self._pgcls.values())"),
        ),
    ),
    Bug(
        name="vcl-min-pgcl",
        summary="VCL = min(PGCL): an idle group stalls all others",
        section="protocol §3",
        edits=(
            Edit(_ADVANCE, "<= pgcls[outstanding[0][2]]", "<= min(pgcls.values())"),
            Edit(_VCL, "self._pgcls[pg_id]", "min(self._pgcls.values())"),
        ),
    ),
    Bug(
        name="evict-above-vdl",
        summary="pages are evicted that are not durable yet",
        section="protocol §5",
        edits=(
            Edit(
                "aurora.buffer_pool:BufferPool._may_evict",
                "return entry.head_lsn <= vdl or (",
                "return True or (",
            ),
        ),
    ),
    Bug(
        name="lal-ignored",
        summary="LSNs are allocated without a limit",
        section="protocol §1; 2017 §4.2.1",
        edits=(
            Edit(
                "aurora.lsn_allocator:LsnAllocator.can_allocate",
                "return self._last_lsn + count <= self.limit(vdl)",
                "return True",
            ),
        ),
    ),
    Bug(
        name="newer-for-older",
        summary="the cache serves a newer version to an older read point",
        section="protocol §5",
        edits=(
            Edit(
                "aurora.buffer_pool:BufferPool._holds",
                "return entry.page_lsn <= read_point",
                "return True",
            ),
        ),
    ),
    Bug(
        name="same-mtr-chain",
        summary="two writes of one mini-transaction to one page do not chain to each other",
        section="protocol §2; 2018 §2.2",
        edits=(
            Edit(
                "aurora.mtr:VolumeChains.chain",
                "segment_heads[pg_id] = page_heads[page_id] = prev_volume_lsn = lsn",
                "segment_heads[pg_id] = prev_volume_lsn = lsn",
            ),
            Edit(
                "aurora.buffer_pool:BufferPool.apply",
                "assert record.prev_page_lsn == entry.head_lsn, (record, entry.head_lsn)",
                "pass",
            ),
        ),
    ),
)
