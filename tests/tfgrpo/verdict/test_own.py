"""Our own run folders become evaluations: names, seeds, families, protocol and cost."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tfgrpo.verdict.folders import evaluated, trained, weights
from tests.tfgrpo.verdict.outcomes import outcome
from tfgrpo.errors import ConfigError, RunError
from tfgrpo.verdict.arms import arms_of
from tfgrpo.verdict.evidence import disagreements, groups_of, trajectories
from tfgrpo.verdict.own import MANIFEST, base_model, read_own
from tfgrpo.verdict.record import Question
from tfgrpo.verdict.values import metrics_of, tabulate

OUTCOMES = [outcome("p0", 4, 3), outcome("p1", 4, 0)]


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """A base, its hotter twin, and a method trained with two seeds."""
    evaluated(tmp_path / "base" / "eval-test", OUTCOMES)
    evaluated(tmp_path / "base-T=1.5" / "eval-test", OUTCOMES)
    for seed in range(2):
        run = trained(tmp_path / f"grpo-{seed}", seed=seed)
        better = [outcome("p0", 4, 4), outcome("p1", 4, seed)]
        evaluated(run / "eval-test", better, {"model": weights(run)})
    return tmp_path


def test_a_sweep_is_read_by_its_folders(sweep: Path) -> None:
    found = {(e.name, e.seed): e for e in read_own(sweep)}
    assert {key: e.family for key, e in found.items()} == {
        ("base", None): "base",
        ("base-T=1.5", None): "control",
        ("grpo", 0): "weights",
        ("grpo", 1): "weights",
    }
    assert found["grpo", 1].outcomes == (outcome("p0", 4, 4), outcome("p1", 4, 1))
    assert found["grpo", 1].protocol == found["base", None].protocol


def test_bounds_of_entropy_are_read_and_told_where_every_sample_has_them(tmp_path: Path) -> None:
    hosted = [
        replace(o, entropies=(None,) * 4, entropy_bounds=((0.1, 0.3),) * 2 + ((0.3, 0.5),) * 2)
        for o in OUTCOMES
    ]
    evaluated(tmp_path / "base", hosted)
    (found,) = read_own(tmp_path / "base")
    assert found.outcomes == tuple(hosted)
    (arm,) = arms_of([found])
    names = metrics_of(Question(base="base", k_max=4, k_mid=2), [arm])
    table = tabulate(arm, ["p0", "p1"], names)[0, 0]
    values = dict(zip(names.names, table, strict=True))
    assert (values["token_entropy_low"], values["token_entropy_high"]) == pytest.approx((0.2, 0.4))
    assert "token_entropy" not in values


def test_what_a_policy_cost_is_its_maker_and_its_own_ledger(sweep: Path) -> None:
    (grpo,) = [e for e in read_own(sweep) if (e.name, e.seed) == ("grpo", 0)]
    assert grpo.cost is not None
    assert grpo.cost.making["rollout"].completion_tokens == 1000
    assert grpo.cost.rollouts == 10 * 2 * 5
    # 2 N tokens sampled and 6 N tokens trained on, N = 100.
    assert grpo.cost.flops == 2 * 100 * 1000 + 6 * 100 * 1100
    assert grpo.cost.serving_flops == 2 * 100 * 40
    assert (grpo.cost.queries, grpo.cost.samples) == (2, 8)


def test_the_base_model_is_found_through_all_training(tmp_path: Path) -> None:
    first = trained(tmp_path / "first")
    assert base_model(weights(first)) == {"kind": "abacus"}
    assert base_model(weights(tmp_path / "elsewhere"))["kind"] == "transformers"


def test_families_are_read_off_the_settings(tmp_path: Path) -> None:
    run = trained(tmp_path / "run")
    library = {"kind": "library", "path": "lib.json"}
    cases = {"read": "value", "path": "bank"}
    for name, settings, family in (
        ("a", {"policy": library}, "context"),
        ("b", {"memory": cases}, "context"),
        ("c", {"memory": {**cases, "read": "off"}}, "base"),
        ("d", {"policy": library, "model": weights(run)}, "both"),
        ("e", {"policy": {"kind": "placebo", "path": "lib.json"}}, "control"),
    ):
        (found,) = read_own(evaluated(tmp_path / name, OUTCOMES, settings))
        assert (found.name, found.family) == (name, family)


def test_a_manifest_names_the_arms(sweep: Path) -> None:
    rows = [
        {"name": "hot", "family": "control", "seed": None, "path": "base-T=1.5/eval-test",
         "made_by": []},
        {"name": "library + grpo", "family": "both", "seed": 7, "path": "grpo-0/eval-test",
         "made_by": ["grpo-0", "grpo-1"]},
    ]  # fmt: skip
    (sweep / MANIFEST).write_text(json.dumps({"schema": 1, "arms": rows}))
    hot, both = read_own(sweep)
    assert (hot.name, hot.family, hot.seed) == ("hot", "control", None)
    assert (both.name, both.family, both.seed) == ("library + grpo", "both", 7)
    assert both.cost is not None
    assert both.cost.making["rollout"].completion_tokens == 2000
    (sweep / MANIFEST).write_text(json.dumps({"schema": 2, "arms": []}))
    with pytest.raises(RunError, match="another version"):
        read_own(sweep)


def test_an_unfinished_evaluation_is_refused(sweep: Path) -> None:
    (sweep / "base" / "eval-test" / "outcomes.jsonl").unlink()
    with pytest.raises(ConfigError, match="is not finished"):
        read_own(sweep / "base" / "eval-test")
    assert len(read_own(sweep)) == 3  # a sweep in progress shows what is over
    with pytest.raises(ConfigError, match="no finished evaluation"):
        read_own(sweep / "base")


def test_training_runs_are_told_once_with_their_law(sweep: Path) -> None:
    found = trajectories([*read_own(sweep), *read_own(sweep)])
    assert [(t.name, t.seed) for t in found] == [("grpo", 0), ("grpo", 1)]
    assert found[0].tokens == tuple(range(100, 1001, 100))
    assert found[0].accuracy[-1] == pytest.approx(0.95)
    assert found[0].law is not None
    a, b, fit = found[0].law
    assert a > 0
    assert b > a
    assert fit > 0.95


def test_disagreements_show_a_right_reply_of_the_better_arm(sweep: Path) -> None:
    arms = arms_of(read_own(sweep))
    found = disagreements(arms, [("base", "grpo")])
    assert {d.task_id for d in found} == {"p0", "p1"}
    first = next(d for d in found if d.task_id == "p0")
    assert first.shares == {"base": 0.75, "base-T=1.5": 0.75, "grpo": 1.0}
    told = {reply.arm: reply for reply in first.replies}
    assert told["grpo"].correct
    assert not told["base"].correct
    assert told["base"].text == "eval-test p0 3"  # the one wrong sample


def test_samples_come_back_as_groups(sweep: Path) -> None:
    (base,) = [e for e in read_own(sweep) if e.name == "base"]
    groups = groups_of(base)
    assert [(g.task.task_id, g.n, g.c) for g in groups] == [("p0", 4, 3), ("p1", 4, 0)]
    assert groups[0].rollouts[3].score.answer == "wrong 0"
