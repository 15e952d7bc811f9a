"""Which pragmas callers may use: what the volume needs stays as it is (SQL design, decision 9).

A pragma without a value only asks, and passes; one that would set what is fixed passes only if it
names the fixed value. What it sets of a connection is of the one that writes, which all sessions
share as they share its tables: it holds until the database is closed. Readers' connections come and
go, so that nothing is set of them; and what would give other results, or none, to sessions that
know nothing of it is fixed.
"""

from __future__ import annotations

from typing import Final

from segments.protocol.errors import SqlRefused

_OFF: Final = frozenset({"off", "0", "false", "no"})
_ON: Final = frozenset({"on", "1", "true", "yes"})
_SHARED: Final = "sessions share the connections"
_PROCESS: Final = "it holds for the whole process"
_NO_VALUE: Final[frozenset[str]] = frozenset()

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
    "temp_store_directory": (_NO_VALUE, _PROCESS),
    "threads": (frozenset({"0"}), "all of SQLite runs in one thread"),
    "schema_version": (_NO_VALUE, "by it connections know that the schema they have is old"),
    "max_page_count": (_NO_VALUE, f"{_SHARED}; `disk_bytes` limits the volume"),
    "query_only": (_OFF, _SHARED),
    "ignore_check_constraints": (_OFF, _SHARED),
    "case_sensitive_like": (_NO_VALUE, _SHARED),
    "reverse_unordered_selects": (_OFF, _SHARED),
    "full_column_names": (_OFF, _SHARED),
    "short_column_names": (_ON, _SHARED),
    "count_changes": (_OFF, _SHARED),
    "empty_result_callbacks": (_OFF, _SHARED),
    "soft_heap_limit": (_NO_VALUE, _PROCESS),
    "hard_heap_limit": (_NO_VALUE, _PROCESS),
}
"""Per pragma, the values that it has anyway, and why it has no other."""

SETTINGS: Final = frozenset(
    {
        "analysis_limit", "automatic_index", "busy_timeout", "cache_size", "cache_spill",
        "cell_size_check", "checkpoint_fullfsync", "foreign_keys", "fullfsync",
        "journal_size_limit", "legacy_alter_table", "read_uncommitted", "recursive_triggers",
        "secure_delete", "trusted_schema", "wal_autocheckpoint", "writable_schema",
    }
)  # fmt: skip
"""What a pragma may set of the connection that writes; one that takes its place has it, too."""
PASSING: Final = frozenset({"defer_foreign_keys", "encoding"})
"""The same, for one transaction, or until there is a table."""


def check_pragma(name: str, value: str, *, in_query: bool) -> None:
    """Raise `SqlRefused` for a pragma that would set what is fixed, or of a reader's connection."""
    name = name.lower()
    if name in FIXED:
        values, why = FIXED[name]
        if value.lower() not in values:
            expected = " or ".join(sorted(values)) or "no value, which only asks"
            raise SqlRefused(f"PRAGMA {name}={value}: expected {expected}; {why}")
    elif in_query and name in SETTINGS | PASSING:
        raise SqlRefused(
            f"PRAGMA {name}={value} in a query: expected it in `execute`; {_SHARED}, and it is "
            "only kept by the one that writes"
        )


def check_foreign_keys(value: str, *, enabled: bool) -> None:
    """Raise `SqlRefused` for a change amid a transaction, where SQLite would do nothing."""
    if value.lower() not in (_ON if enabled else _OFF):
        raise SqlRefused(
            f"PRAGMA foreign_keys={value} within a transaction, where it does nothing: expected "
            "it before, in a text that has no other statement"
        )
