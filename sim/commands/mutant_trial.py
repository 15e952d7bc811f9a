"""One mutant, in a process of its own: seeds until one finds it or the budget is spent.

The process is fresh, and imports nothing of the system before the mutant is installed. What it has
found goes to its standard output, one JSON object; if it is killed, there is none.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from contextlib import suppress
from time import process_time
from typing import Any, Final

from sim.mutants.apply import Reached, install

HANG_S: Final = 20
"""CPU seconds: a seed that takes longer hangs. Usually one takes less than one."""
_MEMORY_BYTES: Final = 4 << 30
"""A mutant that fills memory for ever ends here."""
_FINDING_CHARACTERS: Final = 400


def main() -> None:
    """Try the mutant that the one argument describes, a JSON object."""
    wanted = json.loads(sys.argv[1])
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    sys.stdout = sys.stderr  # nothing else may come between
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, resource.RLIM_INFINITY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _limit_cpu(wanted["hang_s"])
    reached = install(wanted["module"], wanted["id"])
    found = _try(reached, wanted["first_seed"], wanted["budget_s"], wanted["hang_s"])
    out.write(json.dumps(found))
    out.close()
    os._exit(0)  # whatever the mutant has left behind is not waited for


def _limit_cpu(more_s: int) -> None:
    """From now on, so much CPU time and no more: then the kernel ends this process."""
    soft = int(process_time()) + 1 + more_s
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def _try(reached: Reached, first_seed: int, budget_s: float, hang_s: int) -> dict[str, Any]:
    found: dict[str, Any] = {"outcome": "survived", "seeds": 0, "undecided": 0}
    try:
        from sim.commands.fleet import run_seed  # only now: it imports the mutant
        from sim.run import Verdict
    except Exception as error:  # noqa: BLE001 - the mutant cannot even be imported
        return found | {
            "outcome": "crashed",
            "finding": f"{type(error).__name__}: {error}"[:_FINDING_CHARACTERS],
            "reached": reached.yes,
            "cpu_s": process_time(),
        }
    parent = os.getppid()
    while process_time() < budget_s and os.getppid() == parent:  # else nobody waits for it
        _limit_cpu(hang_s)
        result = run_seed(first_seed + found["seeds"])
        found["seeds"] += 1
        found["undecided"] += result.verdict is Verdict.UNDECIDED
        failed = result.verdict in (Verdict.VIOLATION, Verdict.LIVENESS)
        if failed and process_time() <= budget_s:
            found["outcome"] = "found"
        elif result.verdict is Verdict.INTERNAL:
            found["outcome"] = "simulator failed"
        if found["outcome"] == "found" or result.verdict is Verdict.INTERNAL:
            found |= {
                "invariant": result.invariant,
                "finding": result.finding[:_FINDING_CHARACTERS],
                "seed": result.seed,
            }
        if found["outcome"] == "found":
            break
    if not reached.yes and found["outcome"] == "survived":
        found["outcome"] = "never reached"
    return found | {"reached": reached.yes, "cpu_s": round(process_time(), 3)}


if __name__ == "__main__":
    main()
