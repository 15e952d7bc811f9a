"""What must hold when all has healed and come to rest (18, 21, 22, 24, 25).

As in `sim.check.invariants`: predicates, which raise `Broken`. `sim.check.ending` holds them, and
waits for them within the bound that a run has to come to its end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aurora.engine import Engine
from segments.core import SegmentCore
from segments.manifest import MANIFEST, PROMISE, decode_manifest
from segments.protocol.ids import Lsn, PgId, SegmentId
from segments.restart import RestartPlan
from segments.state import SegmentState
from sim.check.invariants import Broken, holds


@holds("no-needless-loss")
def is_lost_rightly(segment: SegmentId, lost: str | None, taken: bool) -> None:
    """21: ``taken`` says whether its disk was wiped, or spoilt beyond what a segment survives."""
    if lost is not None and not taken:
        raise Broken(f"{segment} is lost ({lost}); nobody has taken its disk")


@holds("heals-and-converges")
def all_is_durable(writer: str, vdl: Lsn, last: Lsn) -> None:
    """18: what was made part of the log has become durable."""
    if vdl != last:
        raise Broken(f"{writer} has VDL {vdl}, and made records up to {last}")


@holds("heals-and-converges")
def is_heard_of(writer: str, segment: SegmentId, known: Lsn, scl: Lsn) -> None:
    """18: the writer has asked who was behind how far gossip has brought it.

    Until then it neither reads from it, nor counts it, nor sends to it.
    """
    if known != scl:
        raise Broken(f"{writer} takes {segment} to be at SCL {known}: expected {scl}, which it has")


@holds("nothing-is-left")
def nobody_is_served(engine: Engine) -> None:
    """24, for a writer that nobody calls at this moment, open or ended.

    Commits may go on whose callers gave up.
    """
    _keeps_nothing(f"{engine.name}, which nobody calls,", _kept_for_calls(engine))


@holds("nothing-is-left")
def writer_is_idle(engine: Engine) -> None:
    """24, in the end, for a writer, open or ended: no call has left anything behind in it."""
    recovering = engine.error is None and engine.recovery and not engine.recovery.done
    left = _kept_for_calls(engine) | {
        "commits that wait": len(engine._shell.commits),
        "recoveries under way": 1 if recovering else 0,
    }
    _keeps_nothing(f"{engine.name}, though every call has ended,", left)


def _kept_for_calls(engine: Engine) -> dict[str, int]:
    """What a writer keeps for calls while they last."""
    shell, core = engine._shell, engine.core
    kept = {"calls that wait": len(shell._waiting)}
    if shell._intake is not None:
        kept["commits in line for room"] = len(shell._intake.line)
        kept["commits in line for places"] = len(shell._intake.places)
        kept["commits that are stuck"] = len(shell._intake.stuck)
        kept["mini-transactions in part"] = 1 if shell._intake.running else 0
    if core is not None:
        kept["pinned pages"] = core.pool.statistics.pinned_pages
        kept["watched pages"] = len(core.pool._watched)
        kept["reads"] = len(core.reading._reads)
        kept["strict reads"] = len(core.reading._confirmations)
        kept["held read points"] = len(core.reading._read_points)
    return kept


def _keeps_nothing(who: str, left: Mapping[str, int]) -> None:
    found = "; ".join(f"{what}: {count}" for what, count in left.items() if count)
    if found:
        raise Broken(f"{who} keeps {found}")


@holds("nothing-is-left")
def refused_is_not_written(number: int, how: str, lsns: Sequence[Lsn]) -> None:
    """24, for a write that was refused, or given up before the log took it: ``how`` says which."""
    if lsns:
        raise Broken(f"call {number} was {how}, and LSN {lsns} are its own")


@holds("nothing-is-left")
def segment_is_idle(segment: SegmentId, core: SegmentCore) -> None:
    """24, for a segment: nothing is under way, nor promised and not done."""
    left = {
        "waits for its disk": bool(core._queue) or core._in_flight is not None,
        "applies a write": core.applying,
        f"has promised epoch {core._promised}, beyond {core.state.epoch}":
            core._promised != core.state.epoch,
        "takes a layer from a peer": core.gossip.transfer is not None,
        "reads for a question": core.querying > 0,
        "owes its promise": core.scrub.promise_due,
        "owes its manifest": core.scrub.manifest_is_damaged,
        "owes a new file of its log": core.background.new_file_due,
    }  # fmt: skip
    found = ", ".join(what for what, so in left.items() if so)
    if found:
        raise Broken(f"{segment} {found}, though all has come to rest")


@holds("floor-follows")
def floor_is_known(segment: SegmentId, state: SegmentState, vdl: Lsn, floor: Lsn) -> None:
    """25: heartbeats have told a segment where VDL and floor of its writer are."""
    if state.vdl != vdl or state.announced_floor != floor:
        raise Broken(
            f"{segment} has heard of VDL {state.vdl} and floor {state.announced_floor}: expected "
            f"{vdl} and {floor}"
        )


@holds("floor-follows")
def is_collected(
    segment: SegmentId, below: Sequence[int], pages_bytes: float, ratio: float, fold_bytes: int
) -> None:
    """25: of what is ``below`` the floor so little is left that it is not worth a turn.

    As the lengths of layers that are no base. Pages as of the last of them take ``pages_bytes``.
    """
    most = max(fold_bytes, ratio * pages_bytes)
    if sum(below) >= most:
        raise Broken(
            f"{segment} still has layers of {list(below)} bytes below its floor: expected less "
            f"than {most:.0f} bytes"
        )


@holds("disks-are-whole")
def disk_is_whole(
    segment: SegmentId, state: SegmentState, plan: RestartPlan, log_bytes: int
) -> None:
    """22: ``plan`` is what a restart would make of it: nothing to mend, and the same segment."""
    restored, readable = plan.state, plan.files.log_bytes
    if plan.damage or plan.torn_bytes or readable != log_bytes:
        places = ", ".join(f"{each.start} to {each.end}" for each in plan.damage) or "none"
        raise Broken(
            f"the disk of {segment} can be read up to byte {readable} of {log_bytes}, with "
            f"damage at bytes {places}: expected all of it"
        )
    if plan.promise is not None or restored.promise != state.promise:
        kept = state.promise
        raise Broken(
            f"the promise slots of {segment} do not both hold what it promises, epoch {kept.epoch} "
            f"and the table of epoch {kept.table_epoch}: a restart finds epoch "
            f"{restored.promise.epoch} and {restored.promise.table_epoch}"
        )
    said = (state.scl, state.epoch, state.table, state.whole, state.folded, state.floor)
    found = (
        restored.scl, restored.epoch, restored.table, restored.whole,
        restored.folded, restored.floor,
    )  # fmt: skip
    if said != found:
        raise Broken(
            f"{segment} says SCL, epoch, table, whole, folded, floor {said}; its disk restores "
            f"{found}"
        )
    ours, theirs = (
        [(each.number, each.start, each.end, each.new_page_count) for each in layers]
        for layers in (state.layers, restored.layers)
    )
    if ours != theirs:
        raise Broken(
            f"{segment} has layers (number, start, end, new pages) {ours}; its disk restores "
            f"{theirs}"
        )


@holds("disks-are-whole")
def files_are_whole(segment: SegmentId, names: Sequence[str], manifest: bytes) -> None:
    """22: both halves of the manifest are sound, and no file is there that it does not name."""
    said = decode_manifest(manifest)
    middle = len(manifest) // 2
    if said is None or manifest[:middle] != manifest[middle:]:
        raise Broken(f"the manifest of {segment} is spoilt: expected two halves that are the same")
    expected = sorted([MANIFEST, PROMISE, *said.names])
    if sorted(names) != expected:
        raise Broken(f"the disk of {segment} has {', '.join(names)}: expected {expected}")


@holds("disks-are-whole")
def log_is_held(
    segment: SegmentId, pg_id: PgId, missing: Lsn | None, restored: SegmentState
) -> None:
    """22: the log restored from a disk has each record of its group that is not folded."""
    if missing is not None:
        raise Broken(
            f"the disk of {segment} lacks LSN {missing} of group {pg_id}, between "
            f"{restored.index.base_lsn} and {restored.scl}"
        )
