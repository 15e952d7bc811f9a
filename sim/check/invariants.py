"""The invariants of the protocol (§11): each a number and a name, with the predicates that hold it.

A predicate raises `Broken` with the values that show it, and returns otherwise. It looks at the
system from outside: at what clients were told, what stands on the wire and on disks, and at the
reference model; cores are looked at, but for what they hold and not for what they say of it. 2 is
imagined at length in `sim.check.what_if`, 19 judged in `sim.check.linearizability`, and from 20 on
the predicates stand in `rules_of_logs`, `rules_of_floors`, `rules_of_wire`, `rules_of_bounds` and
`rules_of_the_end`, those of 28 in `rules_of_availability`, of 30 in `rules_of_rollback`, of 33 to
38 in `rules_of_sql`; more of 6, 7 and 8 in `rules_of_disks`.

Verified, in every run: allocation of LSNs (1, 11, 12), watermarks and quorums, also against what is
on disks (3, 4, 5, 9, 15, 20), what a segment holds, promises, says and has on its disk (6, 7, 8,
10, 16, 27), that nobody counts on disks known to be rolled back (30), what recoveries annul, and
that any read quorum recovers (26, 2), what readers read and may still need (13, 14), where the
floor is (25), commits as clients are told of them (17, 19), the bounds of all settings (23), and
that everything comes back after the last fault: finished, at rest, whole and without anything left
over (18, 21, 22, 24); and that all goes on where the failure table of protocol §9 says so (28).

Sampled, as it is costly: recoveries from any read quorum and everything that is looked at now and
then come every few steps (`Knobs.check_every`), a segment is compared with its disk in turn, one
acknowledgement in eight is held against the disk at the moment it leaves (seal replies and answers
to a table always), and the first few messages of each kind and one in 64 are read as their
receivers will read them.

Still asked of the system itself: the read points that its own calls hold (14, beside those of the
clients' views), the newest page that its pool says to have evicted (15, beside what has left the
pool), how long it believes its log to be (7, beside the disk itself), and which calls wait (24).

Not verified here: how fast anything is within the bounds of 28; damage to a log's last frame, which
nobody can tell from a torn write; paces and timeouts other than those of writes sent again
(`rules_of_bounds.NOT_HELD`); that a segment has heard of a raised floor while the run goes on, but
only in the end; what a scenario in Python leaves open, and the floor under it; in which order pages
are listed by calls that run side by side; clocks, of which the protocol uses none for safety; and
what a network forges, since it only loses, repeats, delays and reorders.

(More than 400 lines: all rules in one place.)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise
from typing import Final, TypeVar

import attrs

from aurora.core import WriterCore
from aurora.quorum import QuorumModel
from segments.layers.page_cache import Version
from segments.protocol.errors import MalformedFrame
from segments.protocol.ids import Lsn, PageId, PgId, SegmentId, VolumeEpoch
from segments.protocol.messages import PageImage
from segments.protocol.record import EMPTY_PAGE, PAGE_SIZE, RedoRecord
from segments.protocol.truncation import TruncationTable
from segments.state import SegmentState
from segments.wal import decode_promises
from segments.wal_scan import DamagedRange
from sim.check.linearizability import check_calls
from sim.check.reference_model import Reference, WriterView, is_annulled
from sim.world.history import Call, Outcome

_RULE: Final = "rule"
_FIRST_OF_SQL: Final = 33
_F = TypeVar("_F", bound=Callable[..., object])


class Broken(Exception):
    """An invariant does not hold; the text shows the values."""


@attrs.frozen
class Invariant:
    """One rule that must hold."""

    number: int
    name: str
    text: str

    @property
    def of_sql(self) -> bool:
        """Whether only a volume that is a database can break it."""
        return self.number >= _FIRST_OF_SQL


INVARIANTS: Final = {
    each.name: each
    for each in (
        Invariant(1, "one-lsn-one-record", "an LSN names one record; none is in an annulled range"),
        Invariant(2, "any-read-quorum-recovers", "every 3 of 6 recover every acknowledged commit"),
        Invariant(3, "vdl-is-a-cpl", "VDL is a CPL <= VCL; all up to VCL is at its group's PGCL"),
        Invariant(4, "vdl-never-goes-back", "no VDL that anyone observed is ever taken back"),
        Invariant(5, "pgcl-is-backed", "4 of 6 members durably hold everything up to the PGCL"),
        Invariant(
            6, "scl-has-no-gap", "everything up to an SCL is held, on disk, also after restart"
        ),
        Invariant(7, "ack-after-sync", "no acknowledgement leaves before its bytes are durable"),
        Invariant(8, "epochs-only-rise", "a segment's epoch never falls; lower ones are refused"),
        Invariant(
            9, "sealed-means-over", "after a sealed read quorum no lower epoch gains a quorum"
        ),
        Invariant(10, "annulled-is-gone", "no record lies inside its segment's truncation table"),
        Invariant(
            11, "range-covers-the-past", "all LSNs of the past are <= the range's end, or VDL"
        ),
        Invariant(12, "lal-bounds-the-log", "LSN <= max(VDL, end) + LAL; an MTR's are contiguous"),
        Invariant(13, "reads-match-the-model", "a page read at an LSN is the model's page there"),
        Invariant(14, "floor-below-readers", "no floor is above the read point of a reader"),
        Invariant(15, "evicted-is-durable", "an evicted page's LSN is <= the VDL"),
        Invariant(16, "images-match-replay", "every kept image equals the replay of the log"),
        Invariant(
            17, "reported-once-when-durable", "a commit is reported once, when VDL >= its LSN"
        ),
        Invariant(18, "heals-and-converges", "after faults heal all finishes, and segments agree"),
        Invariant(19, "history", "what clients were told fits one order of all their calls"),
        Invariant(20, "watermarks-only-rise", "PGCL, VCL, VDL and SCL never fall meanwhile"),
        Invariant(21, "no-needless-loss", "no segment is lost whose disk nobody has taken"),
        Invariant(22, "disks-are-whole", "in the end each disk restores what its segment says"),
        Invariant(23, "bounds-are-kept", "whatever a setting bounds stays within it"),
        Invariant(24, "nothing-is-left", "of calls that have ended nothing is left"),
        Invariant(25, "floor-follows", "the floor is where readers and retention allow it"),
        Invariant(26, "annuls-above-the-vdl", "a recovery annuls all above its VDL, and no more"),
        Invariant(27, "a-seal-is-final", "sealed, a segment answers no older epoch with more"),
        Invariant(
            28, "needless-unavailability", "what the failure table says goes on does so, in bounds"
        ),
        Invariant(
            29, "tables-settle", "a table is settled once all members have it, and then soon"
        ),
        Invariant(
            30, "layers-hold-the-log", "a layer has the records of its range, none above the VDL"
        ),
        Invariant(31, "clocks-go-forward", "each CPL, and it alone, carries its writer's clock"),
        Invariant(
            32, "rollback-is-seen", "nobody counts on a disk of which somebody there heard of more"
        ),
        Invariant(
            33, "sql-reads-match-a-commit", "SQL sees what another SQLite makes of the same commits"
        ),
        Invariant(34, "sql-money-is-conserved", "in all that SQL reads each transfer is whole"),
        Invariant(
            35, "sql-transfers-once", "what SQL has acknowledged is there once, a refused never"
        ),
        Invariant(36, "sql-one-mtr", "a SQL transaction is one MTR, its stamp the last record"),
        Invariant(37, "sql-gives-out-the-durable", "what SQL has told of was durable when it did"),
        Invariant(38, "sql-database-is-sound", "SQLite's own check of the database finds nothing"),
    )
}


WRITE_QUORUM: Final = 4
READ_QUORUM: Final = 3
"""Of six members, whatever the code under test believes.

