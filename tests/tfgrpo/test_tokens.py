"""Packed tokens come back as they were, in order; damage is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfgrpo.errors import RunError
from tfgrpo.tokens import pack, unpack
from tfgrpo.types import Completion, Rollout, RolloutGroup, Score, Task

SAMPLE = st.lists(st.tuples(st.integers(0, 200_000), st.floats(0, 8)), max_size=5)


def group(task_id: str, samples: list[list[tuple[int, float]]]) -> RolloutGroup:
    def completion(sample: list[tuple[int, float]]) -> Completion:
        ids, entropies = (tuple(i for i, _ in sample), tuple(h for _, h in sample))
        return Completion("", "stop", token_ids=ids, entropies=entropies)

    return RolloutGroup(
        Task(task_id, "", None, "d", "test"),
        tuple(
            Rollout(task_id, index, "p", completion(sample), Score(0.0, False, None))
            for index, sample in enumerate(samples)
        ),
    )


@given(st.lists(st.lists(SAMPLE, max_size=3), min_size=1, max_size=4))
def test_what_is_packed_comes_back(samples: list[list[list[tuple[int, float]]]]) -> None:
    groups = [group(f"task-{i}", of) for i, of in enumerate(samples)]
    packed = pack(groups)
    if not any(samples):
        assert packed is None
        return
    assert packed is not None
    assert packed == pack(groups)
    found = unpack(packed)
    assert list(found) == [g.task.task_id for g in groups]
    for given_group in groups:
        kept = found[given_group.task.task_id]
        assert [s.ids for s in kept] == [r.completion.token_ids for r in given_group.rollouts]
        for s, r in zip(kept, given_group.rollouts, strict=True):
            assert s.entropies == pytest.approx(r.completion.entropies, abs=2e-3)


def test_a_backend_without_token_ids_has_nothing_to_pack() -> None:
    bare = Rollout("t", 0, "p", Completion("x", "stop"), Score(0.0, False, None))
    assert pack([RolloutGroup(Task("t", "", None, "d", "test"), (bare,))]) is None


@pytest.mark.parametrize("cut", [0, 10, 200])
def test_damage_is_told(cut: int) -> None:
    packed = pack([group("t", [[(1, 0.5)] * 50])])
    assert packed is not None
    with pytest.raises(RunError, match="damaged"):
        unpack(packed[:cut])
