"""A bank in SQL: what its clients say, way by way.

Accounts hold money, and a ledger has a row for each transfer, with the number of the call that made
it: what clients are told can be held against it. ``bulk`` has rows that are large.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from segments.protocol.errors import AuroraError, SqlInvalid, SqlReadOnly, SqlRefused
from sim.plan.schedule import Operation
from sim.plan.sql_calls import ACCOUNTS
from sim.world.sql_history import Statement

MONEY: Final = 100
"""In each account at first."""
_ROW_BYTES: Final = 900
STRIDE: Final = 1_000
"""Between the first rows of two calls in ``bulk``, and the transfers of two calls in the ledger."""

_ACCOUNT: Final = """CREATE TABLE IF NOT EXISTS account(
    id INTEGER PRIMARY KEY, balance INTEGER NOT NULL CHECK(balance >= 0))"""
_LEDGER: Final = """CREATE TABLE IF NOT EXISTS ledger(
    id INTEGER PRIMARY KEY, source INTEGER NOT NULL, target INTEGER NOT NULL,
    amount INTEGER NOT NULL, way TEXT NOT NULL)"""
_INDEX: Final = "CREATE INDEX IF NOT EXISTS ledger_by_source ON ledger(source, amount)"
_MOVES: Final = """CREATE TRIGGER IF NOT EXISTS moves AFTER INSERT ON ledger WHEN new.way = 'auto'
    BEGIN
        UPDATE account SET balance = balance - new.amount WHERE id = new.source;
        UPDATE account SET balance = balance + new.amount WHERE id = new.target;
    END"""
_BULK: Final = "CREATE TABLE IF NOT EXISTS bulk(id INTEGER PRIMARY KEY, data BLOB NOT NULL)"
SCHEMA: Final = (_ACCOUNT, _LEDGER, _INDEX, _MOVES, _BULK)
OPEN_ACCOUNT: Final = "INSERT OR IGNORE INTO account VALUES (?, ?)"
BALANCE: Final = "SELECT balance FROM account WHERE id = ?"
NOTE: Final = "INSERT INTO ledger VALUES (?, ?, ?, ?, ?)"
TAKE: Final = "UPDATE account SET balance = balance - ? WHERE id = ?"
GIVE: Final = "UPDATE account SET balance = balance + ? WHERE id = ?"
FILL: Final = "INSERT OR REPLACE INTO bulk VALUES (?, ?)"
EMPTY: Final = "DELETE FROM bulk WHERE id % ? = 0"
CONTENTS: Final = """SELECT 'account', id, balance, NULL, NULL, NULL FROM account UNION ALL
    SELECT 'ledger', id, source, target, amount, way FROM ledger UNION ALL
    SELECT 'bulk', id, length(data), hex(substr(data, 1, 8)), NULL, NULL FROM bulk ORDER BY 1, 2"""

"""All there is."""
SUMS: Final = """SELECT (SELECT sum(balance) FROM account), (SELECT count(*) FROM ledger),
    (SELECT sum(amount) FROM ledger INDEXED BY ledger_by_source WHERE source >= 0),
    (SELECT count(*) FROM bulk)"""

SOUND: Final = "PRAGMA integrity_check"
SMALL_CACHE: Final = "PRAGMA cache_size = 3"
USUAL_CACHE: Final = "PRAGMA cache_size = -16384"

REFUSED: Final[tuple[tuple[str, type[AuroraError]], ...]] = (
    ("BEGIN", SqlRefused),
    ("COMMIT", SqlRefused),
    ("ROLLBACK", SqlRefused),
    ("SAVEPOINT alone", SqlRefused),
    ("PRAGMA locking_mode = EXCLUSIVE", SqlRefused),
    ("PRAGMA journal_mode = WAL", SqlRefused),
    ("PRAGMA journal_mode = OFF", SqlRefused),
    ("PRAGMA page_size = 4096", SqlRefused),
    ("ATTACH 'other.db' AS other", SqlRefused),
    ("VACUUM INTO 'other.db'", SqlRefused),
    ("SELEKT 1", SqlInvalid),
    ("SELECT * FROM no_such_table", SqlInvalid),
    ("CREATE TABLE sqlite_own(a)", SqlInvalid),
)
"""Statements that must not be run, and the error that each must raise."""
REFUSED_IN_QUERIES: Final[tuple[tuple[str, type[AuroraError]], ...]] = (
    ("CREATE TABLE other(a)", SqlReadOnly),
    ("PRAGMA user_version = 3", SqlReadOnly),
    ("CREATE TEMP TABLE other(a)", SqlRefused),
)


def transfer(
    number: int, operation: Operation, way: str = "call", part: int = 0
) -> tuple[int, int, int, int, str]:
    """The ledger's row of a transfer: id, source, target, amount, way."""
    source, target = operation.pages[0] % ACCOUNTS, operation.pages[-1] % ACCOUNTS
    return STRIDE * (number + 1) + part, source, target, operation.offset % MONEY, way


def moving(row: tuple[int, int, int, int, str]) -> Iterator[Statement]:
    """A transfer in statements of its own."""
    _, source, target, amount, _ = row
    yield Statement(NOTE, row)
    yield Statement(TAKE, (amount, source))
    yield Statement(GIVE, (amount, target))


def bulk_rows(number: int, operation: Operation) -> list[tuple[int, bytes]]:
    """Rows of about a ninth of a page, some of them where another call's may be."""
    first = STRIDE * ((number + 1) % 4)
    word = (number + 1).to_bytes(6, "big") + b"\x01\x02"
    data = word * (_ROW_BYTES // len(word))
    return [(first + at, data) for at in range(operation.length)]


def refusal(operation: Operation) -> tuple[str, type[AuroraError], bool]:
    """A statement that must be refused, by which error, and whether it stands in a query."""
    which = operation.length
    in_query = which % 4 == 0
    text, error = (REFUSED_IN_QUERIES if in_query else REFUSED)[
        which % len(REFUSED_IN_QUERIES if in_query else REFUSED)
    ]
    return text, error, in_query


def parts_of(operation: Operation) -> tuple[range, range]:
    """Which parts of a call the ledger must have once it is acknowledged, and which it must not."""
    match operation.way:
        case "transfer" | "auto" | "function" | "bulk" | "caught":
            return range(1), range(0)
        case "many":
            return range(many_parts(operation)), range(0)
        case "savepoint":
            return range(1), range(1, 2)
    return range(0), range(STRIDE)


def many_parts(operation: Operation) -> int:
    """How many transfers ``many`` makes."""
    return 1 + operation.length % 4
