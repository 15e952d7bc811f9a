"""Bugs of SQLite on a volume: what the VFS promises SQLite, and what callers are told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sim.bugs.plan import ALL, Plan
from sim.bugs.registry import Bug, Edit
from sim.plan.schedule import MS

_COMMIT: Final = "aurora.sqlite.vfs:WriterFile.commit"
_TRANSACTION: Final = "aurora.sqlite.database:Database.transaction"
_OPEN_WRITER: Final = "aurora.sqlite.connections:Connections.open_writer"
_SUBMIT: Final = "    self.last_commit = wait(self.volume.submit(writes))\n"

SQL_BUGS: Final = (
    Bug(
        name="sql-journal-off",
        summary="SQLite keeps no journal: ROLLBACK TO changes nothing",
        section="protocol §11, 33",
        edits=(Edit(_OPEN_WRITER, "journal_mode=MEMORY", "journal_mode=OFF"),),
    ),
    Bug(
        name="sql-fails-after-submit",
        summary="a caller that gives up while its commit waits to be durable has it rolled back",
        section="protocol §11, 36",
        edits=(Edit(_COMMIT, _SUBMIT, _SUBMIT + "    wait(self.last_commit.durable())\n"),),
    ),
    Bug(
        name="sql-change-counter-ignored",
        summary="readers keep the pages that they have cached, whatever has been committed",
        section="protocol §11, 33",
        edits=(
            Edit(
                "aurora.sqlite.vfs:VolumeFile.xRead",
                "    page = self.page(page_id + 1)\n",
                "    page = self.page(page_id + 1)\n"
                "    if amount == 16:\n"
                "        page = self.__dict__.setdefault('first', page)\n",
            ),
        ),
    ),
    Bug(
        name="sql-reads-inside-an-mtr",
        summary="an LSN amid a transaction's records is a moment to read at",
        section="protocol §11, 33",
        edits=(
            Edit(
                "aurora.sqlite.history:commit_of",
                "        return await _kept(volume, commit)\n",
                "        return commit._replace(lsn=point)\n",
            ),
        ),
    ),
    Bug(
        name="sql-dependents-do-not-fail",
        summary="who waits for a commit when the writer ends is told that all is well",
        section="protocol §11, 37",
        edits=(
            Edit(
                "aurora.sqlite.writer:Writer.settle",
                "        await commit.durable()",
                "        try:\n"
                "            await commit.durable()\n"
                "        except Exception:\n"
                "            pass",
            ),
        ),
    ),
    Bug(
        name="sql-failed-commit-is-cached",
        summary="the pages of a commit that has failed are taken for the newest ones",
        section="protocol §11, 33",
        edits=(
            Edit(
                _COMMIT,
                _SUBMIT,
                "    for page_id, image in buffer.images.items():\n"
                "        self._heads[page_id] = image\n" + _SUBMIT,
            ),
        ),
    ),
    Bug(
        name="sql-exclusive-locking",
        summary="the writer's connection locks the file for good: the change counter stops",
        section="protocol §11, 33",
        edits=(
            Edit(
                _OPEN_WRITER, '"synchronous=OFF",', '"synchronous=OFF", "locking_mode=EXCLUSIVE",'
            ),
            Edit(
                "aurora.sqlite.writer:Writer._transact",
                'assert not file.locked, "SQLite has not ended a statement"',
                "pass",
            ),
            Edit(
                "aurora.sqlite.writer:Writer.roll_back",
                'assert not self.file.locked, "SQLite has not ended a statement"',
                "pass",
            ),
        ),
    ),
    Bug(
        name="sql-read-before-durable",
        summary="a transaction that has only read is told before the head it saw is durable",
        section="protocol §11, 37",
        edits=(
            Edit(
                _TRANSACTION,
                "    await writer.settle(commit)\n",
                "    if commit is not head:\n        await writer.settle(commit)\n",
            ),
        ),
    ),
    Bug(
        name="sql-constraint-before-durable",
        summary="a statement that a constraint forbids fails before the head it saw is durable",
        section="protocol §11, 37",
        edits=(
            Edit(
                "aurora.sqlite.writer:Writer.alone",
                "    await self.settle()\n    if failure is not None:\n        raise failure\n",
                "    if failure is not None:\n        raise failure\n    await self.settle()\n",
            ),
        ),
    ),
    Bug(
        name="sql-rolled-back-is-committed",
        summary="what a transaction that was rolled back has spilled beyond the end is committed",
        section="protocol §11, 36",
        edits=(
            Edit(
                "aurora.sqlite.page_buffer:PageBuffer.writes",
                "if self._images.get(HEADER_PAGE) == bases.get(HEADER_PAGE):",
                "if not self._images:",
            ),
            Edit(
                "aurora.sqlite.vfs:WriterFile.commit",
                "if header is None or header == self.head(HEADER_PAGE):",
                "if header is None:",
            ),
        ),
    ),
    Bug(
        name="sql-stamp-first",
        summary="the commit's stamp is the first record of its mini-transaction",
        section="protocol §11, 36",
        edits=(
            Edit(
                "aurora.sqlite.page_buffer:PageBuffer.writes",
                "writes.append(PageWrite(COMMIT_PAGE, 0,",
                "writes.insert(0, PageWrite(COMMIT_PAGE, 0,",
            ),
        ),
    ),
    Bug(
        name="sql-snapshot-not-held",
        summary="the versions that a snapshot at an LSN reads may be collected meanwhile",
        section="protocol §11, 14",
        edits=(
            Edit(
                "aurora.sqlite.database:Database.at",
                "with self._volume.held(commit.lsn):",
                "if True:",
            ),
        ),
    ),
    Bug(
        name="sql-backtrack-keeps-the-counter",
        summary="a database made what it was has the change counter of before",
        section="protocol §11, 33",
        edits=(
            Edit(
                "aurora.sqlite.header:restored",
                "changes = _number(newest, _CHANGES_AT) + 1 & 0xFFFF_FFFF",
                "changes = _number(newest, _CHANGES_AT)",
            ),
        ),
    ),
    Bug(
        name="sql-differs-from-what-spilled",
        summary="a page that was spilled is compared with what was spilled, not with the head",
        section="protocol §11, 33",
        edits=(
            Edit(
                "aurora.sqlite.page_buffer:PageBuffer.overwrite",
                "    self._images[page_id] = image",
                "    self._bases[page_id] = self._images[page_id]\n"
                "    self._images[page_id] = image",
            ),
        ),
    ),
)


def _bank() -> Plan:
    """A day of a bank: each thing that can go wrong has its hour.

    A commit takes 0.3 ms, so what comes 0.05 ms later builds on one that is not durable.
    """
    plan = Plan(70, max_mtr_writes=40, retention_lsns=60, heartbeat_interval_ns=2 * MS)
    plan.sql(1, "setup")
    plan.sql(5, "transfer")
    plan.sql(6, "query", 1)
    plan.sql(7, "transfer", 0, (1, 2))
    plan.sql(8, "query", 1)
    plan.sql(9, "savepoint", 0, (2, 3), length=60)
    plan.sql(12, "bulk", 0, (3, 4), length=60)
    plan.sql(15, "unbulk", 0, length=100)
    plan.sql(17, "bulk", 0, length=400)  # more than a transaction may have
    plan.sql(19, "transfer", 0, (2, 1))
    plan.sql(20, "query", 1)
    plan.sql(22, "auto", 0)
    plan.sql(22.05, "head", 2)
    plan.sql(24, "auto", 0, (6, 7), offset=60)
    plan.sql(24.05, "auto", 2, (6, 7), offset=60)  # more than is left
    for client, age in ((3, 0.05), (4, 0.1), (5, 0.15), (6, 0.2)):
        plan.sql(26, "at", client, age=age)
    plan.sql(27, "at", 3, age=0.6, hold_ns=12 * MS)
    for at_ms in range(28, 38):
        plan.sql(at_ms, "transfer", 0, (at_ms % 8, (at_ms + 1) % 8))
    plan.sql(40, "auto", 0, patience_ns=MS // 10)
    plan.sql(41, "transfer", 0)
    plan.sql(42, "query", 1)
    plan.sql(44, "backtrack", 0, age=0.5)
    plan.sql(46, "query", 1)
    plan.sql(47, "caught", 0, (1, 2))
    plan.sql(48, "query", 1)
    plan.cut(49.9, "writer", ALL)
    plan.sql(50, "auto", 0)
    plan.sql(50.05, "auto", 2)
    plan.fault(50.5, "crash_writer")
    plan.fault(50.6, "heal_network")
    plan.fault(51, "recover")
    plan.sql(60, "audit", 3)
    return plan


PLANS: Final[dict[str, Callable[[], Plan]]] = {bug.name: _bank for bug in SQL_BUGS}
"""The schedules made for these bugs: one for all of them."""
