#!/usr/bin/env python3
"""Make a SQLite database and its write-ahead log, for the simulator to replay.

    python scripts/make_sqlite_workload.py /tmp/shop.db --transactions 500
    python -m aurora.sim run --workload /tmp/shop.db-wal

The database is a small shop: customers, products, orders and order lines, with indexes. First it
is filled with a catalogue, which goes into FILE.db; then orders are placed, paid, shipped,
cancelled and archived, each time in a transaction of its own that stays in FILE.db-wal.

SQLite moves its log into the database when the log has grown to 1,000 pages, and when the last
connection closes, and then deletes it. So here automatic checkpoints are off, and both files are
copied while the connection is still open. One seed gives the same rows and the same pages; the
salts in the log are SQLite's own and differ each time.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

SCHEMA = """
CREATE TABLE customers (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, email TEXT NOT NULL UNIQUE,
    address TEXT NOT NULL, balance_cents INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE products (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, price_cents INTEGER NOT NULL, stock INTEGER NOT NULL
);
CREATE TABLE orders (
    id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL REFERENCES customers(id),
    placed_at INTEGER NOT NULL, status TEXT NOT NULL, total_cents INTEGER NOT NULL, note TEXT
);
CREATE INDEX orders_by_customer ON orders(customer_id, placed_at);
CREATE INDEX orders_by_status ON orders(status, placed_at);
CREATE TABLE order_lines (
    order_id INTEGER NOT NULL REFERENCES orders(id), line INTEGER NOT NULL,
    product_id INTEGER NOT NULL REFERENCES products(id), quantity INTEGER NOT NULL,
    price_cents INTEGER NOT NULL, PRIMARY KEY (order_id, line)
) WITHOUT ROWID;
CREATE INDEX order_lines_by_product ON order_lines(product_id);
"""
WORDS = ("amber", "brass", "cedar", "delta", "ember", "fjord", "grove", "hazel", "indigo", "kelp")
CUSTOMERS = 200
PRODUCTS = 120
PAGE_SIZES = (512, 1024, 2048, 4096, 8192)


class Shop:
    """The business: each method is the body of one transaction."""

    def __init__(self, connection: sqlite3.Connection, seed: int) -> None:
        self._db = connection
        self._random = random.Random(seed)
        self._now = 1_700_000_000

    def _text(self, words: int) -> str:
        return " ".join(self._random.choices(WORDS, k=words))

    def fill_catalogue(self) -> None:
        """Insert the customers and the products."""
        for number in range(1, CUSTOMERS + 1):
            self._db.execute(
                "INSERT INTO customers(name, email, address) VALUES (?, ?, ?)",
                (self._text(2), f"customer{number}@example.org", self._text(12)),
            )
        for _ in range(PRODUCTS):
            self._db.execute(
                "INSERT INTO products(name, price_cents, stock) VALUES (?, ?, ?)",
                (self._text(4), self._random.randint(100, 50_000), 10_000),
            )

    def place_order(self) -> None:
        """One order of a few lines; stock and balance follow."""
        self._now += self._random.randint(1, 600)
        customer = self._random.randint(1, CUSTOMERS)
        order = self._db.execute(
            "INSERT INTO orders(customer_id, placed_at, status, total_cents, note) "
            "VALUES (?, ?, 'placed', 0, ?)",
            (customer, self._now, self._text(self._random.randint(0, 40))),
        ).lastrowid
        total = 0
        for line in range(self._random.randint(1, 8)):
            product, quantity = self._random.randint(1, PRODUCTS), self._random.randint(1, 5)
            query = "SELECT price_cents FROM products WHERE id = ?"
            (price,) = self._db.execute(query, (product,)).fetchone()
            total += price * quantity
            self._db.execute(
                "INSERT INTO order_lines VALUES (?, ?, ?, ?, ?)",
                (order, line, product, quantity, price),
            )
            self._db.execute(
                "UPDATE products SET stock = stock - ? WHERE id = ?", (quantity, product)
            )
        self._db.execute("UPDATE orders SET total_cents = ? WHERE id = ?", (total, order))
        self._charge(customer, total)

    def advance_order(self) -> None:
        """The oldest order that is placed gets paid, or one that is paid gets shipped."""
        before, after = self._random.choice((("placed", "paid"), ("paid", "shipped")))
        self._db.execute(
            "UPDATE orders SET status = ? WHERE id = "
            "(SELECT id FROM orders WHERE status = ? ORDER BY placed_at LIMIT 1)",
            (after, before),
        )

    def cancel_order(self) -> None:
        """The latest order that is not paid goes, with its lines."""
        row = self._db.execute(
            "SELECT id, customer_id, total_cents FROM orders WHERE status = 'placed' "
            "ORDER BY placed_at DESC LIMIT 1"
        ).fetchone()
        if row is not None:
            order, customer, total = row
            self._delete_order(order)
            self._charge(customer, -total)

    def move_customer(self) -> None:
        """An address changes, and with it the length of the row."""
        self._db.execute(
            "UPDATE customers SET address = ? WHERE id = ?",
            (self._text(self._random.randint(5, 60)), self._random.randint(1, CUSTOMERS)),
        )

    def raise_prices(self) -> None:
        """Many rows change by a few bytes."""
        self._db.execute(
            "UPDATE products SET price_cents = price_cents + price_cents / 50 WHERE id % 7 = ?",
            (self._random.randrange(7),),
        )

    def archive_orders(self) -> None:
        """The oldest shipped orders go: pages become free, to be used again."""
        query = "SELECT id FROM orders WHERE status = 'shipped' ORDER BY placed_at LIMIT 25"
        for (order,) in self._db.execute(query).fetchall():
            self._delete_order(order)

    def any_transaction(self) -> None:
        """One of the above, as often as they happen in a shop; it always changes something."""
        actions = {
            self.place_order: 50,
            self.advance_order: 30,
            self.move_customer: 8,
            self.cancel_order: 6,
            self.archive_orders: 3,
            self.raise_prices: 3,
        }
        (action,) = self._random.choices(list(actions), weights=list(actions.values()))
        changes = self._db.total_changes
        action()
        if self._db.total_changes == changes:
            self.place_order()

    def _delete_order(self, order: int) -> None:
        self._db.execute("DELETE FROM order_lines WHERE order_id = ?", (order,))
        self._db.execute("DELETE FROM orders WHERE id = ?", (order,))

    def _charge(self, customer: int, cents: int) -> None:
        self._db.execute(
            "UPDATE customers SET balance_cents = balance_cents + ? WHERE id = ?",
            (cents, customer),
        )


def make_workload(path: Path, page_size: int, transactions: int, seed: int) -> Path:
    """Write ``path`` and ``path``-wal, replacing what is there; return the path of the log."""
    log_path = path.with_name(path.name + "-wal")
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory, "work.db")
        with contextlib.closing(sqlite3.connect(work, isolation_level=None)) as connection:
            connection.execute(f"PRAGMA page_size = {page_size}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA wal_autocheckpoint = 0")
            connection.executescript(SCHEMA)
            shop = Shop(connection, seed)
            with transaction(connection):
                shop.fill_catalogue()
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            for _ in range(transactions):
                with transaction(connection):
                    shop.any_transaction()
            shutil.copyfile(work, path)
            shutil.copyfile(work.with_name("work.db-wal"), log_path)
    return log_path


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit what is done inside, or roll it back if it fails."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def main() -> int:
    """Parse the command line, make the two files and say what they are."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, metavar="FILE.db", help="the log is FILE.db-wal")
    parser.add_argument(
        "--page-size", type=int, choices=PAGE_SIZES, default=4096, help="default: 4096"
    )
    parser.add_argument(
        "--transactions", type=int, default=300, metavar="N", help="how many; default: 300"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=1,
        metavar="N",
        help="what the shop does follows from it; default: 1",
    )
    parser.add_argument("--force", action="store_true", help="replace files that exist")
    options = parser.parse_args()
    log_path = options.file.with_name(options.file.name + "-wal")
    if options.transactions < 1:
        parser.error(f"--transactions is {options.transactions}: expected 1 or more")
    if options.seed < 0:
        parser.error(f"--seed is {options.seed}: expected 0 or more")
    if not options.file.parent.is_dir():
        parser.error(f"{options.file.parent}: there is no such directory")
    for existing in (options.file, log_path):
        if existing.exists() and not options.force:
            parser.error(f"{existing} exists: choose another name, or --force to replace it")
    make_workload(options.file, options.page_size, options.transactions, options.seed)
    for made in (options.file, log_path):
        print(f"{made}: {made.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
