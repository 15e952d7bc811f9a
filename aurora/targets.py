"""What a command is aimed at: the words for segments, zones and writers, in one place.

The API, the prompt, scenario files and scenarios in Python all read their targets here. A target is
one word or several, with commas or spaces between them, or a list of such texts; case does not
matter, and what is named twice counts once::

    "A0"            member A of protection group 0
    "A"             member A of every group
    "az1"           every segment in availability zone 1
    "az1, C0"       both; the same as "az1 c0" and ["az1", "C0"]

Where writers can be meant, too, there are ``writer`` (the latest), ``writers`` (all of them) and
``writer-2`` (by its number).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Final, TypeAlias

import attrs

from segments.protocol.errors import InvalidTarget
from segments.protocol.ids import SegmentId
from segments.protocol.showing import shown
from segments.protocol.volume import ProtectionGroup

Target: TypeAlias = str | Sequence[str]
"""Words, as the head of this module says."""

WRITER: Final = "writer"
WRITERS: Final = "writers"

_BETWEEN: Final = re.compile(r"[\s,]+")
_SEGMENT: Final = re.compile(r"[A-Z]\d*", re.ASCII | re.IGNORECASE)
_ZONE_OR_WRITER: Final = re.compile(r"az\d+|writers?|writer-\d+", re.ASCII | re.IGNORECASE)
_GROUPS_SUGGESTED: Final = 16
"""Near misses are looked for in this many groups only; a volume can have thousands."""


@attrs.frozen
class Named:
    """What a target names, in the order of its words, each once."""

    segments: tuple[SegmentId, ...]
    writers: tuple[str, ...]
    """`WRITER`, `WRITERS` or names such as ``writer-2``, which need not exist (yet)."""


def words_of(target: Target) -> tuple[str, ...]:
    """The words of a target, each once, spelt as they are shown: ``A0``, ``az1``, ``writer``.

    Words that mean nothing stay as they are. Raises `InvalidTarget` for what is no text.
    """
    texts = [target] if isinstance(target, str) else target
    if not isinstance(texts, list | tuple) or not all(isinstance(each, str) for each in texts):
        raise InvalidTarget(
            f"target is {shown(target)}: expected names such as 'az1, C0', or a list of them"
        )
    words = (word for text in texts for word in _BETWEEN.split(text) if word)
    return tuple(dict.fromkeys(map(_spelt_word, words)))


def spelt(target: Target) -> str:
    """A target as one text, whichever way it was written; raises as `words_of`."""
    return ",".join(words_of(target))


def segments_of(words: Iterable[str], groups: Sequence[ProtectionGroup]) -> tuple[SegmentId, ...]:
    """The segments that `words_of` a target name; a word that names none is passed over."""
    found: dict[SegmentId, None] = {}
    for word in words:
        for group in groups:
            for segment, zone in zip(group.members, group.zones, strict=True):
                if word in (segment, segment[0], f"az{zone}"):
                    found[segment] = None
    return tuple(found)


def resolve(
    target: Target, groups: Sequence[ProtectionGroup], *, with_writers: bool = False
) -> Named:
    """Whom a target names; raises `InvalidTarget` for no word, or one that names nobody.

    Without ``with_writers`` a word for a writer is refused, too.
    """
    words = words_of(target)
    if not words:
        raise InvalidTarget(f"target is {shown(target)}: expected {_known(groups, with_writers)}")
    segments: list[SegmentId] = []
    writers: list[str] = []
    for word in words:
        named = segments_of([word], groups)
        segments += named
        if named:
            continue
        if not names_writer(word):
            who = "nobody" if with_writers else "no segment"
            raise InvalidTarget(f"{word!r} names {who}: {_advice(word, groups, with_writers)}")
        if not with_writers:
            raise InvalidTarget(
                f"{word!r} names a writer: expected {_known(groups, with_writers)}; "
                "a writer is stopped with crash_writer"
            )
        writers.append(word)
    return Named(tuple(dict.fromkeys(segments)), tuple(writers))


def names_writer(word: str) -> bool:
    """Whether a word of `words_of` stands for a writer, whether or not there is one."""
    return word.startswith(WRITER) and _ZONE_OR_WRITER.fullmatch(word) is not None


def _spelt_word(word: str) -> str:
    if _SEGMENT.fullmatch(word):
        return word.upper()
    return word.lower() if _ZONE_OR_WRITER.fullmatch(word) else word


def _known(groups: Sequence[ProtectionGroup], with_writers: bool) -> str:
    """Everything that may be said, briefly."""
    first, last = groups[0].members[0], groups[-1].members[-1]
    letters = [segment[0] for segment in groups[0].members]
    zones = sorted(set(groups[0].zones))
    words = f"{first} to {last}, {letters[0]} to {letters[-1]}, az{zones[0]} to az{zones[-1]}"
    return f"{words}, writer, writers or writer-1" if with_writers else words


def _advice(word: str, groups: Sequence[ProtectionGroup], with_writers: bool) -> str:
    words = [each for group in groups[:_GROUPS_SUGGESTED] for each in group.members]
    words += [segment[0] for segment in groups[0].members]
    words += [f"az{zone}" for zone in sorted(set(groups[0].zones))]
    words += [WRITER, WRITERS] if with_writers else []
    near = get_close_matches(word, words, n=1, cutoff=0.6)
    meant = f"did you mean {near[0]!r}? " if near else ""
    return f"{meant}expected {_known(groups, with_writers)}"
