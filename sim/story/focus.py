"""What a finding is about: the records, pages, segments, writers and calls that it names."""

from __future__ import annotations

import re
from typing import Final

import attrs

from segments.protocol.ids import Lsn, SegmentId

_SUBJECTS: Final = re.compile(
    r"\b(?:LSN|commit|loses|written at|written at LSN|PGCL|record is|ending at|change is(?: LSN)?"
    r"|acknowledges SCL|went back from) (\d+)"
)
_BOUNDS: Final = re.compile(r"\b(?:VDL|VCL|SCL|at|up to|back to|after|LSN from|SCL from) (\d+)")
_MTR: Final = re.compile(r"\bMTR at \[([\d, ]+)\]")
_SEGMENT: Final = re.compile(r"\b[A-F]\d+\b")
_WRITER: Final = re.compile(r"\bwriter-\d+\b")
_PAGE: Final = re.compile(r"\bpage (\d+)")
_CALL: Final = re.compile(r"\bcalls? (\d+)(?: and (\d+))?\b(?! pending)")


@attrs.frozen
class Focus:
    """The names in a finding."""

    lsns: tuple[Lsn, ...]
    """What is broken, lost or wrong; they may be no records, but watermarks."""
    bounds: tuple[Lsn, ...]
    """What that is held against: watermarks and read points."""
    pages: tuple[int, ...]
    segments: tuple[SegmentId, ...]
    writers: tuple[str, ...]
    calls: tuple[int, ...]


def focus_of(finding: str) -> Focus:
    """The names in a finding, each once, in the order in which they matter."""
    lsns = [int(each) for each in _SUBJECTS.findall(finding)]
    lsns += [int(each) for found in _MTR.findall(finding) for each in found.split(",")]
    bounds = [int(each) for each in _BOUNDS.findall(finding)]
    calls = [int(each) for found in _CALL.findall(finding) for each in found if each]
    return Focus(
        lsns=tuple(dict.fromkeys(each for each in lsns if each)),
        bounds=tuple(dict.fromkeys(each for each in bounds if each and each not in lsns)),
        pages=tuple(dict.fromkeys(int(each) for each in _PAGE.findall(finding))),
        segments=tuple(dict.fromkeys(_SEGMENT.findall(finding))),
        writers=tuple(dict.fromkeys(_WRITER.findall(finding))),
        calls=tuple(dict.fromkeys(calls)),
    )
