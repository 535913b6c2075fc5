from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from baselines.objective import selection
from baselines.objective import spec as s
from baselines.objective.plan import Scan
from tests.baselines.objective.cases import (
    ENTROPY,
    HIGHER,
    LP,
    MASK,
    A,
    f64,
    golden_batch,
    gradient,
    of,
    plan_of,
)

SCAN = Scan(LP, ENTROPY)
ROWS = A[:, None] * MASK
shares = st.integers(0, 1000).map(lambda x: x / 1000)
seeds = st.integers(0, 999)


def drawn(seed: int, rows: int = 3, width: int = 5) -> tuple[Tensor, Tensor]:
    """Distinct values and a mask with anything in it."""
    draw = torch.Generator().manual_seed(seed)
    values = torch.randperm(rows * width, generator=draw).double().view(rows, width)
    return values, torch.rand(rows, width, generator=draw) < 0.7


def where(mask: Tensor) -> list[list[int]]:
    return mask.nonzero().tolist()


def loss_of(objective: s.ObjectiveSpec) -> float:
    batch = golden_batch()
    return gradient(objective, batch, plan_of(objective, batch, SCAN), SCAN)[0]


# masks by entropy -----------------------------------------------------------------------------


def test_the_top_fifth_of_the_worked_example() -> None:
    assert where(selection.high_entropy(ENTROPY, MASK, 0.2)) == [[0, 1], [1, 2]]
    kept = of(surrogate=HIGHER, masks=(s.HighEntropy(),))
    of_all = of(surrogate=HIGHER, masks=(s.HighEntropy(norm="all"),))
    assert loss_of(kept) == pytest.approx(-0.355614, abs=5e-7)
    assert loss_of(of_all) == pytest.approx(-0.101604, abs=5e-7)
    assert loss_of(of_all) / loss_of(kept) == pytest.approx(2 / 7)


@given(seeds, shares)
def test_high_and_low_part_the_mask(seed: int, share: float) -> None:
    H, mask = drawn(seed)
    high = selection.high_entropy(H, mask, share)
    low = selection.low_entropy(H, mask, 1 - share)
    assert torch.equal(high | low, mask)
    assert not (high & low).any()
    if high.any() and low.any():
        assert H[high].min() > H[low].max()


@given(seeds, st.integers(1, 19).map(lambda x: x / 20))
def test_the_mask_is_the_interpolated_quantiles(seed: int, share: float) -> None:
    H, mask = drawn(seed)
    if not mask.any():
        return
    threshold = torch.quantile(H[mask], 1 - share)
    assert torch.equal(selection.high_entropy(H, mask, share), mask & (threshold - 1e-9 <= H))


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_ties_go_to_the_earlier_token(share: float) -> None:
    mask = torch.tensor([[False, True, True, True, True, True]])
    high = selection.high_entropy(torch.ones(1, 6), mask, share)
    count = {0.2: 1, 0.5: 3}[share]
    assert where(high) == [[0, 1 + i] for i in range(count)]


def test_ties_go_to_the_earlier_token_of_many() -> None:
    mask = torch.ones(5, 400, dtype=torch.bool)
    values = torch.ones(mask.shape)
    for chosen in (
        selection.high_entropy(values, mask, 0.2),
        selection.top_covariance(values, mask, 401),
    ):
        flat = chosen.flatten()
        assert flat[: int(flat.sum())].all()
        assert 400 <= flat.sum() <= 401


@given(seeds)
def test_a_share_of_one_keeps_all_and_of_nought_none(seed: int) -> None:
    H, mask = drawn(seed)
    generator = torch.Generator().manual_seed(seed)
    for keep in (
        lambda share: selection.high_entropy(H, mask, share),
        lambda share: selection.low_entropy(H, mask, share),
        lambda share: selection.random_tokens(mask, share, generator),
    ):
        assert torch.equal(keep(1.0), mask)
        assert not keep(0.0).any()


def test_one_token_is_the_top_and_no_token_is_nothing() -> None:
    H = f64([1.0, 2.0])
    one = torch.tensor([[True, False]])
    none = torch.zeros_like(one)
    assert torch.equal(selection.high_entropy(H, one, 0.2), one)
    assert torch.equal(selection.high_entropy(H, none, 0.2), none)
    assert torch.equal(selection.low_entropy(H, one, 0.8), none)
    assert torch.equal(selection.low_entropy(H, none, 0.8), none)