`aurora.quorum.QuorumModel` counts votes for everyone else; this is the oracle that would notice if
it counted wrongly.
"""


def holds(name: str) -> Callable[[_F], _F]:
    """Mark a predicate as one of those that hold the invariant ``name``."""

    def mark(predicate: _F) -> _F:
        setattr(predicate, _RULE, INVARIANTS[name])
        return predicate

    return mark


def rule_of(predicate: Callable[..., object]) -> Invariant:
    """The invariant that a predicate holds."""
    rule: Invariant = getattr(predicate, _RULE)
    return rule


# ---- allocation (1, 11, 12) ----------------------------------------------------------------------


@holds("one-lsn-one-record")
def new_records(reference: Reference, view: WriterView, records: Sequence[RedoRecord]) -> None:
    """1, for the records of one MTR; a writer leaves out no LSN."""
    last, first = reference.highest_by.get(view.name), records[0].lsn
    if last is not None and first != last + 1:
        raise Broken(f"{view.name} allocates LSN {first} after {last}: those between are lost")
    for record in records:
        if record.lsn in reference.records:
            raise Broken(f"{view.name} allocates LSN {record.lsn} again")
        if is_annulled(view.annulled, record.lsn):
            raise Broken(f"{view.name} allocates LSN {record.lsn} in an annulled range")


@holds("one-lsn-one-record")
def names_the_one_before(
    reference: Reference, view: WriterView, records: Sequence[RedoRecord]
) -> None:
    """1, for the records of one MTR: each names the record of its page that stands before it."""
    newest: dict[PageId, Lsn] = {}
    for lsn, page_id, prev in ((each.lsn, each.page_id, each.prev_page_lsn) for each in records):
        expected = newest[page_id] if page_id in newest else reference.newest_of(view, page_id)
        if prev != expected:
            raise Broken(
                f"{view.name} allocates LSN {lsn} of page {page_id} after {prev}: expected "
                f"{expected}, the last record of that page before it"
            )
        newest[page_id] = lsn


@holds("lal-bounds-the-log")
def within_lal(
    view: WriterView,
    core: WriterCore,
    lal: int,
    records: Sequence[RedoRecord],
    before: RedoRecord | None,
) -> None:
    """12, for the records of one MTR, or of a part of one.

    ``before`` is its writer's last record: if that does not end its MTR, these go on with it.
    """
    first = records[0].lsn
    mtr_id = first if before is None or before.is_cpl else before.mtr_id
    limit = max(core.vdl, view.table.last_annulled_lsn) + lal
    for position, record in enumerate(records):
        ends = record.is_cpl and position < len(records) - 1
        if record.lsn != first + position or ends:
            raise Broken(f"{view.name}: LSN {record.lsn} is number {position} after {first}")
        if record.mtr_id != mtr_id:
            raise Broken(
                f"{view.name}: LSN {record.lsn} is of the mini-transaction that begins at "
                f"{record.mtr_id}: expected {mtr_id}"
            )
    if records[-1].lsn > limit:
        raise Broken(f"{view.name} allocates LSN {records[-1].lsn}: limit {limit}")


@holds("range-covers-the-past")
def within_ranges(reference: Reference, epoch: VolumeEpoch, highest: Lsn) -> None:
    """11, for an LSN that a writer of ``epoch`` has allocated: every successor has covered it."""
    for other in reference.writers.values():
        if other.opened and other.epoch > epoch:
            covered = max(other.table.last_annulled_lsn, other.vdl)
            if highest > covered:
                raise Broken(f"LSN {highest} of epoch {epoch}: {other.name} covers up to {covered}")


# ---- watermarks (3, 4, 5, 9, 15) -----------------------------------------------------------------


@holds("vdl-is-a-cpl")
def watermarks(
    reference: Reference, core: WriterCore, view: WriterView, last_vcl: Lsn, fresh: Sequence[Lsn]
) -> None:
    """3: ``fresh`` are the live LSNs that the VCL has newly passed, since it was ``last_vcl``."""
    vdl, vcl = core.vdl, core.vcl
    if vcl < last_vcl:
        raise Broken(f"{view.name}: VCL from {last_vcl} to {vcl}")
    if vdl > vcl:
        raise Broken(f"VDL {vdl} is above VCL {vcl}")
    if vdl != view.vdl and not (vdl in reference.records and reference.records[vdl].is_cpl):
        raise Broken(f"VDL {vdl} is not a CPL")
    for lsn in fresh:
        pg_id = reference.pg_of(lsn)
        if lsn > core.pgcl(pg_id):
            raise Broken(f"LSN {lsn} <= VCL {vcl} is above PGCL {core.pgcl(pg_id)} of PG {pg_id}")


@holds("vdl-is-a-cpl")
def vcl_follows(reference: Reference, core: WriterCore, view: WriterView) -> None:
    """3, from above: the record behind the VCL is not at its group's PGCL yet."""
    lsn = reference.next_live(view, core.vcl)
    if lsn is not None and lsn <= core.pgcl(reference.pg_of(lsn)):
        raise Broken(
            f"{view.name}: VCL {core.vcl} stays behind: LSN {lsn} is at the PGCL of PG "
            f"{reference.pg_of(lsn)}, {core.pgcl(reference.pg_of(lsn))}"
        )


