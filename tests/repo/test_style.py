"""Rules of style that no tool checks for us, each with a sample that breaks it."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Final

import pytest

from tests.repo.sources import PACKAGES, all_files, of_each, parsed, python_files, text, used_names

PYTHON: Final = python_files(*PACKAGES, "scripts", "tests")

MODULE_LINES: Final = 400
FUNCTION_LINES: Final = 70
CATCH_ALLS: Final = frozenset({"common", "helper", "helpers", "misc", "types", "util", "utils"})

CLOCKS: Final = re.compile(
    r"time\.(time|monotonic|perf_counter|process_time|thread_time)(_ns)?|time\.(sleep|localtime)"
    r"|datetime\.datetime\.(now|utcnow|today)|datetime\.date\.today"
)
RANDOMNESS: Final = re.compile(
    r"random\.(?!Random$)\w+|uuid\.uuid[14]|os\.urandom|secrets\.\w+|random\.Random\(\)"
)
AMBIENT_ALLOWED: Final[dict[str, frozenset[str]]] = {
    "aurora/cluster.py": frozenset({"random.SystemRandom()", "time.time_ns"}),
    "aurora/terminal/converting.py": frozenset({"random.SystemRandom()"}),
    "sim/view/command.py": frozenset({"secrets.token_urlsafe"}),
}
"""Per file, what it may take from its surroundings all the same: the edges where it comes in."""

# Spelled in halves, so that this file does not break its own rules.
REGISTRIES: Final = re.compile("|".join(("py" + r"pi\.", "python" + "hosted", "index" + "-url")))
MACHINE_PATHS: Final = re.compile(r"(?<![\w.~*<>}])/(home|root|" + r"Users|work|opt|mnt|srv)/\w")


def long_functions(tree: ast.Module) -> list[str]:
    """Functions of 70 lines or more, from `def` to their end."""
    return [
        f"{node.name} (line {node.lineno})"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or node.lineno) - node.lineno + 1 >= FUNCTION_LINES
    ]


def unexplained_length(source: str) -> bool:
    """Whether a module is over 400 lines and its docstring does not say why ("400 lines")."""
    if len(source.splitlines()) <= MODULE_LINES:
        return False
    return f"{MODULE_LINES} lines" not in (ast.get_docstring(ast.parse(source)) or "")


def uses(tree: ast.Module, banned: re.Pattern[str]) -> list[str]:
    """Uses of what ``banned`` matches, by full name; a call without arguments ends in ``()``."""
    bare = {
        id(node.func)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        if not node.args and not node.keywords
    }
    found = [(node, name + "()" * (id(node) in bare)) for node, name in used_names(tree)]
    return [
        f"{name} (line {node.lineno})"
        for node, name in found
        if banned.fullmatch(name) or banned.fullmatch(name.removesuffix("()"))
    ]


def test_functions_are_short() -> None:
    assert of_each(PYTHON, lambda path: long_functions(parsed(path))) == []


def test_a_long_module_says_why() -> None:
    modules = python_files(*PACKAGES, "scripts")
    assert [str(path) for path in modules if unexplained_length(text(path))] == []


def test_no_module_is_a_catch_all() -> None:
    assert of_each(PYTHON, lambda path: CATCH_ALLS & {*path.with_suffix("").parts}) == []


def taken(path: Path, *banned: re.Pattern[str]) -> list[str]:
    """What a file takes from its surroundings and may not."""
    allowed = AMBIENT_ALLOWED.get(path.as_posix(), frozenset())
    found = [each for pattern in banned for each in uses(parsed(path), pattern)]
    return [each for each in found if each.split(" ")[0] not in allowed]


def test_clock_and_randomness_are_given_not_taken() -> None:
    files = python_files("aurora", "segments")
    assert of_each(files, lambda path: taken(path, CLOCKS, RANDOMNESS)) == []


def test_the_simulator_draws_only_from_its_seed() -> None:
    """It may look at the real clock, to report how long a run took."""
    assert of_each(python_files("sim"), lambda path: taken(path, RANDOMNESS)) == []


def test_nothing_really_sleeps() -> None:
    sleep = re.compile(r"time\.sleep")
    assert of_each(PYTHON, lambda path: uses(parsed(path), sleep)) == []


def test_only_the_scheduler_touches_trios_private_hooks() -> None:
    allowed = ("sim/world/scheduler.py", "tests/simulation/test_scheduler.py")
    others = [path for path in PYTHON if path.as_posix() not in allowed]
    hooks = re.compile(r"trio\._.*")
    assert of_each(others, lambda path: uses(parsed(path), hooks)) == []


def test_no_merge_was_left_half_done() -> None:
    marks = re.compile(r"^(<{7}|>{7}) ", re.MULTILINE)
    assert of_each(all_files(), lambda path: marks.findall(text(path))) == []


def test_a_file_speaks_of_no_registry_and_no_one_machine() -> None:
    assert of_each(all_files(), lambda path: REGISTRIES.findall(text(path))) == []
    assert of_each(all_files(), lambda path: MACHINE_PATHS.findall(text(path))) == []


# ---- the rules themselves ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        "import time\nnow = time.time()",
        "import time as t\nnow = t.perf_counter_ns()",
        "from time import monotonic\nnow = monotonic()",
        "from datetime import datetime\nnow = datetime.now()",
        "import datetime\nclock = datetime.datetime.utcnow",
    ],
)
def test_a_clock_is_found(source: str) -> None:
    assert len(uses(ast.parse(source), CLOCKS)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "import random\nx = random.random()",
        "from random import choice as pick\nx = pick([1])",
        "import random\nrng = random.Random()",
        "from random import Random\nrng = Random()",
        "from uuid import uuid4\nx = uuid4()",
        "import os\nx = os.urandom(8)",
    ],
)
def test_ambient_randomness_is_found(source: str) -> None:
    assert len(uses(ast.parse(source), RANDOMNESS)) == 1


def test_a_seeded_generator_is_fine() -> None:
    source = "import random\ndef draw(rng: random.Random) -> int: ...\ndraw(random.Random(7))"
    assert uses(ast.parse(source), RANDOMNESS) == []


def test_length_is_counted() -> None:
    body = "    x = 1\n"
    assert long_functions(ast.parse("def f():\n" + body * (FUNCTION_LINES - 2))) == []
    assert long_functions(ast.parse("def f():\n" + body * (FUNCTION_LINES - 1))) == ["f (line 1)"]
    assert not unexplained_length("x = 1\n" * MODULE_LINES)
    assert unexplained_length("x = 1\n" * (MODULE_LINES + 1))
    assert not unexplained_length('"""Over 400 lines: one table."""\n' + "x = 1\n" * MODULE_LINES)


def test_addresses_and_paths_are_found() -> None:
    assert REGISTRIES.search("see https://" + "py" + "pi.org/project/x")
    for path in ("/home" + "/me/x", "in '/opt" + "/x'", "cd /work" + "/x"):
        assert MACHINE_PATHS.search(path), path
    for path in (
        "tests/wo" + "rk/x",
        "~/wo" + "rk/x",
        "/tmp/shop.db",
        "https://example.org/home/x",
        "/usr/bin/env",
    ):
        assert not MACHINE_PATHS.search(path), path