def test_the_loss_of_all_is_made_of_the_parts() -> None:
    def norm(kind: type[s.HighEntropy] | type[s.LowEntropy], share: float) -> float:
        return loss_of(of(surrogate=HIGHER, masks=(kind(share=share),)))

    high, low = norm(s.HighEntropy, 0.2), norm(s.LowEntropy, 0.8)
    assert 2 / 7 * high + 5 / 7 * low == pytest.approx(loss_of(of(surrogate=HIGHER)), rel=1e-6)


@given(seeds, shares)
def test_random_tokens_are_of_the_mask_and_of_their_seed(seed: int, share: float) -> None:
    _, mask = drawn(seed)
    first, again = (
        selection.random_tokens(mask, share, torch.Generator().manual_seed(seed)) for _ in range(2)
    )
    assert torch.equal(first, again)
    assert not (first & ~mask).any()


def test_random_tokens_are_the_share_asked_for() -> None:
    mask = torch.ones(100, 100, dtype=torch.bool)
    kept = selection.random_tokens(mask, 0.2, torch.Generator().manual_seed(0))
    assert abs(int(kept.sum()) - 2000) < 5 * math.sqrt(10_000 * 0.2 * 0.8)


# covariance -----------------------------------------------------------------------------------


def test_the_covariance_of_the_worked_example() -> None:
    cov = selection.covariance(LP, ROWS, MASK)
    expected = [0.815510, -1.070204, 0.858367, -0.127347, -0.401633, -1.190204, 2.226939]
    assert cov[MASK].tolist() == pytest.approx(expected, abs=5e-7)
    assert cov[1, 3] == 0
    pairs = torch.stack([LP[MASK], ROWS[MASK]])
    assert float(cov[MASK].mean()) == pytest.approx(0.158776, abs=5e-7)
    assert float(cov[MASK].mean()) == pytest.approx(float(pairs.cov(correction=0)[0, 1]))


@given(st.floats(-3, 3), st.floats(-3, 3))
def test_the_covariance_ignores_shifts_and_padding(shift_lp: float, shift_A: float) -> None:
    cov = selection.covariance(LP, ROWS, MASK)
    moved = selection.covariance(
        torch.where(MASK, LP + shift_lp, 1e6), torch.where(MASK, ROWS + shift_A, -1e6), MASK
    )
    assert torch.allclose(cov, moved)


def test_advantages_of_one_value_have_no_covariance() -> None:
    assert torch.allclose(selection.covariance(LP, -1.0 * MASK, MASK), 0 * LP)
    nothing = selection.covariance(LP, ROWS, torch.zeros_like(MASK))
    assert torch.equal(nothing, 0 * LP)


# Clip-Cov -------------------------------------------------------------------------------------


def clip_cov(count: int, seed: int = 0, low: float = 0.3, high: float = 5.0) -> Tensor:
    cov = selection.covariance(LP, ROWS, MASK)
    return selection.clip_cov(cov, MASK, count, low, high, torch.Generator().manual_seed(seed))


def test_clip_covs_candidates_lie_between_its_bounds() -> None:
    assert where(clip_cov(9)) == [[0, 0], [0, 2], [1, 2]]
    assert where(clip_cov(9, high=2.0)) == [[0, 0], [0, 2]]
    assert where(clip_cov(9, low=1.0)) == [[1, 2]]
    assert where(clip_cov(9, low=6.0)) == []


@given(seeds, st.integers(0, 3))
def test_clip_cov_drops_as_many_as_it_is_told(seed: int, count: int) -> None:
    chosen = clip_cov(count, seed)
    assert int(chosen.sum()) == count
    assert not (chosen & ~clip_cov(9)).any()
    assert torch.equal(chosen, clip_cov(count, seed))


