"""A film of a run: what it shows is what was so, and what `explain` says."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from typing import Any

import attrs
import pytest

from aurora import events as of_writers
from segments.protocol import events as of_segments
from segments.protocol.events import Event
from sim.commands.case import Case, open_case
from sim.commands.explain import explained
from sim.plan.schedule import MS, Action, Operation
from sim.run import RunResult
from sim.story.evidence import Evidence
from sim.view import maker as film_maker
from sim.view.board import Board, Value
from sim.view.film import Film, as_json, film_of, make_film
from sim.view.kinds import CLASSES, kind_of
from sim.view.lives import NEVER
from sim.view.maker import FilmMaker
from sim.view.sentences import statements_of
from sim.view.tale import as_text
from sim.view.words import words
from sim.world.history import Call
from sim.world.scheduler import Undecided
from sim.world.sql_history import Reading, Statement
from sim.world.world import World


@attrs.frozen
class Filmed:
    """A run with its film."""

    case: Case
    maker: FilmMaker
    result: RunResult
    film: Film


def filmed(case: Case) -> Filmed:
    makers: list[FilmMaker] = []
    result = case.run(lambda run: makers.append(FilmMaker(run)))
    makers[0].finish(result.finding)
    return Filmed(case, makers[0], result, film_of(makers[0], result, case))


@pytest.fixture(scope="module")
def default() -> Filmed:
    """The default scenario: crashes, a lost zone, a slow segment, a recovery."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(film_maker, "KEYFRAME_EVERY", 50)
        return filmed(open_case(None, "default", None))


