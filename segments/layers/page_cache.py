"""Page versions that reads have made, as many as fit; those not used for longest go first.

A version is kept with the LSN up to which it is the newest, and says nothing of what lies above
that. So no fold makes it wrong: who reads above it has to look for newer records in whatever holds
them by then, open index or layers.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

from segments.protocol.ids import Lsn, PageId

_OVERHEAD_BYTES: Final = 256
"""About what an entry takes besides its image."""


class Version(NamedTuple):
    """A page as of ``through``, inclusive."""

    lsn: Lsn
    """Its newest record at or below ``through``."""
    image: bytes
    """Without the zeros that end it."""
    through: Lsn
    """No record of the page lies in ``(lsn, through]``, and none ever will."""


class PageCache:
    """One version a page, the newest that anybody has read."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._versions: OrderedDict[PageId, Version] = OrderedDict()
        self.size = 0
        """Bytes of all that is in here; never above the limit."""
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._versions)

    def get(self, page: PageId, read_point: Lsn) -> Version | None:
        """A version that a read at ``read_point`` can start from; a hit if it needs no block."""
        version = self._versions.get(page)
        if version is None or version.lsn > read_point:
            self.misses += 1
            return None
        self.hits += 1
        self._versions.move_to_end(page)
        return version

    def peek(self, page: PageId, read_point: Lsn) -> Version | None:
        """What `get` finds; neither counted nor used by that."""
        version = self._versions.get(page)
        return None if version is None or version.lsn > read_point else version

    def versions(self) -> list[tuple[PageId, Version]]:
        """All that is kept, by page: each must equal a replay of the log."""
        return sorted(self._versions.items())

    def put(self, page: PageId, version: Version) -> None:
        """Keep a version, unless one that is valid as far is here, or it is too large."""
        held, size = self._versions.get(page), _size(version)
        if size > self._limit_bytes or (held is not None and held.through >= version.through):
            return
        if held is not None:
            self._remove(page)
        self._versions[page] = version
        self.size += size
        while self.size > self._limit_bytes:
            _, oldest = self._versions.popitem(last=False)
            self.size -= _size(oldest)

    def drop_above(self, lsn: Lsn) -> None:
        """Forget what was known of LSNs above ``lsn``: a truncation has annulled some of them."""
        for page, version in list(self._versions.items()):
            if version.lsn > lsn:
                self._remove(page)
            elif version.through > lsn:
                self._versions[page] = version._replace(through=lsn)

    def _remove(self, page: PageId) -> None:
        self.size -= _size(self._versions.pop(page))


def _size(version: Version) -> int:
    return len(version.image) + _OVERHEAD_BYTES
