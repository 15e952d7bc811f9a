"""SQLite on a volume: pages in the log, transactions as mini-transactions, time travel.

``aurora.open_database`` is the way in (`aurora.sqlite.opening`); docs/architecture.md lists the
rooms. Nothing below this package knows of it.
"""
