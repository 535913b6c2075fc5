from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations
from random import Random

import pytest

from tfgrpo.metrics.diversity import distinct_correct_at_k, rarefied_entropy
from tfgrpo.metrics.panel import PANEL, Matching, panel, panel_differences, panel_estimates
from tfgrpo.metrics.surface import compression_ratio, mean_ead, trigram_kernel, vendi
from tfgrpo.types import Completion, Rollout, RolloutGroup, Score, Task, TaskOutcome

MATCHING = Matching(vocabulary=128, fork_above=0.5, samples=4, correct=2, bytes_per_sample=3)


def rollout(index: int, text: str, correct: bool, mode: str | None = None) -> Rollout:
    entropies = tuple(0.1 * (ord(ch) % 10) for ch in text)
    completion = Completion(
        text, "stop", token_ids=tuple(map(ord, text)), entropies=entropies, logprobs=None
    )
    answer = text[-1:] or None
    return Rollout("t", index, "p", completion, Score(float(correct), correct, answer, mode))


def group(task_id: str, rows: list[tuple[str, bool, str | None]]) -> RolloutGroup:
    task = Task(task_id, "?", None, "sum", "test")
    return RolloutGroup(task, tuple(rollout(i, *row) for i, row in enumerate(rows)))


ROWS: list[tuple[str, bool, str | None]] = [
    ("1+2=3", True, "add"),
    ("2+1=3", True, "add"),
    ("4-1=3", True, "less"),
    ("9/3=3", True, "part"),
    ("1+2=4", False, "add"),
    ("hm?", False, None),
]


def test_the_whole_group_needs_no_rarefaction() -> None:
    four = group("t", ROWS[:4])
    row = {name: values.get("t") for name, values in panel([four], MATCHING, 0).items()}
    texts = [text for text, _, _ in ROWS[:4]]
    h = [0.1 * (ord(ch) % 10) for text in texts for ch in text]
    assert row == pytest.approx(
        {
            "token_entropy": sum(h) / len(h),
            "answer_entropy": 0.0,
            "distinct_correct": 1.0,
            "effective_modes": math.exp(1.039721),
            "vendi": vendi(trigram_kernel(texts)),
            "ead": mean_ead([tuple(map(ord, t)) for t in texts], 128),
            "compression_ratio": compression_ratio(sorted(texts), 12),
            "forking_share": sum(x > 0.5 for x in h) / len(h),
        },
        rel=1e-6,
    )
    assert tuple(row) == PANEL


def test_larger_groups_are_seen_through_equal_numbers() -> None:
    found = panel([group("t", ROWS)], replace(MATCHING, draws=400), seed=0)
    outcome = TaskOutcome(
        "t",
        "sum",
        tuple(ok for _, ok, _ in ROWS),
        tuple(text[-1] for text, _, _ in ROWS),
        tuple(mode for _, _, mode in ROWS),
        (None,) * 6,
        (1,) * 6,
    )
    assert found["answer_entropy"]["t"] == pytest.approx(rarefied_entropy([4, 1, 1], 4))
    assert found["distinct_correct"]["t"] == pytest.approx(distinct_correct_at_k(outcome, 4))
    assert found["effective_modes"]["t"] == pytest.approx(
        math.exp(rarefied_entropy([3, 1, 1, 1], 4))
    )
    texts = [text for text, _, _ in ROWS]
    every = [vendi(trigram_kernel(s)) for s in combinations(texts, 4)]
    assert found["vendi"]["t"] == pytest.approx(sum(every) / len(every), abs=0.03)
    every = [mean_ead([tuple(map(ord, t)) for t in s], 128) for s in combinations(texts, 4)]
    assert found["ead"]["t"] == pytest.approx(sum(every) / len(every), abs=0.02)


def test_correct_only_sees_nothing_wrong() -> None:
    groups = [group("t", ROWS), group("one", [ROWS[0], *ROWS[4:]])]
    found = panel(groups, MATCHING, 0, of="correct")
    clean = panel([group("t", ROWS[:4])], MATCHING, 0, of="correct")
    assert found == clean
    assert all(values.keys() == {"t"} for values in found.values())
    assert found["distinct_correct"]["t"] == pytest.approx(1.0)
    assert found["effective_modes"]["t"] == pytest.approx(math.exp(rarefied_entropy([2, 1, 1], 2)))


def test_order_of_samples_and_tasks_does_not_matter() -> None:
    rng = Random(0)
    groups = [group(f"t{i}", [rng.choice(ROWS) for _ in range(9)]) for i in range(5)]
    mixed = [
        replace(g, rollouts=tuple(rng.sample(g.rollouts, len(g.rollouts)))) for g in groups[::-1]
    ]
    first, second = (panel(x, MATCHING, 3) for x in (groups, mixed))
    for name in PANEL:
        assert list(first[name]) == list(second[name])
        assert first[name] == pytest.approx(second[name], rel=1e-12)
    again = panel(groups, MATCHING, 3)
    assert again == first
    assert panel(groups, MATCHING, 4)["vendi"] != first["vendi"]


def test_what_is_unknown_is_left_out_and_never_zero() -> None:
    bare = [
        replace(
            r, completion=Completion(r.completion.text, "stop"), score=replace(r.score, mode=None)
        )
        for r in group("t", ROWS).rollouts
    ]
    known = group("u", ROWS)
    groups = [replace(group("t", []), rollouts=tuple(bare)), known, group("few", ROWS[:3])]
    found = panel(groups, MATCHING, 0)
    both = {"answer_entropy", "distinct_correct", "vendi", "compression_ratio"}
    for name in PANEL:
        assert found[name].keys() == ({"t", "u"} if name in both else {"u"})
    estimates = panel_estimates(found, seed=0)
    assert {name: e.n for name, e in estimates.items()} == {
        name: 2 if name in both else 1 for name in PANEL
    }
    short = panel([known], replace(MATCHING, bytes_per_sample=20), 0)
    assert short["compression_ratio"] == {}
    assert "compression_ratio" not in panel_estimates(short, 0)


def test_arms_are_compared_on_the_tasks_that_have_the_metric_in_both() -> None:
    narrow = [group(f"t{i}", [ROWS[0]] * 6) for i in range(6)]
    wide = [group(f"t{i}", ROWS) for i in range(1, 8)]
    a, b = (panel(x, MATCHING, 0) for x in (narrow, wide))
    found = {c.name: c for c in panel_differences(a, b, 0)}
    assert tuple(found) == PANEL
    assert {c.difference.n for c in found.values()} == {5}
    for name in ("answer_entropy", "effective_modes", "vendi", "ead"):
        assert found[name].difference.low > 0
    assert found["compression_ratio"].difference.high < 0
    same = panel_differences(a, a, 0)
    assert {(c.difference.value, c.p_value) for c in same} == {(0.0, 1.0)}
    nothing = {name: dict[str, float]() for name in PANEL}
    assert panel_differences(a, nothing, 0) == ()


def test_unusable_input_raises() -> None:
    with pytest.raises(ValueError, match="listed twice"):
        panel([group("t", ROWS)] * 2, MATCHING, 0)
    for wrong in ({"samples": 1}, {"correct": 1}, {"draws": 0}, {"vocabulary": 1}):
        with pytest.raises(ValueError, match="Matching needs"):
            replace(MATCHING, **wrong)  # type: ignore[arg-type]
