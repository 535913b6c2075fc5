"""Problems count only where every arm has enough samples of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tfgrpo.verdict.outcomes import arms, evaluation, outcome
from tfgrpo.errors import ConfigError
from tfgrpo.verdict.arms import Evaluation
from tfgrpo.verdict.problems import few_seeds, only, shared_problems

Sizes = dict[str, int]
SIZES = st.dictionaries(st.sampled_from("pqrst"), st.integers(0, 6), max_size=5)


def sampled(name: str, sizes: Sizes) -> Evaluation:
    return Evaluation(name, None, tuple(outcome(i, n, 0) for i, n in sizes.items()))


@given(SIZES, SIZES, st.integers(1, 6))
def test_kept_problems_have_enough_samples_in_every_arm(a: Sizes, b: Sizes, k: int) -> None:
    given_arms = arms(sampled("a", a), sampled("b", b))
    kept = sorted(i for i in a.keys() & b.keys() if a[i] >= k and b[i] >= k)
    if not kept:
        with pytest.raises(ConfigError, match="smaller --k"):
            shared_problems(given_arms, k, allow_missing=True)
        return
    found, stamps = shared_problems(given_arms, k, allow_missing=True)
    assert list(found) == kept
    dropped = len(a.keys() | b.keys()) - len(kept)
    assert bool(dropped) == any("left out" in stamp for stamp in stamps)
    if dropped:
        with pytest.raises(ConfigError, match="--allow-missing"):
            shared_problems(given_arms, k, allow_missing=False)
    for arm in given_arms:
        assert [o.task_id for o in only(arm, found).runs[0].outcomes] == kept


def test_the_refusal_counts_by_arm() -> None:
    given_arms = arms(sampled("a", {"p": 4, "q": 4}), sampled("b", {"p": 4, "q": 3}))
    with pytest.raises(ConfigError, match=r"1 of 2 problems .* \(1 in b\)"):
        shared_problems(given_arms, 4, allow_missing=False)


def test_a_problem_listed_twice_is_refused() -> None:
    twice = Evaluation("a", None, (outcome("p", 2, 1), outcome("p", 2, 1)))
    with pytest.raises(ConfigError, match="lists a problem twice"):
        shared_problems(arms(twice), 1, allow_missing=True)


def test_few_seeds_are_told() -> None:
    base, one = evaluation("base", [1]), evaluation("a", [1], seed=0)
    two = [evaluation("b", [1], seed=s) for s in range(2)]
    three = [evaluation("c", [1], seed=s) for s in range(3)]
    assert few_seeds(arms(base, *three)) == ()
    assert "Only one training seed" in few_seeds(arms(base, one, *three))[0]
    assert "Only 2 training seeds" in few_seeds(arms(base, *two, *three))[0]
