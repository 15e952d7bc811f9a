"""Which pragmas callers may use: what the volume needs stays as it is (SQL design, decision 9).

SQLite asks the VFS about every pragma before it looks at it. A pragma without a value only asks,
and passes; one that would set what is fixed passes only if it names the fixed value.
"""

from __future__ import annotations

from typing import Final

from segments.protocol.errors import SqlRefused

FIXED: Final[dict[str, tuple[frozenset[str], str]]] = {
    "page_size": (frozenset({"8192"}), "a page of the volume is a page of the database"),
    "journal_mode": (frozenset({"memory"}), "the volume's log is the journal"),
    "locking_mode": (
        frozenset({"normal"}),
        "an exclusive one stops the change counter, by which readers know that pages are new",
    ),
    "mmap_size": (frozenset({"0"}), "no file is there to be mapped"),
    "synchronous": (frozenset({"off", "0"}), "a commit returns when a write quorum has it"),
    "auto_vacuum": (frozenset({"none", "0"}), "VACUUM serves"),
    "temp_store": (frozenset({"memory", "2"}), "no file is there for temporary tables"),
    "threads": (frozenset({"0"}), "all of SQLite runs in one thread"),
    "query_only": (frozenset({"off", "0", "false", "no"}), "sessions share the connection"),
    "case_sensitive_like": (frozenset(), "sessions share the connections"),
    "soft_heap_limit": (frozenset(), "it holds for the whole process"),
    "hard_heap_limit": (frozenset(), "it holds for the whole process"),
}
"""Per pragma, the values that it has anyway, and why it has no other."""


def check_pragma(name: str, value: str | None) -> None:
    """Raise `SqlRefused` for a pragma that would set what is fixed."""
    fixed = FIXED.get(name.lower())
    if value is None or fixed is None:
        return
    values, why = fixed
    if value.strip("'\"").lower() not in values:
        expected = " or ".join(sorted(values)) or "no value, which only asks"
        raise SqlRefused(f"PRAGMA {name}={value}: expected {expected}; {why}")