@pytest.fixture(scope="module")
def failing() -> Filmed:
    """A small run with writers that overtake each other, lost disks and a finding."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(film_maker, "KEYFRAME_EVERY", 20)
        return filmed(open_case(1, None, "third-highest-scl"))


@pytest.fixture(scope="module")
def zombie() -> Filmed:
    """A writer that goes on after another has fenced it: its last batches are lost."""
    return filmed(open_case(None, "zombie-writer", None))


def unlike(film: Film) -> list[tuple[int, str, str, Any, Any]]:
    """Where assignments from one keyframe on do not lead to the next: event, who, what, both."""
    keyframes = {each["event"]: each["state"] for each in film["keyframes"]}
    state = list(keyframes[0])
    found = []
    for number, sets in enumerate(film["events"]["sets"]):
        looked_at = keyframes.get(number, state)
        for slot, (led_to, looked) in enumerate(zip(state, looked_at, strict=True)):
            if led_to != looked:
                node, field = film["slots"][slot]["node"], film["slots"][slot]["field"]
                found.append((number, film["nodes"][node]["id"], field, led_to, looked))
        state = list(keyframes.get(number, state))
        for slot, value in zip(sets[::2], sets[1::2], strict=True) if sets else ():
            state[slot] = value
    return found


# ---- what is shown -------------------------------------------------------------------------------


def test_assignments_lead_from_each_keyframe_to_the_next(
    default: Filmed, failing: Filmed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(film_maker, "KEYFRAME_EVERY", 20)
    overtaken = make_film(open_case(45, None, None))  # writers end without a last step
    for each in (default.film, failing.film, overtaken):
        assert len(each["keyframes"]) > 1
        assert unlike(each) == []


def test_an_assignment_that_is_missing_is_found(failing: Filmed) -> None:
    events = failing.film["events"]
    kinds = [each["name"] for each in failing.film["kinds"]]
    applied = [n for n, kind in enumerate(events["kind"]) if kinds[kind] == "RecordsApplied"]
    sets = list(events["sets"])
    sets[applied[3]] = 0
    found = unlike(failing.film | {"events": events | {"sets": sets}})
    assert {each[2] for each in found} == {"scl"}


def test_faults_show_from_their_actions_to_their_ends(default: Filmed) -> None:
    events, slots = default.film["events"], default.film["slots"]
    nodes = [each["id"] for each in default.film["nodes"]]
    shown: dict[str, list[tuple[str, int]]] = {}
    for number, sets in enumerate(events["sets"]):
        for slot, value in zip(sets[::2], sets[1::2], strict=True) if sets else ():
            if slots[slot]["field"] == "state":
                shown.setdefault(nodes[slots[slot]["node"]], []).append((value, number))
    actions = {text: number for number, text in enumerate(events["text"])}
    for segment, word, begins, ends in (
        ("E0", "paused", "pause E0", "resume E0"),
        ("D0", "slow", "slow D0 (factor 50)", "slow D0 (factor 1)"),
    ):
        (at,) = [n for n, (found, _) in enumerate(shown[segment]) if found == word]
        assert shown[segment][at][1] == actions[begins]
        after, over = shown[segment][at + 1]
        assert after == "up" and 0 <= events["t"][over] - events["t"][actions[ends]] < 5 * MS
    assert [word for word, _ in shown["A0"][:4]] == ["up", "down", "behind", "up"]
    assert [word for word, _ in shown["writer-1"]][-1] == "down"


def test_what_events_tell_is_what_a_look_finds(default: Filmed, failing: Filmed) -> None:
    assert default.maker.board.untold == failing.maker.board.untold == []


def test_a_layer_of_a_peer_tells_the_scl_that_it_has_raised() -> None:
    board, into = Board(World(open_case(1, None, None).schedule)), list[Value]()
    board.said("A0", of_segments.Hydrated(3, 9), into)
    assert into == [board.slots["A0", "scl"], 9]


def test_the_columns_fit_each_other(default: Filmed) -> None:
    film = json.loads(as_json(default.film))
    count = len(film["events"]["t"])
    assert {len(column) for column in film["events"].values()} == {count}
    assert film["events"]["t"] == sorted(film["events"]["t"])
    assert max(film["events"]["kind"]) < len(film["kinds"])
    assert max(film["events"]["node"]) < len(film["nodes"])
    assert max(film["events"]["message"]) < len(film["messages"])
    assert all(film["events"]["text"])
    assert all(len(each["state"]) == len(film["slots"]) for each in film["keyframes"])
    assert all("id " not in text for text in film["events"]["text"])  # writers have names


def test_every_message_is_there(default: Filmed) -> None:
    messages = default.film["messages"]
    assert len(messages) == default.result.messages
    network = default.maker.world.network.statistics()
    assert sum(len(each["arrived"]) for each in messages) == network.delivered
    assert sum(each["lost"] is not None for each in messages) == sum(network.lost.values())


def test_a_step_speaks_of_the_message_that_it_sends_or_takes(default: Filmed) -> None:
    events, messages = default.film["events"], default.film["messages"]
    kinds = [each["name"] for each in default.film["kinds"]]
    sending, taking = {"Sent", "AckSent", "ReadSent"}, {"BatchReceived", "Acknowledged"}
    spoken = 0
    for kind, node, index, at in zip(
        events["kind"], events["node"], events["message"], events["t"], strict=True
    ):
        if kinds[kind] in taking:
            assert messages[index]["to"] == node
            assert at in messages[index]["arrived"] or at > messages[index]["arrived"][0]
        elif kinds[kind] in sending and index >= 0:  # a crash may come in between
            assert messages[index]["from"] == node
            assert messages[index]["sent_ns"] >= at
        spoken += index >= 0
    assert spoken > 1_000
    asked = [each for each in messages if each["type"] == "ReadPage"]
    assert len(asked) > 50
    for each in asked:
        operation = default.case.schedule.operations[each["call"]]
        assert each["call"] >= 0
        assert set(each["pages"]) <= set(operation.pages)
    answered = {each["call"] for each in messages if each["type"] == "PageReply"}
    assert answered - {-1} == {each["call"] for each in asked}  # -1: nobody waited for it any more


def test_whoever_films_changes_nothing(failing: Filmed) -> None:
    assert failing.case.run().digest == failing.result.digest


def test_a_long_film_is_cut() -> None:
    film = make_film(open_case(1, None, "third-highest-scl"), most_events=150)
    assert film["run"]["cut"]
    assert len(film["events"]["t"]) == 150
    assert all(each["event"] < 150 for each in film["landmarks"])
    assert all(each["broken_at"] is None for each in film["invariants"])


@pytest.mark.parametrize("error", [Undecided("no time"), RuntimeError("a mistake")], ids=repr)
def test_a_run_that_ends_before_it_begins_is_shown_and_explained(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def build(*_: object) -> None:
        raise error

    monkeypatch.setattr("sim.world.world.World.build", build)
    film = make_film(open_case(1, None, None))
    assert film["run"]["verdict"] in ("undecided", "internal error")
    assert [each["event"] for each in film["keyframes"]] == [0]
    assert str(error) in film["events"]["text"][-1]


def test_every_step_has_its_class_and_a_sentence() -> None:
    steps = [
        each
        for module in (of_writers, of_segments)
        for _, each in inspect.getmembers(module, inspect.isclass)
        if issubclass(each, Event) and each is not Event and each.__module__ == module.__name__
    ]
    classed = [each for kinds in CLASSES.values() for each in kinds]
    assert sorted(map(str, classed)) == sorted(map(str, steps))
    assert all(kind_of(each).words for each in steps)


def test_whatever_is_shown_has_its_words(default: Filmed) -> None:
    fields = {each["field"].partition(":")[0] for each in default.film["slots"]}
    known = {term.lower() for term in words()}
    assert fields <= known
    assert {each["name"].lower() for each in default.film["invariants"]} <= known
    assert {each["kind"].lower() for each in default.film["faults"]} <= known
    assert {"heartbeat", "detached", "schedule"} <= known
    assert words()["VDL"] == "volume durable LSN: the highest CPL at or below the VCL"


# ---- commits -------------------------------------------------------------------------------------


def stages(copy: Any) -> Sequence[int | None]:
    steps = (copy.arrived, copy.synced, copy.acked)
    return [None if each is None else each.number for each in steps]


@pytest.mark.parametrize("which", ["default", "failing"])
def test_the_life_of_a_commit_is_the_one_that_the_evidence_has(
    which: str, default: Filmed, failing: Filmed
) -> None:
    run = default if which == "default" else failing
    evidence = Evidence(run.maker.recorder, run.result)
    events = run.maker.event_of_step
    lives = run.maker.lives.lives
    compared = 0
    for life in lives[:: max(1, len(lives) // 25)]:
        for segment, copy in evidence.copies(life.lsn).items():
            holder = life.holders[segment]
            if copy.annulled or copy.lost or holder.lost != NEVER:
                continue
            told = [NEVER if each is None else events[each] for each in stages(copy)]
            assert told == [holder.received, holder.synced, holder.acked], (life.lsn, segment)
            compared += 1
    assert compared > 30


def test_a_commit_has_its_fourth_acknowledgement(default: Filmed) -> None:
    film = default.film
    for each in film["commits"]:
        if each["durable"] < 0 or each["quorum"] < 0:
            continue
        heard = sorted(one["heard"] for one in each["holders"] if one["heard"] >= 0)
        assert heard[3] == each["quorum"] <= each["durable"]
    assert film["run"]["commits"] <= len(film["commits"])
    in_parts = make_film(open_case(14, None, None))["commits"]  # over two groups
    assert {len(each["holders"]) for each in in_parts} == {6, 12}
    for each in (*film["commits"], *in_parts):
        assert each["backed"] == each["durable"], each["lsn"]


def test_what_was_lost_and_annulled_was_never_durable(zombie: Filmed) -> None:
    """A later writer's SCLs and VDLs are above it, and say nothing of it."""
    commits, at = zombie.film["commits"], zombie.film["events"]["t"]
    annulled = [each for each in commits if each["annulled"] != NEVER]
    assert annulled
    for each in annulled:
        assert (each["durable"], each["told"], each["quorum"], each["kept"]) == (-1, -1, -1, False)
        assert each["outcome"] != "ok"
        assert all(one["heard"] == NEVER for one in each["holders"])
        assert each["annulled"] >= each["allocated"]
        last = max(one["dropped"] for one in each["holders"])
        assert last == NEVER or at[last] >= at[each["allocated"]]
    assert any(all(one["dropped"] != NEVER for one in each["holders"]) for each in annulled)
    assert any(each["durable"] != NEVER for each in commits if each["lsn"] > annulled[-1]["lsn"])