@holds("pgcl-is-backed")
def pgcl_backed(
    model: QuorumModel, pgcl: Lsn, held: Mapping[SegmentId, Lsn], epoch: VolumeEpoch
) -> None:
    """5: ``held`` is the highest SCL each member has durably had with the writer's table."""
    backing = [member for member in model.members if held.get(member, 0) >= pgcl]
    if len(backing) < WRITE_QUORUM:
        scls = ", ".join(f"{each} {held[each]}" for each in model.members if each in held)
        others = " ".join(each for each in model.members if each not in held)
        raise Broken(
            f"PGCL {pgcl} of epoch {epoch} is backed by {' '.join(backing) or 'nobody'} only; "
            f"durable SCLs with its table: {scls or 'none'}"
            + (f"; without its table: {others}" if others else "")
        )


@holds("vdl-never-goes-back")
def opens_above_the_observed(view: WriterView) -> None:
    """4, for a writer that opens the volume."""
    if view.vdl < view.observed_before:
        raise Broken(
            f"{view.name} opens at VDL {view.vdl}; {view.observed_before} had been observed"
        )


@holds("vdl-never-goes-back")
def vdl_rises(view: WriterView, before: Lsn, vdl: Lsn) -> None:
    """4, for a writer whose VDL was ``before``, as it says itself."""
    if vdl < before or vdl < view.last_vdl:
        raise Broken(f"{view.name}: VDL from {view.last_vdl} to {vdl}")


