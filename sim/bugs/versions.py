"""Bugs of the newest version of a page, of older ones that are cached, and of many at a time."""

from __future__ import annotations

from typing import Final

from sim.bugs.registry import Bug, Edit

VERSION_BUGS: Final = (
    Bug(
        name="old-version-cache-stale",
        summary="a cached older version answers every read point from its LSN on",
        section="protocol §5",
        edits=(
            Edit(
                "aurora.old_versions:OldVersions.read",
                "if read_point > version.through:",
                "if read_point < version.page.page_lsn:",
            ),
        ),
    ),
    Bug(
        name="head-stops-at-the-vdl",
        summary="the newest version of a page is the one that is durable",
        section="protocol §5",
        edits=(
            Edit(
                "aurora.buffer_pool:_Entry.at_head",
                "if not pending:",
                "if not pending or self.newest is not None:",
            ),
        ),
    ),
    Bug(
        name="changed-pages-misses-one",
        summary="a change that is in a layer by now is left out of the list of changed pages",
        section="protocol §5",
        edits=(
            Edit(
                "segments.layers.materializer:Materializer.may_have_changed",
                "if any(layer.bloom.may_hold(page_id) for layer in layers)",
                "if any(layer.bloom.may_hold(page_id) for layer in layers[:-1])",
            ),
        ),
    ),
    Bug(
        name="many-pages-all-at-once",
        summary="all pages of a long list are asked for at the same time",
        section="protocol §5",
        edits=(
            Edit(
                "aurora.many_pages:ManyPages._go_on",
                "if len(self._open) >= reading.config.reads_in_flight:",
                "if len(self._open) > 1024:",
            ),
        ),
    ),
)
