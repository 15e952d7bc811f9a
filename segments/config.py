"""Limits and intervals of a segment, and how settings are defined everywhere.

A setting is a field made by `setting`: its default, both of its bounds, its unit and its cost stand
there, and what it means stands in the docstring below it. `check_relations` looks at what settings
of one configuration demand of each other. docs/settings.md is made from all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from operator import attrgetter
from typing import Any, Final, NamedTuple, TypeVar, cast

import attrs

from segments.protocol.errors import InvalidConfig

_T = TypeVar("_T")
Number = int | float

DAY_S: Final = 86_400.0
LARGEST_BATCH_BYTES: Final = 32 << 20
"""Most that settings let one message or one write carry. With the bytes that keep a frame's magic
out of its body, a third more at worst, and with its overhead it fits the largest frame of a log."""


@attrs.frozen
class Setting:
    """What is known of a setting besides its meaning. Whole numbers have whole bounds."""

    name: str
    default: Any
    at_least: Number
    """Inclusive, as is ``at_most``."""
    at_most: Number
    unit: str
    cost: str
    """What a larger or a smaller value costs."""
    optional: bool
    """Whether None is a value, too."""

    def check(self, value: object) -> None:
        """Raise `InvalidConfig` for a value out of bounds, or of another type."""
        if value is None and self.optional:
            return
        whole = type(self.at_least) is int
        sound = type(value) is int or (not whole and isinstance(value, float))
        if sound and self.at_least <= cast("Number", value) <= self.at_most:
            return
        kind = "an integer" if whole else "a number"
        other = ", or None" if self.optional else ""
        found = repr(value) if sound else f"{value!r} ({type(value).__name__})"
        raise InvalidConfig(
            f"{self.name} is {found}: expected {kind} from {self.at_least} to {self.at_most}{other}"
        )


_METADATA: Final = "setting"


def setting(
    default: _T,
    at_least: Number,
    at_most: Number,
    *,
    unit: str,
    cost: str,
    optional: bool = False,
) -> _T:
    """A field of a configuration; both bounds are inclusive, and integers for whole numbers."""

    def check(_: object, attribute: attrs.Attribute[_T], value: object) -> None:
        setting_of(attribute).check(value)

    known = (default, at_least, at_most, unit, cost, optional)
    return attrs.field(default=default, validator=check, metadata={_METADATA: known})


def setting_of(attribute: attrs.Attribute[Any]) -> Setting:
    """The setting that a field of a configuration is."""
    return Setting(attribute.name, *attribute.metadata[_METADATA])


def settings_of(kind: type) -> list[Setting]:
    """The settings of a configuration class, in its order, without those of its parts."""
    return [setting_of(each) for each in attrs.fields(kind) if _METADATA in each.metadata]


def made_of(kind: type) -> Any:
    """An attrs validator: a configuration of this class; raises `InvalidConfig`."""

    def check(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if not isinstance(value, kind):
            raise InvalidConfig(
                f"{attribute.name} is {value!r} ({type(value).__name__}): "
                f"expected {kind.__name__}(...)"
            )

    return check


# ---- what settings demand of each other ----------------------------------------------------------


class Relation(NamedTuple):
    """The product of ``terms`` is at most the product of ``limit``.

    Each is a factor, or a setting: its name, with those of the parts that lead to it.
    """

    terms: tuple[str | Number, ...]
    limit: tuple[str | Number, ...]
    reason: str
    """Completes "so that ..."."""

    def __str__(self) -> str:
        return f"{_product(self.terms)} <= {_product(self.limit)}"

    @property
    def settings(self) -> list[str]:
        """The names of all settings in it."""
        return [each for each in (*self.terms, *self.limit) if isinstance(each, str)]

    def check(self, config: object) -> None:
        """Raise `InvalidConfig`, naming the settings with their values, unless it holds.

        It does while one of them is None: what is not limited, or not known yet, demands nothing.
        """
        values = {name: attrgetter(name)(config) for name in self.settings}
        if None in values.values():
            return
        found, most = (
            prod(values[each] if isinstance(each, str) else each for each in side)
            for side in (self.terms, self.limit)
        )
        if not found <= most:
            known = ", ".join(f"{name} is {value}" for name, value in values.items())
            raise InvalidConfig(f"{known}: expected {self}, so that {self.reason}")


def _product(terms: Sequence[str | Number]) -> str:
    return " * ".join(map(str, terms))


def check_relations(config: object, relations: Sequence[Relation]) -> None:
    """Raise `InvalidConfig` for the first relation that ``config`` does not keep."""
    for relation in relations:
        relation.check(config)


# ---- a segment -----------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class SegmentConfig:
    """One segment's settings; sizes in bytes, times in seconds."""

    receive_limit: int = setting(
        64, 1, 65_536, unit="messages",
        cost="larger: answers wait for more messages before theirs; smaller: more turns of the "
        "loop for the same messages",
    )  # fmt: skip
    """Messages handled before their replies are sent."""
    queue_bytes: int = setting(
        32 << 20, 16 << 10, 64 << 30, unit="bytes",
        cost="larger: memory while the disk is slow; smaller: more is sent twice",
    )  # fmt: skip
    """Input that may wait for the disk; more is dropped and comes again."""
    write_bytes: int = setting(
        4 << 20, 1 << 10, LARGEST_BATCH_BYTES, unit="bytes",
        cost="larger: longer syncs, and commits that wait for them; smaller: more syncs under load",
    )  # fmt: skip
    """The most that one write and sync carries, unless a single message is longer."""
    unlinked_limit: int = setting(
        65_536, 1, 16_777_216, unit="records",
        cost="larger: memory while a gap is open; smaller: more comes twice after a gap",
    )  # fmt: skip
    """Records kept above a gap; the others come again."""
    image_interval: int = setting(
        64, 1, 65_536, unit="records",
        cost="larger: a read replays more records; smaller: disk for more images",
    )  # fmt: skip
    """Records of a page in a layer without an image behind one of them."""
    image_cache_bytes: int = setting(
        16 << 20, 0, 1 << 40, unit="bytes",
        cost="larger: memory; smaller: more reads start from the layers",
    )  # fmt: skip
    """Versions of pages kept in memory."""
    tick_interval_s: float = setting(
        0.05, 0.001, 10.0, unit="seconds",
        cost="larger: background work comes in longer intervals; smaller: processor time when idle",
    )  # fmt: skip
    """Time between two rounds of background work."""
    gossip_interval_s: float = setting(
        0.25, 0.001, 60.0, unit="seconds",
        cost="larger: a segment that was away takes longer to catch up; smaller: more messages",
    )  # fmt: skip
    """Mean time between two messages to a peer; each interval is drawn from half to one and a
    half."""
    gossip_bytes: int = setting(
        256 << 10, 1 << 10, LARGEST_BATCH_BYTES, unit="bytes",
        cost="larger: a busy segment is held up longer by each message; smaller: slower catching "
        "up and recovery",
    )  # fmt: skip
    """Records or pages in one gossip message, and in one answer to a recovering writer; one at
    least, however long."""
    hydration_timeout_s: float = setting(
        5.0, 0.01, 3_600.0, unit="seconds",
        cost="larger: a segment waits longer for a peer that has gone; smaller: a transfer over a "
        "slow network starts over",
    )  # fmt: skip
    """Time after which a transfer of pages that stopped is given up, to start with another peer;
    until then a part that does not come is asked for sixteen times."""
    list_pages: int = setting(
        4_096, 1, 65_536, unit="pages",
        cost="larger: messages wait longer for a part of the list; smaller: more messages for a "
        "long list",
    )  # fmt: skip
    """Pages looked at for one part of a list of the pages that exist."""
    wal_file_bytes: int = setting(
        4 << 20, 1 << 10, 1 << 40, unit="bytes",
        cost="larger: folded records stay on the disk longer, and a restart reads them; smaller: "
        "more files, each of which begins with three syncs",
    )  # fmt: skip
    """Length of a file of the log, at which the next one begins."""
    fold_bytes: int = setting(
        2 << 20, 1, 1 << 30, unit="bytes",
        cost="larger: memory, and a longer restart; smaller: more layers, which are merged more "
        "often",
    )  # fmt: skip
    """Records that no recovery can annul any more are written to a layer when they take so much."""
    unfolded_bytes: int = setting(
        8 << 20, 1 << 10, 1 << 40, unit="bytes",
        cost="larger: memory, and a longer restart, where writers are faster than folds; smaller: "
        "writers wait for folds sooner",
    )  # fmt: skip
    """Records that could be folded, and are not yet. Beyond it no more are written until a fold is
    done; or where none comes about, as the disk takes no layers."""
    block_bytes: int = setting(
        16 << 10, 1 << 8, 1 << 20, unit="bytes",
        cost="larger: a read of a page reads more; smaller: memory for the index of the blocks",
    )  # fmt: skip
    """Size of a block of a layer, unless a single row is longer."""
    block_cache_bytes: int = setting(
        8 << 20, 0, 1 << 40, unit="bytes",
        cost="larger: memory; smaller: more reads of blocks",
    )  # fmt: skip
    """Blocks of layers kept in memory."""
    fan_out: int = setting(
        4, 2, 64, unit="layers",
        cost="larger: reads look into more layers; smaller: more is written again and again",
    )  # fmt: skip
    """How many times as large as a fold, as that, and so on, layers come to be. Of ``fan_out - 1``
    of each size, and of four sizes at least, half are left, and one more."""
    collect_ratio: float = setting(
        0.5, 0.01, 100.0, unit="times",
        cost="larger: disk for versions that nobody can read any more; smaller: pages are written "
        "again more often",
    )  # fmt: skip
    """What is below the floor is collected when it takes so many times what the pages as of the
    last collection take, and `fold_bytes` at least."""
    disk_bytes: int | None = setting(
        None, 1 << 14, 1 << 60, unit="bytes", optional=True,
        cost="larger: more of the disk; smaller: writes are refused sooner; None: they go on until "
        "the disk is full, and then wait",
    )  # fmt: skip
    """What the files of this segment may need, with room for those that are made to take the place
    of others: about half of it. From there on nothing new is written to the volume, if three of six
    segments of a group are so far: `VolumeFull`. What is on its way still becomes durable."""
    queries: int = setting(
        1_024, 1, 1 << 20, unit="questions",
        cost="larger: memory for reads under way; smaller: reads that are asked again",
    )  # fmt: skip
    """Questions that wait for blocks of layers at a time; others are not answered."""
    compact_bytes: int = setting(
        16 << 20, 0, 1 << 40, unit="bytes",
        cost="larger: disk, and a longer restart; smaller: a small log is rewritten more often",
    )  # fmt: skip
    """Size of the log below which it is not rewritten, unless the segment is short of space."""
    compact_ratio: float = setting(
        2.0, 1.1, 1_000.0, unit="times",
        cost="larger: disk, and a longer restart; smaller: the log is rewritten more often",
    )  # fmt: skip
    """The log is rewritten when it is this many times as large as what it must hold."""
    scrub_interval_s: float = setting(
        1.0, 0.001, DAY_S, unit="seconds",
        cost="larger: damage is found later; smaller: more reading",
    )  # fmt: skip
    """Time between two pieces that are read again and checked, of the log as of the layers."""
    scrub_bytes: int = setting(
        1 << 20, 4 << 10, 64 << 20, unit="bytes",
        cost="larger: messages wait longer for the check; smaller: a round takes longer",
    )  # fmt: skip
    """Size of such a piece; a larger frame or block is read whole."""
    storage_retry_s: float = setting(
        0.1, 0.001, 60.0, unit="seconds",
        cost="larger: a segment comes back later once its disk takes writes again; smaller: more "
        "attempts in vain",
    )  # fmt: skip
    """Pause after the disk refused a write of the log; of a job in the background, ten times as
    long: much may have been written in vain."""

    def __attrs_post_init__(self) -> None:
        check_relations(self, SEGMENT_RELATIONS)


SEGMENT_RELATIONS: Final = (
    Relation(
        ("tick_interval_s",), ("gossip_interval_s",),
        "gossip is as frequent as asked for: it is sent when the passing of time is looked at",
    ),
    Relation(
        ("tick_interval_s",), ("scrub_interval_s",),
        "the scrub is as frequent as asked for: it starts when the passing of time is looked at",
    ),
    Relation(
        (4, "gossip_interval_s"), ("hydration_timeout_s",),
        "a transfer whose message was lost goes on with the next gossip, and need not start over",
    ),
    Relation(
        ("fold_bytes",), ("unfolded_bytes",),
        "a fold that records wait for is due",
    ),
    Relation(
        (16, "fold_bytes"), ("disk_bytes",),
        "what is not folded or not collected yet is a small part of it",
    ),
    Relation(
        (16, "wal_file_bytes"), ("disk_bytes",),
        "what is not folded or not collected yet is a small part of it",
    ),
)  # fmt: skip
"""What a segment's settings demand of each other."""