@holds("sealed-means-over")
def no_quorum_below_the_sealed(
    pg_id: PgId, pgcl: Lsn, epoch: VolumeEpoch, sealed: Collection[tuple[VolumeEpoch, Lsn]]
) -> None:
    """9, for a PGCL that a writer of ``epoch`` has gained.

    ``sealed`` are the highest epoch that each member has sealed, and its SCL at that moment.
    """
    above = [scl for sealed_epoch, scl in sealed if sealed_epoch > epoch]
    if len(above) >= READ_QUORUM and pgcl > max(above):
        raise Broken(
            f"epoch {epoch} gained PGCL {pgcl} in PG {pg_id} after {len(above)} of 6 "
            f"had sealed above it with SCLs up to {max(above)}"
        )


@holds("evicted-is-durable")
def evicted_is_durable(view: WriterView, newest_evicted: Lsn, vdl: Lsn) -> None:
    """15: ``newest_evicted`` is the highest LSN of all pages that its buffer pool has evicted."""
    if newest_evicted > max(vdl, view.vdl):
        raise Broken(f"{view.name} evicted a page of LSN {newest_evicted} at VDL {vdl}")


# ---- commits (17, 19) ----------------------------------------------------------------------------


@holds("reported-once-when-durable")
def commit_is_durable(reference: Reference, lsn: Lsn, vdl: Lsn) -> None:
    """17, for a commit that a client was told of by a writer at ``vdl``."""
    record = reference.records.get(lsn)
    if lsn > vdl or record is None or not record.is_cpl:
        raise Broken(f"commit {lsn} reported at VDL {vdl}")


@holds("reported-once-when-durable")
def reported_once(reported: Collection[Lsn], lsn: Lsn) -> None:
    """17: ``reported`` are the commits that clients have been told of before."""
    if lsn in reported:
        raise Broken(f"commit {lsn} reported twice")


@holds("history")
def survives_whole(number: int, lsns: Sequence[Lsn], live: Sequence[Lsn], parts: int) -> None:
    """19, for a write of ``parts`` records whose outcome nobody was told."""
    if 0 < len(live) < parts:
        raise Broken(f"of call {number}, an MTR at {lsns}, only {live} survived")


@holds("history")
def fits_one_order(
    calls: Sequence[Call], survivors: Mapping[int, Sequence[Lsn]], deposed_ns: Mapping[str, int]
) -> None:
    """19: see `sim.check.linearizability.check_calls`."""
    anomaly = check_calls(calls, survivors, deposed_ns)
    if anomaly is not None:
        raise Broken(anomaly.text)


# ---- segments (6, 7, 8, 10, 18) ------------------------------------------------------------------


@holds("scl-has-no-gap")
def chain_complete(
    reference: Reference, segment: SegmentId, state: SegmentState, before: Lsn
) -> None:
    """6: every record from ``before`` (exclusive) up to the SCL is held."""
    index = state.index
    for lsn in reference.chain_down(state.scl, max(before, index.base_lsn)):
        if lsn not in index:
            raise Broken(f"{segment} says SCL {state.scl} and does not hold LSN {lsn}")


