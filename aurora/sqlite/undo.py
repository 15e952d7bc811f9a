"""A statement that has changed something, and whose rows cannot be told, is taken back.

What RETURNING returns comes after all has been changed: if it is text that is no UTF-8, for one,
SQLite has done its part, and takes the end of the statement for success. Interrupting it would roll
back the whole transaction. So such a statement, and no other, stands in a savepoint of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import apsw

_NAME: Final = '"a statement with rows"'


class Undo:
    """The savepoint of the statement that one connection runs, if it has one."""

    def __init__(self, sqlite: apsw.Connection, say: Callable[[str], None]) -> None:
        """``say`` runs a statement, with a cursor of its own."""
        self.open = False
        """Whether there is one."""
        self._sqlite = sqlite
        self._say = say

    def before(self, cursor: apsw.Cursor, _: str, __: Any) -> bool:
        """Called before a statement is run: as an ``exec_trace``, or by one."""
        self.keep()
        if not cursor.is_readonly and cursor.get_description():
            self._say(f"SAVEPOINT {_NAME}")
            self.open = True
        return True

    def keep(self) -> None:
        """The statement has gone well, or SQLite has ended it itself."""
        if self._ended():
            self._say(f"RELEASE {_NAME}")

    def take_back(self) -> None:
        """Undo the statement, whose cursor has been closed."""
        if self._ended():
            self._say(f"ROLLBACK TO {_NAME}")
            self._say(f"RELEASE {_NAME}")

    def _ended(self) -> bool:
        """Whether there was a savepoint that is still there."""
        was_open, self.open = self.open, False
        return was_open and self._sqlite.in_transaction