@pytest.mark.parametrize("which", ["default", "failing", "zombie"])
def test_whose_acknowledgement_counts_is_what_the_evidence_has(
    which: str, request: pytest.FixtureRequest
) -> None:
    run: Filmed = request.getfixturevalue(which)
    evidence = Evidence(run.maker.recorder, run.result)
    events = run.maker.event_of_step
    views = evidence.reference.writers
    compared = 0
    for life in run.maker.lives.lives[::3]:
        if any(each.lost != NEVER for each in life.holders.values()):
            continue
        live = [name for name, view in views.items() if evidence.reference.is_live(view, life.lsn)]
        votes = [evidence.vote(life.lsn, name) for name in live]
        for segment, holder in life.holders.items():
            heard = [events[vote.heard[segment].number] for vote in votes if segment in vote.heard]
            assert holder.heard == min(heard, default=NEVER), (life.lsn, segment)
            compared += holder.heard != NEVER
        annulled = any(view.table.annuls(life.lsn) for view in views.values())
        assert annulled == (life.annulled != NEVER), life.lsn
    assert compared > 5


def test_what_is_above_a_gap_is_on_disk_and_counts_for_nothing() -> None:
    run = filmed(open_case(None, "default", "third-highest-scl"))
    evidence = Evidence(run.maker.recorder, run.result)
    found = 0
    by_lsn = {each["lsn"]: each for each in run.film["commits"]}
    assert by_lsn[104]["durable"] < by_lsn[104]["backed"]  # B0 was heard of later
    assert by_lsn[109]["durable"] > NEVER == by_lsn[109]["backed"]
    for life in run.maker.lives.lives[-20:]:
        for standing in evidence.holders(life.lsn):
            holder = life.holders[standing.segment]
            above = holder.above != NEVER and holder.applied == NEVER
            assert above == standing.above, (life.lsn, standing)
            assert not above or holder.heard == NEVER
            found += above
    assert found
    told = [each["text"] for each in run.film["story"]]
    for sentence in (
        "LSN 109 is synced above a gap, which counts for nothing, at A0 first, E0 (+0.1 ms)",
        "at the end LSN 109 is on B0 D0 F0 (SCL 109); above a gap, where it counts for nothing, on",
        "right would be PGCL 107, the fourth highest SCL that writer-1 has heard of: LSN 109 would",
        "if B0, D0 and F0 are away, a read quorum of A0, C0 and E0 recovers without LSN 109",
    ):
        assert any(text.startswith(sentence) for text in told), sentence
    assert any(text.endswith("B0 has it on disk, too, only unheard") for text in told)
    assert not any("restart" in text for text in told)  # A0 had caught up long before
    assert run.film["run"]["bug_edits"][0]["target"] == "aurora.quorum:QuorumModel.complete_lsn"