@holds("scl-has-no-gap")
def scl_rises(segment: SegmentId, before: Lsn, scl: Lsn) -> None:
    """6: records never take an SCL back."""
    if scl < before:
        raise Broken(f"{segment}: records took the SCL from {before} back to {scl}")


@holds("scl-has-no-gap")
def restart_keeps_scl(segment: SegmentId, state: SegmentState, held: Lsn) -> None:
    """6: a witness that restarts has what it durably ``held`` of its table's log."""
    if state.whole and state.scl < held:
        raise Broken(
            f"{segment} restarts as a witness with SCL {state.scl}, and had SCL {held} before"
        )


@holds("scl-has-no-gap")
def undamaged(segment: SegmentId, damage: Sequence[DamagedRange]) -> None:
    """6: of a log in which nothing has rotted every frame is good, a torn last one left out."""
    if damage:
        raise Broken(
            f"{segment} has damage in the middle of its log, at bytes "
            f"{', '.join(f'{each.start} to {each.end}' for each in damage)}, and nothing "
            "rotted there"
        )


@holds("ack-after-sync")
def acknowledges_what_is_synced(
    segment: SegmentId, scl: Lsn, written: Lsn, log_bytes: int, durable_bytes: int
) -> None:
    """7: what it acknowledges lies in ``log_bytes`` of log and in layers.

    ``written`` is the highest LSN in files whose writes have returned.
    """
    if scl > written or log_bytes > durable_bytes:
        raise Broken(
            f"{segment} acknowledges SCL {scl}, has written LSNs up to {written}, and takes its "
            f"log for {log_bytes} bytes, of which {durable_bytes} are durable"
        )


@holds("scl-has-no-gap")
def disk_backs(segment: SegmentId, state: SegmentState, restored: SegmentState) -> None:
    """6 and 7: what the running segment says is what its disk would restore."""
    if restored.table.epoch > state.table.epoch:
        return  # a truncation has this moment become durable, and is about to be applied
    if restored.scl < state.scl:
        raise Broken(f"{segment} says SCL {state.scl}; its disk holds up to {restored.scl}")
    if restored.epoch < state.epoch or restored.table.epoch < state.table.epoch:
        raise Broken(
            f"{segment} is in epoch {state.epoch} with the table of epoch {state.table.epoch}; "
            f"its disk says epoch {restored.epoch} and the table of epoch {restored.table.epoch}"
        )


@holds("epochs-only-rise")
def epoch_rises(segment: SegmentId, known: VolumeEpoch, epoch: VolumeEpoch) -> None:
    """8: ``known`` is the highest that the segment has been in."""
    if epoch < known:
        raise Broken(f"{segment} went from epoch {known} to epoch {epoch}")


@holds("epochs-only-rise")
def batch_of_our_epoch(segment: SegmentId, known: VolumeEpoch, epoch: VolumeEpoch) -> None:
    """8, for a batch that a segment takes, of a writer of ``epoch``."""
    if epoch < known:
        raise Broken(f"{segment} in epoch {known} takes a batch of epoch {epoch}")


@holds("epochs-only-rise")
def promise_kept(segment: SegmentId, state: SegmentState, slots: bytes) -> None:
    """8: what the running segment answers by stands in the promise slots, before it answers."""
    try:
        kept = decode_promises(slots)
    except MalformedFrame as error:
        raise Broken(f"{segment} has lost its promise: {error}") from error
    promise = state.promise
    if kept.epoch < promise.epoch or kept.table_epoch < promise.table_epoch:
        raise Broken(
            f"{segment} answers by its promise of epoch {promise.epoch} and of the table of epoch "
            f"{promise.table_epoch}; its disk promises epoch {kept.epoch} and the table of epoch "
            f"{kept.table_epoch} only"
        )


@holds("epochs-only-rise")
def gossip_of_our_epoch(
    segment: SegmentId,
    state: SegmentState,
    known: VolumeEpoch,
    epoch: VolumeEpoch,
    table_epoch: VolumeEpoch,
) -> None:
    """8, for what a peer has sent: it must not be of an epoch below the ``known`` one.

    Nor of another table, since then the same LSN may name another record.
    """
    if epoch < known:
        raise Broken(f"{segment} in epoch {known} takes gossip of epoch {epoch}")
    if table_epoch != state.table.epoch:
        raise Broken(
            f"{segment} with the table of epoch {state.table.epoch} takes gossip of a segment with "
            f"the table of epoch {table_epoch}"
        )


