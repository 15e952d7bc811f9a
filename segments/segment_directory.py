"""The directory of a segment: how it is formatted, and how it is known again.

``identity`` is JSON that says whom the directory belongs to, with a checksum. It is written last.
"""

from __future__ import annotations

import json
import os
import stat
from contextlib import closing
from pathlib import Path
from typing import Final

from segments.locked_directory import LockedDirectory, OpenDirectory
from segments.manifest import MANIFEST, PROMISE, decode_manifest
from segments.protocol import codec
from segments.protocol.errors import Invalid, SegmentLost
from segments.protocol.refusal import storage_error
from segments.storage import Identity
from segments.wal import NO_PROMISE, encode_promise

IDENTITY: Final = "identity"
_FORMAT: Final = 1
_LONGEST_IDENTITY: Final = 65_536


def make_directory(directory: Path) -> None:
    """Make a directory and what is missing of its parents, durably."""
    missing = [each for each in (directory, *directory.parents) if not each.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    for each in reversed(missing):
        parent = os.open(each.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)


def format_directory(directory: LockedDirectory, identity: Identity) -> None:
    """Make an empty directory a segment's, durably; raises `Invalid` if it holds anything."""
    if found := directory.names():
        raise Invalid(f"{directory} holds {', '.join(found[:5])}: expected an empty directory")
    directory.publish(PROMISE, encode_promise(NO_PROMISE) * 2)
    directory.publish(IDENTITY, encode_identity(identity))


def read_unlocked(path: Path, expected: Identity) -> dict[str, bytes]:
    """The files that a restart reads, of a directory that is not locked: nothing is written.

    So bytes that a killed process has left in the cache only are there, too. Raises as
    `FileStorage.open`.
    """
    try:
        check_is_there(path, expected)
        with closing(OpenDirectory(path)) as directory:
            check_belongs(directory, expected)
            there = set(directory.names())
            files = {name: directory.read(name) for name in (MANIFEST, PROMISE) if name in there}
            manifest = decode_manifest(files.get(MANIFEST, b""))
            named = sorted(manifest.names) if manifest is not None else []
            return files | {name: directory.read(name) for name in named if name in there}
    except OSError as error:
        raise storage_error(f"{path} cannot be read", error) from error


def check_is_there(path: Path, expected: Identity) -> None:
    """Raise `SegmentLost` unless there is a directory, `OSError` if nobody can tell."""
    try:
        if not stat.S_ISDIR(path.stat().st_mode):
            raise NotADirectoryError
    except (FileNotFoundError, NotADirectoryError):  # what cannot be looked at is not lost
        raise SegmentLost(f"{path} is no directory: expected {expected}") from None


def check_belongs(directory: OpenDirectory, expected: Identity) -> None:
    """Raise `SegmentLost` unless a directory was formatted for somebody, `OSError` as above."""
    found = set(directory.names())
    if missing := sorted({IDENTITY, PROMISE} - found):
        state = f"lacks {', '.join(missing)}" if found else "is empty"
        raise SegmentLost(f"{directory} {state}: expected {expected}")
    with os.fdopen(directory.open(IDENTITY, os.O_RDONLY), "rb") as file:
        data = file.read(_LONGEST_IDENTITY)
    identity = _decode_identity(data)
    if identity is None:
        raise SegmentLost(f"{directory} has a spoilt identity {data[:60]!r}: expected {expected}")
    if identity != expected:
        raise SegmentLost(f"{directory} belongs to {identity}: expected {expected}")


def encode_identity(identity: Identity) -> bytes:
    """The bytes of the file that says so."""
    fields: dict[str, object] = {
        "format": _FORMAT,
        "volume_id": identity.volume_id,
        "segment": identity.segment,
    }
    fields["checksum"] = f"{codec.checksum(codec.pack(tuple(fields.values()))):016x}"
    return json.dumps(fields, indent=2).encode() + b"\n"


def _decode_identity(data: bytes) -> Identity | None:
    """Whom ``data`` names; None unless it is byte by byte what was written for somebody."""
    try:
        fields = json.loads(data)
        identity = Identity(fields["volume_id"], fields["segment"])
        return identity if encode_identity(identity) == data else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