def test_a_finding_does_not_take_who_lacks_a_table_for_empty(failing: Filmed) -> None:
    finding = failing.film["run"]["finding"]
    assert "C0 15, D0 17, E0 17, F0 17; without its table: A0" in finding
    assert failing.maker.board.value("A0", "scl") == 4


def test_nobody_is_down_before_an_event_says_so(default: Filmed) -> None:
    film = default.film
    assert set(film["keyframes"][0]["state"]) == {None}
    events, kinds = film["events"], [each["name"] for each in film["kinds"]]
    told = []
    for number, sets in enumerate(events["sets"]):
        for slot, value in zip(sets[::2], sets[1::2], strict=True) if sets else ():
            owner = film["slots"][slot]
            if owner["field"] == "state" and value == "down":
                assert kinds[events["kind"][number]] in ("Crashed", "ActionDone")
                name = film["nodes"][owner["node"]]["id"]
                assert name.startswith("writer") or events["node"][number] == owner["node"]
                told.append(name)
    assert told == ["A0", "C0", "D0", "writer-1"]


# ---- the story -----------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["default", "failing"])
def test_the_page_tells_what_explain_prints(which: str, default: Filmed, failing: Filmed) -> None:
    run = default if which == "default" else failing
    printed = explained(run.maker.recorder, run.result, run.case)
    assert as_text(run.film["story"]) == " ".join(" ".join(printed).split())


