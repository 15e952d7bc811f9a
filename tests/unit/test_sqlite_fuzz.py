"""Random statements on a database and on plain SQLite: the same answers, now and of every commit.

More of them: ``python scripts/fuzz_sql.py --seeds 300``.
"""

from __future__ import annotations

import pytest

from tests.sqlite_differ import ENGINES, differ_of


@pytest.mark.parametrize("seed", range(6))
def test_a_database_does_what_plain_sqlite_does(seed: int) -> None:
    differ = differ_of(seed, ENGINES[seed % len(ENGINES)])
    assert differ.failures > 5
    assert len(differ.commits) > 5