@holds("one-lsn-one-record")
def held_once(segment: SegmentId, state: SegmentState) -> None:
    """1, for what a segment holds."""
    lsns = [record.lsn for record in state.index.held()]
    for before, lsn in pairwise(lsns):
        if lsn <= before:
            raise Broken(f"{segment} holds LSN {lsn} after {before}")


@holds("annulled-is-gone")
def nothing_annulled(segment: SegmentId, state: SegmentState, view: WriterView | None) -> None:
    """10; nor does a damaged segment wait for such a record.

    ``view`` is that of its table's writer: what that one has forgotten is annulled as well.
    """
    for record in state.index.held():
        if is_annulled(state.table.ranges, record.lsn):
            raise Broken(f"{segment} holds LSN {record.lsn}, which its table annuls")
        if view is not None and is_annulled(view.annulled, record.lsn):
            raise Broken(
                f"{segment} holds LSN {record.lsn}, which had been annulled when {view.name} began"
            )
    if is_annulled(state.table.ranges, state.highest_lsn):
        raise Broken(f"{segment} waits for LSN {state.highest_lsn}, which its table annuls")


@holds("heals-and-converges")
def has_everything(segment: SegmentId, state: SegmentState, epoch: VolumeEpoch, tail: Lsn) -> None:
    """18: once all has healed, a segment is whole and holds its group's log, up to ``tail``."""
    if not state.whole or state.table.epoch != epoch or state.scl != tail:
        raise Broken(
            f"{segment} has SCL {state.scl} with the table of epoch {state.table.epoch}: expected "
            f"SCL {tail} and epoch {epoch}"
        )


# ---- pages (13, 16, 18) --------------------------------------------------------------------------


@holds("reads-match-the-model")
def own_writes_are_read(reference: Reference, view: WriterView, call: Call, page: bytes) -> None:
    """13: a mini-transaction has read its first page with its own writes on it."""
    page_id = call.writes[0][0]
    _, before = reference.page_at(view, page_id, call.snapshot)
    expected = bytearray(before or EMPTY_PAGE)
    for written, offset, data in call.writes:
        if written == page_id:
            expected[offset : offset + len(data)] = data
    if page != expected:
        raise Broken(f"page {page_id} at {call.snapshot}: read without the own writes of a call")


@holds("reads-match-the-model")
def read_matches(
    reference: Reference, view: WriterView, page_id: int, read_point: Lsn, page: bytes | None
) -> None:
    """13: ``page`` is what the read returned, None for "not written"."""
    lsn, expected = reference.page_at(view, page_id, read_point)
    if page is None:
        if lsn:
            raise Broken(f"page {page_id} at {read_point}: not found, but written at {lsn}")
    elif not lsn:
        raise Broken(f"page {page_id} at {read_point}: found, but never written by then")
    elif page != expected:
        at = next(i for i, (one, two) in enumerate(zip(page, expected, strict=True)) if one != two)
        raise Broken(
            f"page {page_id} at {read_point}: byte {at} is {page[at]}, the model has "
            f"{expected[at]} (its newest change is LSN {lsn})"
        )


@holds("reads-match-the-model")
def head_matches(reference: Reference, view: WriterView, page: PageImage, before: Lsn) -> None:
    """13: a page's newest version, durable or not: no older than ``before``, when it was asked for.

    Nor is it in the middle of an MTR, whoever made that.
    """
    page_id, lsn, image = page
    found, expected = reference.page_at(view, page_id, lsn)
    if lsn < before or found != lsn:
        raise Broken(
            f"the head of page {page_id} is given as {lsn}, where the model has {found}: expected "
            f"{before}, its newest change at the call, or a later one"
        )
    later = reference.next_of(view, page_id, lsn)
    if lsn and later and reference.records[later].mtr_id == reference.records[lsn].mtr_id:
        raise Broken(
            f"the head of page {page_id} is given as {lsn}, which is in the middle of a "
            f"mini-transaction that changes the page at {later}, too"
        )
    if image != expected:
        raise Broken(f"the head of page {page_id}, at {lsn}, is not what the model has")