def test_clip_cov_draws_evenly() -> None:
    found = Counter(tuple(where(clip_cov(1, seed))[0]) for seed in range(600))
    assert set(found) == {(0, 0), (0, 2), (1, 2)}
    assert max(abs(n - 200) for n in found.values()) < 5 * math.sqrt(600 * (1 / 3) * (2 / 3))


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (of(surrogate=HIGHER), -0.681225),
        (of(surrogate=HIGHER, aggregation=s.SequenceMean()), -0.536889),
        (of(surrogate=s.PpoClip(low=1.0, high=1.0)), -0.735879),
        (
            of(
                surrogate=s.PpoClip(low=1.0, high=1.0),
                dropping=s.ClipCov(share=1.0, low=0.3, high=5.0),
            ),
            -0.332651,
        ),
        (of(surrogate=s.KlCov(share=0.3)), -0.678737),
    ],
    ids=["clip_higher", "sequence_mean", "unclipped", "clip_cov", "kl_cov"],
)
def test_losses_of_the_worked_example(objective: s.ObjectiveSpec, expected: float) -> None:
    assert loss_of(objective) == pytest.approx(expected, abs=1e-6)


def test_dropped_tokens_have_no_gradient_and_the_others_keep_theirs() -> None:
    batch = golden_batch()
    loose = s.PpoClip(low=1.0, high=1.0)
    plain = of(surrogate=loose)
    dropping = of(surrogate=loose, dropping=s.ClipCov(share=1.0, low=0.3, high=5.0))
    before, after = (
        gradient(o, batch, plan_of(o, batch, SCAN), SCAN)[1] for o in (plain, dropping)
    )
    dropped = clip_cov(9)
    assert torch.equal(after, torch.where(dropped, 0.0, before))
    assert (before[dropped] != 0).all()


def test_clip_cov_leaves_tokens_that_the_clip_stops() -> None:
    """[1, 2] has A < 0 and a ratio of 0.67: Clip-Higher stops it already."""
    batch = golden_batch()
    objective = of(surrogate=HIGHER, dropping=s.ClipCov(share=1.0, low=0.3, high=5.0))
    plan = plan_of(objective, batch, SCAN)
    assert where((plan.weights == 0) & MASK) == [[0, 0], [0, 2]]
    assert plan.numbers["dropped_tokens"] == 2


@pytest.mark.parametrize(
    ("share", "tokens", "at_least_one", "count"),
    [
        (2e-4, 7, False, 0),
        (2e-4, 7, True, 1),
        (2e-4, 0, True, 0),
        (0.3, 7, False, 2),
        (0.3, 7, True, 2),
        (2e-3, 1500, False, 3),
        (1.0, 7, False, 7),
    ],
)
def test_selected_count(share: float, tokens: int, at_least_one: bool, count: int) -> None:
    assert selection.selected_count(share, tokens, at_least_one) == count


@pytest.mark.parametrize(("at_least_one", "dropped"), [(False, 0), (True, 1)])
def test_a_tiny_share_drops_nothing_unless_it_must(at_least_one: bool, dropped: int) -> None:
    part = s.ClipCov(low=0.3, at_least_one=at_least_one)
    objective = of(surrogate=s.PpoClip(low=1.0, high=1.0), dropping=part)
    plan = plan_of(objective, golden_batch(), SCAN)
    assert plan.numbers["dropped_tokens"] == dropped


# KL-Cov ---------------------------------------------------------------------------------------


def test_kl_cov_selects_the_largest() -> None:
    cov = selection.covariance(LP, ROWS, MASK)
    assert where(selection.top_covariance(cov, MASK, 2)) == [[0, 2], [1, 2]]
    plan = plan_of(of(surrogate=s.KlCov(share=0.3)), golden_batch(), SCAN)
    assert where(plan.penalised) == [[0, 2], [1, 2]]
    assert plan.numbers["penalised_tokens"] == 2


def test_kl_cov_selects_at_least_one() -> None:
    plan = plan_of(of(surrogate=s.KlCov()), golden_batch(), SCAN)
    assert where(plan.penalised) == [[1, 2]]


@given(seeds, st.integers(0, 20), st.integers(1, 15))
def test_the_largest_go_by_rank_and_ties_to_the_earlier(seed: int, count: int, base: int) -> None:
    values, mask = drawn(seed)
    values = values // base
    flat = [i for i, inside in enumerate(mask.flatten().tolist()) if inside]
    best = sorted(flat, key=lambda i: (-float(values.flatten()[i]), i))[:count]
    found = selection.top_covariance(values, mask, count)
    assert sorted(best) == found.flatten().nonzero()[:, 0].tolist()
