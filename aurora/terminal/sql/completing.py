"""Completion at the prompt of the shell: keywords, tables, columns, commands."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from aurora.terminal.language import Misuse
from aurora.terminal.sql.commands import COMMANDS, find

_WORD: Final = re.compile(r"[\w.]*$")
_KEYWORDS: Final = tuple(
    re.findall(
        r"\w+",
        """
        ADD ALL ALTER ANALYZE AND AS ASC BEGIN BETWEEN BY CASCADE CASE CHECK COLLATE COLUMN COMMIT
        CONFLICT CONSTRAINT CREATE CROSS CURRENT_DATE CURRENT_TIME CURRENT_TIMESTAMP DEFAULT DELETE
        DESC DISTINCT DO DROP ELSE END EXCEPT EXISTS EXPLAIN FILTER FOREIGN FROM FULL GENERATED
        GROUP HAVING IF IGNORE IN INDEX INNER INSERT INTERSECT INTO IS ISNULL JOIN KEY LEFT LIKE
        LIMIT NATURAL NOT NOTHING NOTNULL NULL OFFSET ON OR ORDER OUTER OVER PARTITION PLAN PRAGMA
        PRIMARY QUERY RECURSIVE REFERENCES REINDEX RELEASE RENAME REPLACE RETURNING RIGHT ROLLBACK
        ROW ROWS SAVEPOINT SELECT SET STRICT TABLE TEMP TEMPORARY THEN TO TRANSACTION TRIGGER UNION
        UNIQUE UPDATE USING VACUUM VALUES VIEW VIRTUAL WHEN WHERE WINDOW WITH WITHOUT
        """,
    )
)
_BEFORE_TABLES: Final = frozenset({"FROM", "INTO", "JOIN", "UPDATE", "TABLE", "ON", "REFERENCES"})

Names = Mapping[str, Sequence[str]]
"""Tables and views, and the columns of each."""


class SqlCompleter(Completer):
    """Offers what may come next, as far as that can be told from the words before."""

    def __init__(self, segments: Iterable[str]) -> None:
        names = list(segments)
        letters = dict.fromkeys(name[0] for name in names)
        self._segments = (*letters, *names, "az1", "az2", "az3")
        self.names: Names = {}
        """To be set anew whenever they change."""

    def get_completions(self, document: Document, _: CompleteEvent) -> Iterator[Completion]:
        """The words that continue the one before the cursor."""
        text = document.text_before_cursor
        if text.lstrip().startswith("."):
            offered, word = self._of_command(text.lstrip())
        else:
            match = _WORD.search(text)
            word = match[0] if match else ""
            offered = self._of_sql(text[: len(text) - len(word)], word)
        lower = word.lower()
        for each in dict.fromkeys(offered):
            if each.lower().startswith(lower):
                shown = each.lower() if each in _KEYWORDS and word.islower() else each
                yield Completion(shown, start_position=-len(word))

    def _of_command(self, text: str) -> tuple[list[str], str]:
        words = text.split(" ")
        if len(words) == 1:
            return [f".{name}" for name in COMMANDS], words[0]
        try:
            takes = find(words[0]).takes
        except Misuse:
            return [], words[-1]
        known = {
            "segments": self._segments,
            "tables": tuple(self.names),
            "commands": tuple(COMMANDS),
        }
        offered = [each for name in takes for each in known.get(name, (name,))]
        return [each for each in offered if each not in words[1:-1]], words[-1]

    def _of_sql(self, before: str, word: str) -> list[str]:
        table, dot, _ = word.partition(".")
        if dot:
            columns = self._columns(table)
            return [f"{table}.{each}" for each in columns]
        words = re.findall(r"\w+", before)
        tables = list(self.names)
        if words and words[-1].upper() in _BEFORE_TABLES:
            fitting = [each for each in tables if each.lower().startswith(word.lower())]
            return fitting or list(_KEYWORDS)  # such as IF EXISTS
        used = {each.lower() for each in words}
        mentioned = [each for each in tables if each.lower() in used]
        columns = [each for name in mentioned or tables for each in self.names[name]]
        return [*columns, *tables, *_KEYWORDS]

    def _columns(self, table: str) -> Sequence[str]:
        for name, columns in self.names.items():
            if name.lower() == table.lower():
                return columns
        return ()
