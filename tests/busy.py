"""A run by hand in which much happens, for tests that need one and care little for which.

No generator draws it: it stays as it is when those are changed.
"""

from __future__ import annotations

from typing import Final

from sim.plan.schedule import MS, Action, Knobs, Operation, Schedule

_KINDS: Final = ("put", "put", "get", "put", "strict_get", "put", "view", "get_at", "put", "list")
BUSY: Final = Schedule(
    seed=5,
    knobs=Knobs(
        pg_count=2, lal=200, retention_lsns=20, buffer_pool_pages=8, batches_in_flight=2,
        image_interval=4, image_cache_bytes=1 << 10, wal_file_bytes=16 << 10, fold_bytes=1 << 10,
        block_bytes=512, fan_out=2, collect_ratio=0.05, compact_bytes=4 << 10, compact_ratio=1.1,
        gossip_bytes=16 << 10, check_every=64, duration_ns=900 * MS, liveness_ns=20_000 * MS,
    ),
    actions=(
        Action(at_ns=60 * MS, kind="crash", target="A0,B1"),
        Action(at_ns=200 * MS, kind="crash_writer"),
        Action(at_ns=210 * MS, kind="recover"),
        Action(at_ns=320 * MS, kind="restart", target="A0,B1"),
        Action(at_ns=400 * MS, kind="take_over"),
        Action(at_ns=500 * MS, kind="clog", target="writers", params={"others": "az2"}),
        Action(at_ns=620 * MS, kind="heal_network"),
        Action(at_ns=880 * MS, kind="bit_rot", target="E1", params={"bits": 2}),
    ),
    operations=tuple(
        Operation(
            at_ns=each * 2 * MS, client=each % 3, kind=_KINDS[each % 10], length=64 + each % 50,
            pages=(each * 7 % 23, each * 5 % 11) if _KINDS[each % 10] == "put" else (each % 23,),
            age=0.01 if _KINDS[each % 10] == "view" else 0.5, cached=each % 3 > 0,
        )
        for each in range(400)
    ),
)  # fmt: skip
