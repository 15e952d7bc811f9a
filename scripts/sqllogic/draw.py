"""Statements and queries drawn from a seed, and what plain SQLite says to them."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

import apsw

from scripts.sqllogic.records import Record, values_of, written

SCHEMA: Final = (
    "CREATE TABLE a(i INTEGER PRIMARY KEY, x INTEGER, y REAL, s TEXT UNIQUE)",
    "CREATE TABLE b(k TEXT, n INTEGER, v, PRIMARY KEY(k, n)) WITHOUT ROWID",
    "CREATE TABLE c(i INTEGER PRIMARY KEY AUTOINCREMENT, a REFERENCES a(i), z CHECK(z < 50))",
    "CREATE TABLE told(what TEXT, n INTEGER)",
    "CREATE VIEW w AS SELECT s, sum(z) AS total FROM a LEFT JOIN c ON c.a = a.i GROUP BY s",
    "CREATE TRIGGER gone AFTER DELETE ON a BEGIN INSERT INTO told VALUES(old.s, old.i); END",
    "CREATE TRIGGER moved AFTER UPDATE OF x ON a BEGIN UPDATE b SET v = new.x WHERE n = new.i; END",
    "CREATE INDEX ax ON a(x, y)",
)
CONFLICTS: Final = ("", "", "OR ABORT ", "OR FAIL ", "OR IGNORE ", "OR REPLACE ", "OR ROLLBACK ")
_COLUMNS: Final = ("i", "x", "x", "length(s)", "CAST(y AS INTEGER)")
_QUERIES: Final = (
    ("SELECT {e} FROM a WHERE {p}", "I"),
    ("SELECT i, substr(s, 1, 9) FROM a WHERE {p} ORDER BY s, i LIMIT {n}", "IT"),
    ("SELECT x, count(*), sum(y) FROM a WHERE {p} GROUP BY x HAVING count(*) < {n}", "IIR"),
    ("SELECT substr(a.s, 1, 9), c.z FROM a JOIN c ON c.a = a.i WHERE {p_a}", "TI"),
    ("SELECT a.i, b.k FROM a LEFT JOIN b ON b.n = a.i AND b.v > {n} WHERE {p_a}", "IT"),
    ("SELECT {e} FROM a WHERE i IN (SELECT n FROM b WHERE n < {n}) OR {p}", "I"),
    ("SELECT k, n, typeof(v) FROM b WHERE n BETWEEN {n} AND {n} + 20", "TIT"),
    ("SELECT substr(s, 1, 9) FROM a WHERE {p} EXCEPT SELECT k FROM b UNION SELECT k FROM b", "T"),
    ("SELECT i, sum(x) OVER (ORDER BY i ROWS 2 PRECEDING) FROM a WHERE {p}", "II"),
    ("SELECT substr(s, 1, 9), rank() OVER (PARTITION BY x ORDER BY i) FROM a WHERE {p}", "TI"),
    ("SELECT substr(s, 1, 9), total FROM w WHERE total > {n}", "TI"),
    ("SELECT count(*), max(n), min(substr(what, 1, 9)) FROM told", "IIT"),
    ("SELECT DISTINCT x % 7, y > {n} FROM a WHERE {p}", "II"),
    ("SELECT avg(y), total(x), max(substr(s, 1, 9)) FROM a WHERE {p}", "RRT"),
    ("SELECT group_concat(k, '') FROM (SELECT k FROM b ORDER BY k, n LIMIT {n})", "T"),
    ("WITH RECURSIVE t(n) AS (SELECT {n} UNION SELECT n - 3 FROM t LIMIT 9) SELECT * FROM t", "I"),
    ("SELECT EXISTS (SELECT 1 FROM c WHERE z = {n}), (SELECT max(i) FROM c WHERE z < {n})", "II"),
    ("SELECT json_extract(json_object('s', s, 'x', x), '$.x') FROM a WHERE {p}", "I"),
)  # fmt: skip


class Drawing:
    """One file's records, as plain SQLite goes through them."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.sqlite = apsw.Connection(":memory:")
        self.savepoints: list[str] = []
        self.columns = 0

    def records(self, number: int, threshold: int) -> str:
        """So many of them, as text."""
        text = [self._statement(each) for each in SCHEMA]
        while len(text) < number:
            if self.random.random() < 0.45:
                text.append(self._query(threshold))
            else:
                text.append(self._statement(self._change()))
        if self.sqlite.in_transaction:
            text[-1] = self._statement("COMMIT")
        return "".join(text)

    def _statement(self, sql: str) -> str:
        fails = False
        try:
            self.sqlite.execute(sql).fetchall()
        except apsw.Error:
            fails = True
        if not self.sqlite.in_transaction:
            self.savepoints.clear()
        return written(Record(0, sql, fails=fails), [], 0)

    def _query(self, threshold: int) -> str:
        pattern, types = self.random.choice(_QUERIES)
        sql = pattern.format(
            e=self._expression(2),
            p=self._predicate(""),
            p_a=self._predicate("a."),
            n=self.random.randrange(60),
        )
        sort = "nosort" if "ORDER BY s, i" in sql else self.random.choice(("rowsort", "valuesort"))
        rows = self.sqlite.execute(sql).fetchall()
        record = Record(0, sql, types=types, sort=sort)
        return written(record, values_of(rows, types, sort), threshold)

    # ---- expressions -----------------------------------------------------------------------------

    def _expression(self, depth: int) -> str:
        if depth == 0 or self.random.random() < 0.3:
            return self.random.choice((*_COLUMNS, str(self.random.randrange(-9, 99)), "NULL"))
        one, two = self._expression(depth - 1), self._expression(depth - 1)
        pattern = self.random.choice(
            ("{} + {}", "{} - {}", "({}) * ({})", "coalesce({}, {})", "nullif({}, {})", "-({})",
             "abs({})", "CASE WHEN {} > {} THEN 1 ELSE x END", "({}) / ({})", "({}) % ({})")
        )  # fmt: skip
        return pattern.format(one, two)

    def _predicate(self, prefix: str) -> str:
        column, n = self.random.choice("ixy"), self.random.randrange(-5, 60)
        return self.random.choice(
            (f"{prefix}{column} > {n}", f"{prefix}{column} < {n}", f"{prefix}x IS NOT {n}",
             f"{prefix}i BETWEEN {n} AND {n + 9}", f"{prefix}s LIKE '%{n % 10}%'",
             f"{prefix}x IN ({n}, {n + 1}, NULL)", f"NOT {prefix}i % 3 = {n % 3}",
             f"{prefix}{column} <= {n} AND {prefix}s >= 's{n}'", f"{prefix}y IS NULL")
        )  # fmt: skip

    # ---- changes ---------------------------------------------------------------------------------

    def _change(self) -> str:
        kinds: list[tuple[Callable[[], str], int]] = [
            (self._insert, 8), (self._many, 2), (self._pair, 4), (self._part, 4), (self._update, 3),
            (self._delete, 2), (self._bounds, 5), (self._shape, 1), (self._wrong, 1),
        ]  # fmt: skip
        (draw,) = self.random.choices([each for each, _ in kinds], [each for _, each in kinds])
        return draw()

    def _number(self) -> str:
        return self.random.choice(("NULL", str(self.random.randrange(-20, 99))))

    def _insert(self) -> str:
        real = f"{self.random.randrange(-400, 400) / 8}"
        name = f"s{self.random.randrange(90)}"
        upsert = self.random.choice(("", "", " ON CONFLICT(s) DO UPDATE SET x = x + 1"))
        conflict = "" if upsert else self.random.choice(CONFLICTS)
        return (
            f"INSERT {conflict}INTO a(x, y, s) VALUES({self._number()}, {real}, '{name}'){upsert}"
        )

    def _many(self) -> str:
        """Enough for pages of their own: a body is long."""
        first, count = self.random.randrange(100, 900), self.random.randrange(2, 60)
        return (
            f"INSERT OR IGNORE INTO a(x, y, s) WITH RECURSIVE t(n) AS (SELECT {first} UNION ALL "
            f"SELECT n + 1 FROM t LIMIT {count}) SELECT n % 50, n / 4.0, "
            f"'s' || n || substr(hex(zeroblob({self.random.choice((1, 40, 3_000))})), 3) FROM t"
        )

    def _pair(self) -> str:
        value = self.random.choice(("NULL", "1.5", "x'00ff'", "'text'", "77", "zeroblob(9000)"))
        return (
            f"INSERT {self.random.choice(CONFLICTS)}INTO b VALUES('k{self.random.randrange(9)}', "
            f"{self.random.randrange(40)}, {value})"
        )

    def _part(self) -> str:
        return (
            f"INSERT {self.random.choice(CONFLICTS)}INTO c(a, z) SELECT i, x FROM a "
            f"WHERE {self._predicate('')} ORDER BY i LIMIT {self.random.randrange(1, 9)}"
        )

    def _update(self) -> str:
        change = self.random.choice(
            (f"a SET x = x + {self.random.randrange(9)}", f"a SET y = {self._expression(1)}",
             f"a SET s = 's' || {self.random.randrange(90)}")
        )  # fmt: skip
        return f"UPDATE {self.random.choice(CONFLICTS)}{change} WHERE {self._predicate('')}"

    def _delete(self) -> str:
        return self.random.choice(
            (f"DELETE FROM a WHERE i % 9 = {self.random.randrange(9)}",
             f"DELETE FROM b WHERE n > {self.random.randrange(10, 60)}",
             f"DELETE FROM c WHERE z IS NULL OR i % 5 = {self.random.randrange(5)}",
             f"DELETE FROM told WHERE n < {self.random.randrange(50)}")
        )  # fmt: skip

    def _bounds(self) -> str:
        """Where a transaction, or a savepoint in one, begins or ends."""
        if not self.sqlite.in_transaction:
            return "BEGIN IMMEDIATE"
        kind = self.random.random()
        if kind < 0.4:
            self.savepoints.append(f"p{len(self.savepoints)}")
            return f"SAVEPOINT {self.savepoints[-1]}"
        if kind < 0.7 and self.savepoints:
            at = self.random.randrange(len(self.savepoints))
            name, back = self.savepoints[at], self.random.random() < 0.5
            del self.savepoints[at + back :]
            return f"ROLLBACK TO {name}" if back else f"RELEASE {name}"
        return self.random.choice(("COMMIT", "COMMIT", "ROLLBACK"))

    def _shape(self) -> str:
        self.columns += 1
        inside = self.sqlite.in_transaction
        free: tuple[str, ...] = () if inside else ("VACUUM", "REINDEX")
        drawn: str = self.random.choice(
            (f"ALTER TABLE told ADD COLUMN c{self.columns} DEFAULT {self.columns}",
             f"CREATE INDEX IF NOT EXISTS i{self.columns % 3} ON a(y, s)",
             f"DROP INDEX IF EXISTS i{self.columns % 3}", "ANALYZE", *free)
        )  # fmt: skip
        return drawn

    def _wrong(self) -> str:
        return self.random.choice(
            ("INSERT INTO nowhere VALUES(1)", "SELEC 1", "INSERT INTO a(nothing) VALUES(1)",
             "CREATE TABLE a(i)", "INSERT INTO c(z) VALUES(99)", "INSERT INTO b(k) SELECT s FROM a",
             "DROP TABLE never", "UPDATE w SET total = 1", "SELECT sum(sum(x)) FROM a")
        )  # fmt: skip