def test_sentences_select_what_they_speak_of(failing: Filmed) -> None:
    film = failing.film
    refs = [(each["text"], ref) for each in film["story"] for ref in each["refs"]]
    for text, ref in refs:
        shown = text[ref["from"] : ref["to"]]
        if "node" in ref:
            assert film["nodes"][ref["node"]]["id"] == shown
        if "lsn" in ref:
            assert shown.split(" ")[1].split("–")[0] == str(ref["lsn"])
    assert {"node", "lsn", "page"} <= {key for _, ref in refs for key in ref}
    told = [each for each in film["story"] if each["event"] is not None]
    assert told
    assert all(film["events"]["t"][each["event"]] == each["t"] for each in told)


def test_all_may_heal_before_the_end() -> None:
    """That is an event of its own, and times only rise."""
    case = open_case(None, "quiet", None)
    heal = Action(at_ns=300 * MS, kind="heal")
    film = make_film(attrs.evolve(case, schedule=attrs.evolve(case.schedule, actions=(heal,))))
    assert film["events"]["t"] == sorted(film["events"]["t"])
    (healed,) = [each for each in film["landmarks"] if each["kind"] == "heal"]
    assert 300 * MS <= healed["t"] < 310 * MS


def test_faults_are_planned_with_the_repairs_that_end_them(
    default: Filmed, failing: Filmed
) -> None:
    actions = default.case.schedule.actions
    ended = {
        each["title"]: [actions[number].kind for number in each["ended_by"]]
        for each in default.film["planned"]
    }
    assert (ended["crash A0"], ended["slow D0 (factor 50)"]) == (["restart"], ["slow"])
    marks = {each["title"]: each["kind"] for each in default.film["landmarks"]}
    assert (marks["crash A0"], marks["restart A0"]) == ("fault", "repair")
    reached = [each["action"] for each in failing.film["episodes"]]
    planned = [each["action"] for each in failing.film["planned"]]
    assert planned[: len(reached)] == reached
    assert failing.film["planned"][-1]["at_ns"] > failing.result.virtual_ns


def test_a_call_in_sql_tells_its_statements() -> None:
    operation = Operation(at_ns=0, client=0, kind="sql", pages=(1, 2), way="transfer")
    call = Call(0, operation, invoked_ns=0, writer="writer-1")
    assert statements_of(call) == []
    call.sql.script.append(Statement("UPDATE account\n  SET balance = ?", (7,)))
    call.sql.script.append(Statement("INSERT INTO bulk VALUES (?)", sets=[(1,), (2,)]))
    call.sql.readings += [Reading(Statement("SELECT 1"), 0, 0)] * 12
    first, second, *_, last = statements_of(call)
    assert first == "UPDATE account SET balance = ? [7]"
    assert second == "INSERT INTO bulk VALUES (?) (2 sets of values)"
    assert last == "and 2 more statements"


def test_a_finding_is_the_last_event_and_breaks_its_invariant(failing: Filmed) -> None:
    film = failing.film
    assert not any(each["name"].startswith("sql-") for each in film["invariants"])
    broken = [each for each in film["invariants"] if each["broken_at"] is not None]
    assert [each["name"] for each in broken] == ["pgcl-is-backed"]
    last = broken[0]["broken_at"]
    assert last == len(film["events"]["t"]) - 1
    assert film["kinds"][film["events"]["kind"][last]]["name"] == "Finding"
    assert film["landmarks"][-1]["kind"] == "finding"


def test_stalls_are_landmarks(default: Filmed) -> None:
    stalls = [each for each in default.film["landmarks"] if each["kind"] == "commit_stall"]
    longest = next(each for each in stalls if each["title"] == "commits wait for 139 ms")
    assert 900e6 < longest["t"] < 950e6  # az2 is away since 600 ms, and E0 since 900 ms


def test_the_recorder_and_the_film_count_alike(default: Filmed) -> None:
    steps = default.maker.recorder.steps
    assert len(default.maker.event_of_step) == len(steps)
    at = default.film["events"]["t"]
    assert all(
        at[event] == step.time_ns
        for event, step in zip(default.maker.event_of_step, steps, strict=True)
    )
