"""Volumes of an earlier format, converted in place; see `segments.conversion`."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from random import Random

from aurora.quorum import QuorumModel
from segments.conversion.segment import ConvertedSegment as ConvertedSegment
from segments.conversion.volume import Conversion, Told
from segments.conversion.volume import LeftOut as LeftOut
from segments.conversion.volume import convert_volume as convert_with_quorums
from segments.protocol.ids import SegmentId
from segments.protocol.volume import ProtectionGroup


def convert_volume(path: Path, random: Random, told: Told) -> Conversion:
    """Convert the volume at ``path``; raises as `segments.conversion.volume.convert_volume`.

    It is refused unless a write quorum of each group is left.
    """
    return convert_with_quorums(path, random, _has_write, told)


def _has_write(group: ProtectionGroup, segments: Container[SegmentId]) -> bool:
    return QuorumModel(group.members).has_write(segments)
