"""Which modules are mutated: the cores, where the protocol is decided, each with what it decides.

Not among them: shells that only move messages or say what is going on (`aurora.engine`,
`aurora.transport`, `segments.server`, `segments.host`, `segments.protocol.refusal`, health);
real files, and who only reads copies of them (`segments.file_storage`, `segments.open_file`,
`segments.locked_directory`, `segments.segment_directory`, `segments.disks`, `segments.volume_copy`,
`aurora.reader_core`: a simulated run never comes there, tests of their own kill, tear and take them
away); the codec, messages, settings, ids, records and
interfaces, which decide nothing beyond what their types say or refuse.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

CORES: Final[Mapping[str, str]] = {
    "aurora.quorum": "what a write quorum holds",
    "aurora.consistency": "VCL and VDL over all groups, what a read needs",
    "aurora.commit": "the way of a commit into the log",
    "aurora.way": "a caller's way through several stations",
    "aurora.parts": "large mini-transactions in parts",
    "aurora.commit_queue": "whom the VDL wakes",
    "aurora.core": "the writer: acknowledgements, opening, fencing",
    "aurora.recovery": "what survives a writer, what is annulled",
    "aurora.recovery_plan": "what a recovery hands over",
    "aurora.lsn_allocator": "LSNs and their limit",
    "aurora.mtr": "the three chains",
    "aurora.buffer_pool": "versions, pins and what may be evicted",
    "aurora.old_versions": "which read points an older version answers",
    "aurora.cached_pages": "where a read looks first",
    "aurora.many_pages": "many pages at one read point",
    "aurora.head_read": "the newest version of a page",
    "aurora.reading": "read points and the floor",
    "aurora.read_router": "whom to ask, and when somebody else",
    "aurora.segment_stream": "what is sent, and sent again",
    "aurora.outgoing_log": "what is kept for those who are behind",
    "aurora.page_list": "which pages exist over all groups",
    "segments.core": "admission by epoch, the write cycle, answers",
    "segments.state": "what is durable, live and at restart",
    "segments.gossip": "what peers tell each other",
    "segments.background": "what is folded, merged, collected, taken over, written anew, and when",
    "segments.transfer": "a layer from a peer, part by part",
    "segments.fold_rule": "how far the log is folded, and who waits for it",
    "segments.scrub": "what is read again, and what comes of it",
    "segments.layer_scrub": "the same, of layers",
    "segments.space": "what is said of the room for files",
    "segments.restart": "what a disk stands for",
    "segments.manifest": "which files a log consists of",
    "segments.live_files": "which files are live, and which of the log may go",
    "segments.hot_log": "when a file counts",
    "segments.chain_index": "SCL, gaps, what is cut off",
    "segments.held_run": "a run, cut, and page by page",
    "segments.linked_runs": "the chain, run by run, and its pages",
    "segments.waiting_runs": "what lies above gaps, and what contradicts it",
    "segments.layers.layer_map": "which layer holds an LSN",
    "segments.layers.tiers": "which layers are merged or collected",
    "segments.layers.fold": "records, sorted",
    "segments.layers.ordered": "several layers as one",
    "segments.layers.merge": "what is left of neighbours",
    "segments.layers.collect": "the newest version of each page",
    "segments.layers.images": "where a read of a page may begin",
    "segments.layers.layer_writer": "what is in a block, and in the index of blocks",
    "segments.layers.stream": "what of a layer is sent to a peer",
    "segments.layers.page_read": "which blocks a read needs",
    "segments.layers.materializer": "a page at a read point",
    "segments.layers.page_cache": "versions of pages that may be used again",
    "segments.layers.block_cache": "blocks that may be used again",
    "segments.layers.bloom": "which layers need not be asked",
    "segments.layers.pages": "which pages a segment knows",
    "segments.wal": "frames, promises",
    "segments.wal_scan": "torn tails, damage",
    "segments.protocol.truncation": "annulled ranges",
    "segments.protocol.volume": "which group a page belongs to",
}

ROOT: Final = Path(__file__).parents[2]
"""Where the packages lie."""


def source_path(module: str) -> Path:
    """The file of a core."""
    return ROOT.joinpath(*module.split(".")).with_suffix(".py")


def chosen_modules(patterns: tuple[str, ...]) -> list[str]:
    """The cores that any of the shell patterns matches, with or without the first package's name.

    All of them if there is no pattern; empty if none fits.
    """
    return [
        module
        for module in CORES
        if not patterns
        or any(
            fnmatchcase(name, pattern)
            for pattern in patterns
            for name in (module, module.partition(".")[2])
        )
    ]