@holds("reads-match-the-model")
def list_matches(
    reference: Reference, view: WriterView, first: int, read_point: Lsn, listed: Sequence[int]
) -> None:
    """13: ``listed`` are the pages from ``first`` on that a writer says exist at the read point."""
    known = (each for each in reference.pages() if each >= first)
    expected = [each for each in known if reference.exists(view, each, read_point)]
    if list(listed) != expected:
        missing = sorted(set(expected) - set(listed))
        raise Broken(
            f"the list of pages from {first} on at {read_point}: lacks {missing}, has "
            f"{sorted(set(listed) - set(expected))} too many, of {len(expected)} in the model"
        )


@holds("reads-match-the-model")
def changes_match(
    reference: Reference, view: WriterView, after: Lsn, read_point: Lsn, listed: Sequence[int]
) -> None:
    """13: ``listed`` are the pages with a change above ``after``, up to the read point."""
    expected = [
        each for each in reference.pages() if reference.page_at(view, each, read_point)[0] > after
    ]
    if list(listed) != expected:
        raise Broken(
            f"the pages that changed after {after}, up to {read_point}, are given as "
            f"{list(listed)}: expected {expected}"
        )


@holds("heals-and-converges")
def page_agrees(
    reference: Reference, view: WriterView, page_id: int, vdl: Lsn, page: bytes | None
) -> None:
    """18: in the end each segment's page at the VDL is the model's."""
    read_matches(reference, view, page_id, vdl, page)


@holds("images-match-replay")
def image_matches(
    reference: Reference,
    view: WriterView,
    where: str,
    vdl: Lsn,
    page_id: int,
    lsn: Lsn,
    image: bytes,
) -> None:
    """16: an image kept anywhere is the replay of the log at its LSN, <= the announced VDL."""
    if lsn > vdl:
        raise Broken(f"{where} keeps an image of page {page_id} at {lsn}: announced VDL {vdl}")
    found, expected = reference.page_at(view, page_id, lsn)
    if found != lsn or image.ljust(PAGE_SIZE, b"\0") != expected:
        raise Broken(f"{where} keeps an image of page {page_id} at {lsn} that no replay gives")


@holds("images-match-replay")
def version_matches(
    reference: Reference, view: WriterView, where: str, vdl: Lsn, page_id: int, version: Version
) -> None:
    """16: a version that is kept is the newest as far as it says, which is not above the VDL."""
    lsn, image, through = version
    if through > vdl:
        raise Broken(f"{where} keeps page {page_id} as of {through}: announced VDL {vdl}")
    newest, _ = reference.page_at(view, page_id, through)
    if newest != lsn:
        raise Broken(
            f"{where} takes {lsn} for the newest LSN of page {page_id} up to {through}: "
            f"expected {newest}"
        )
    image_matches(reference, view, where, vdl, page_id, lsn, image)


# ---- readers (14) --------------------------------------------------------------------------------


@holds("floor-below-readers")
def opens_readable(writer: str, vdl: Lsn, floor: Lsn) -> None:
    """14, for a writer that opens the volume: what is durable can be read, at the VDL at least."""
    if floor > vdl:
        raise Broken(f"{writer} opens at VDL {vdl} with the floor at {floor}: nothing can be read")


@holds("floor-below-readers")
def was_not_collected(writer: str, call: Call, floor: Lsn | None) -> None:
    """14: clients ask for nothing below the floor, so that what they ask for stays while they do.

    ``floor`` is where it is now.
    """
    if call.outcome is Outcome.TOO_OLD:
        raise Broken(
            f"{writer}: the version at {call.lsn} has been collected while it was read, "
            f"with the floor at {floor} now"
        )


@holds("floor-below-readers")
def floor_is_below_view(writer: str, call: Call, floor: Lsn) -> None:
    """14, for a call that keeps a read point: a view, a strict read, a mini-transaction that reads.

    At LSN 0 if it keeps none.
    """
    if call.held and floor > call.held:
        raise Broken(
            f"{writer} has raised its floor to {floor}; a reader of {writer} is at {call.held}, in "
            f"call {call.number} ({call.operation.kind})"
        )


@holds("floor-below-readers")
def collects_below(
    segment: SegmentId, floor: Lsn, writer: str, oldest: Lsn, inherited: Lsn
) -> None:
    """14: what it had collected for an earlier writer it cannot give back, and others answer."""
    if floor > max(oldest, inherited):
        raise Broken(f"{segment} has collected up to {floor}; a reader of {writer} is at {oldest}")


def newest_view(reference: Reference, table: TruncationTable) -> WriterView | None:
    """The writer whose table this is: who can say what its log must look like."""
    return reference.view_of(table.epoch)
