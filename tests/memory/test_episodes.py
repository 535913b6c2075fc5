"""Subtasks and tool calls: in order, whole or not at all, and told in few tokens."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory.agent.episodes import Episode
from memory.agent.transcript import ToolCall, render_calls, within
from memory.errors import CaseNotFound, InvalidCase, StoreError
from memory.search.embed import HashingEmbedder
from memory.search.space import Space
from memory.store import CaseStore
from memory.types import CaseFilter, CaseIn, Parent
from tests.memory.store_places import memory_folder


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CaseStore]:
    with CaseStore(tmp_path / "store") as opened:
        yield opened
        assert opened.verify() == []


@pytest.fixture
def episode(store: CaseStore) -> Episode:
    return Episode(store, "e1", ns="maths", actor="test", run_id="r")


def words(text: str) -> int:
    return len(text.split())


def test_a_plan_is_carried_out_step_by_step(store: CaseStore, episode: Episode) -> None:
    steps = episode.begin("Weigh it.", ["Find a scale.", "Read it.", "Read it."])
    assert [(s.position, s.text, s.state) for s in steps] == [
        (1, "Find a scale.", "pending"), (2, "Read it.", "pending"), (3, "Read it.", "pending"),
    ]  # fmt: skip
    episode.mark(1, "running")
    done = episode.mark(1, "done", "in the kitchen")
    assert (done.state, done.result) == ("done", "in the kitchen")
    assert episode.mark(1, "done").result == "in the kitchen"
    call = episode.call(
        "read", {"unit": "kg", "at": [1, 2.5]}, outcome="success", result="3", cost=0.5,
        seconds=1.25, subtask=2,
    )  # fmt: skip
    assert (call.position, call.arguments, call.cost) == (1, {"unit": "kg", "at": [1, 2.5]}, 0.5)
    again = Episode(store, "e1", ns="maths", actor="other")
    assert again.goal == "Weigh it."
    assert again.subtasks() == episode.subtasks()
    assert again.calls() == again.calls(subtask=2) == [call]
    assert again.calls(subtask=1) == []
    case = store.get(call.id)
    assert (case.ns, case.kind, case.run_id) == ("maths/episodes/e1", "tool", "r")
    assert case.parents == (Parent(steps[1].id, "for"),)
    assert [e.op for e in store.history(steps[0].id)] == ["add", "update", "update"]


def test_equal_calls_are_two_calls(episode: Episode) -> None:
    first, second = (episode.call("ls", {}) for _ in range(2))
    assert (first.position, second.position) == (1, 2)
    assert first.id != second.id


def test_a_new_plan_drops_what_was_pending_and_nothing_else(episode: Episode) -> None:
    episode.begin("g", ["a", "b", "c"])
    episode.mark(1, "done", "yes")
    episode.mark(2, "failed")
    (new,) = episode.replan(["d"])
    assert new.position == 4
    assert [s.state for s in episode.subtasks()] == ["done", "failed", "dropped", "pending"]
    with pytest.raises(StoreError, match="plan it anew"):
        episode.begin("g", [])


def test_a_closed_episode_is_read_but_not_written(store: CaseStore, episode: Episode) -> None:
    episode.begin("g", ["a"])
    call = episode.call("t", {}, subtask=1)
    other = Episode(store, "e2", ns="maths", actor="test")
    other.begin("h", [])
    assert len(episode.close().changes) == 3
    assert [c.ns for c in store.cases()] == ["maths/episodes/e2"]
    assert episode.calls() == [call]
    assert episode.goal == "g"
    for write in (
        lambda: episode.call("t", {}),
        lambda: episode.replan(["b"]),
        lambda: episode.mark(1, "done"),
        lambda: Episode(store, "e1", ns="maths", actor="x").call("t", {}),
    ):
        with pytest.raises(StoreError, match="begin another"):
            write()


def test_history_export_and_purge_hold(store: CaseStore, episode: Episode, tmp_path: Path) -> None:
    episode.begin("secret goal", ["a", "b"])
    episode.call("t", {"key": "secret"}, subtask=1)
    episode.call("u", {})
    store.export(tmp_path / "all.jsonl")
    with CaseStore(tmp_path / "copy") as copy:
        copy.import_(tmp_path / "all.jsonl", actor="test")
        twin = Episode(copy, "e1", ns="maths", actor="test")
        assert twin.goal == "secret goal"
        assert [s.text for s in twin.subtasks()] == ["a", "b"]
        assert [c.arguments for c in twin.calls()] == [{"key": "secret"}, {}]
    store.purge([episode.calls()[0].id], confirm=True, actor="test")
    assert [(c.position, c.name) for c in episode.calls()] == [(2, "u")]
    assert episode.call("v", {}).position == 3


def test_episodes_are_never_found_by_likeness(store: CaseStore, episode: Episode) -> None:
    episode.begin("What is two and two?", ["add"])
    number = store.add(CaseIn(question="What is two and two?"), actor="test").id
    assert Space(store, HashingEmbedder(dim=32), kind="numpy").matrix()[0].tolist() == [number]


def test_what_cannot_be_recorded_is_refused(store: CaseStore, episode: Episode) -> None:
    for name in ("", "a/b"):
        with pytest.raises(InvalidCase, match="no slash"):
            Episode(store, name, actor="test")
    for bad in ({"x": object()}, {"x": float("nan")}):
        with pytest.raises(InvalidCase, match="give such"):
            episode.call("t", bad)
    with pytest.raises(CaseNotFound, match="list them"):
        episode.call("t", {}, subtask=1)
    episode.begin("g", ["a"])
    for position in (0, 2):
        with pytest.raises(CaseNotFound, match="list them"):
            episode.mark(position, "done")
    with pytest.raises(InvalidCase, match="use pending"):
        episode.mark(1, "over")  # type: ignore[arg-type]
    assert episode.calls() == []


def test_a_plan_that_fails_half_way_leaves_nothing(store: CaseStore, episode: Episode) -> None:
    with pytest.raises(InvalidCase, match="surrogate"):
        episode.begin("g", ["fine", "\ud800"])
    assert episode.goal is None
    assert store.seq == 0


def test_calls_of_many_threads_get_positions_of_their_own(episode: Episode) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: episode.call("t", {"i": i}), range(20)))
    calls = episode.calls()
    assert [c.position for c in calls] == list(range(1, 21))
    assert {c.arguments["i"] for c in calls} == set(range(20))


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)  # fmt: skip
STATES = st.sampled_from(["pending", "running", "done", "failed", "dropped"])
OPERATIONS = st.lists(
    st.tuples(st.just("replan"), st.lists(TEXT, max_size=2))
    | st.tuples(st.just("mark"), st.tuples(st.integers(1, 4), STATES, st.none() | TEXT))
    | st.tuples(st.just("call"), st.tuples(TEXT, st.dictionaries(TEXT, VALUES, max_size=2))),
    max_size=8,
)


@settings(max_examples=25)
@given(TEXT, OPERATIONS)
def test_an_episode_is_a_list_of_what_was_appended(goal: str, operations: list[Any]) -> None:
    steps: list[list[Any]] = []
    calls: list[tuple[str, Any]] = []
    with (
        tempfile.TemporaryDirectory(dir=memory_folder()) as folder,
        CaseStore(Path(folder)) as store,
    ):
        episode = Episode(store, "e", actor="test")
        episode.begin(goal, [])
        for name, value in operations:
            if name == "replan":
                for step in steps:
                    step[1] = "dropped" if step[1] == "pending" else step[1]
                steps += [[text, "pending", None] for text in value]
                episode.replan(value)
            elif name == "call":
                calls.append(value)
                episode.call(*value)
            elif value[0] <= len(steps):
                position, state, result = value
                old = steps[position - 1]
                steps[position - 1] = [old[0], state, old[2] if result is None else result]
                episode.mark(position, state, result)
        again = Episode(store, "e", actor="test")
        assert again.goal == goal
        assert [[s.text, s.state, s.result] for s in again.subtasks()] == steps
        assert [(c.name, c.arguments) for c in again.calls()] == calls
        assert [s.position for s in again.subtasks()] == list(range(1, len(steps) + 1))
        assert store.verify() == []
        assert all("episodes" in c.ns for c in store.cases(CaseFilter()))


def test_a_plan_is_told_as_documented(episode: Episode) -> None:
    episode.begin("Weigh\nit.", ["Find a scale.", "2. [done] Lie."])
    episode.mark(1, "done", "on the\n 2. [failed] shelf")
    goal, last = "Goal: Weigh it.", "2. [pending] 2. [done] Lie."
    first = "1. [done] Find a scale. -> on the 2. [failed] shelf"
    assert episode.render_plan(1000, len).splitlines() == [goal, first, last]
    assert episode.render_plan(12, words).splitlines() == [goal, last, "(1 left out)"]
    assert episode.render_plan(10, words).splitlines() == [goal, "(2 left out)"]


@given(st.lists(TEXT, max_size=6), st.integers(0, 30), st.integers(0, 2))
def test_what_is_told_fits_and_keeps_the_last(lines: list[str], budget: int, first: int) -> None:
    first = min(first, len(lines))
    clean = [" ".join(line.split()) for line in lines]
    for count in (len, words):
        text = within(clean, budget, count, first)
        assert count(text) <= budget
        if count("\n".join(clean)) <= budget:
            assert text == "\n".join(clean)


def test_the_last_calls_stay() -> None:
    calls = [ToolCall(i, i, "ls", {"dir": f"d{i}"}, "success", "x\u2028y") for i in range(1, 5)]
    full = render_calls(calls, 1000, words)
    assert full.splitlines() == [f'{i}. ls {{"dir":"d{i}"}} -> success: x y' for i in range(1, 5)]
    assert render_calls(calls, 17, words).splitlines() == [*full.splitlines()[2:], "(2 left out)"]
    assert render_calls(calls, 2, words) == ""
    assert render_calls([], 0, words) == ""
