"""The suites of `tfgrpo bench`: every arm can be made, and no two things share a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from baselines.config import TrainSpec
from cli.stages import Order, filled, plan_of, transitive
from cli.suites import FULL, SUITES, suite
from tfgrpo.config import EvalSpec, LearnSpec
from tfgrpo.errors import ConfigError

ROOT = Path("runs") / "b"
EVERY = pytest.mark.parametrize("name", list(SUITES))


def order(*flags: str, seeds: int = 2) -> Order:
    return Order(ROOT, seeds, 20, 4, flags)


@EVERY
def test_whatever_a_suite_names_exists(name: str) -> None:
    chosen = SUITES[name]
    stages = [stage.name for stage in chosen.stages]
    arms = [arm.name for arm in chosen.arms]
    assert len(set(stages)) == len(stages)
    assert len(set(arms)) == len(arms)
    for i, stage in enumerate(chosen.stages):
        assert set(stage.needs) <= set(stages[:i])
    assert all(set(arm.needs) <= set(stages) for arm in chosen.arms)
    assert {end for pair in chosen.pairs for end in pair} <= set(arms)
    assert not any(chosen.base in duel for duel in chosen.duels)
    assert (chosen.arms[0].family, chosen.arms[0].needs) == ("base", ())


@EVERY
def test_every_place_that_settings_name_is_needed_and_filled(name: str) -> None:
    chosen = SUITES[name]
    for part in (*chosen.stages, *chosen.arms):
        text = str(dict(part.settings))
        named = {stage.name for stage in chosen.stages if f"{{{stage.name}}}" in text}
        assert named <= set(part.needs)
        places = dict.fromkeys((*part.needs, "bank"), "here")
        left = str(filled(dict(part.settings), places))
        assert not any(f"{{{stage.name}}}" in left for stage in chosen.stages)
        assert "{bank}" not in left


@EVERY
def test_no_two_jobs_share_a_folder_and_every_need_comes_first(name: str) -> None:
    plan = plan_of(SUITES[name], order())
    names = [job.name for job in plan.jobs]
    assert len(set(names)) == len(names)
    assert not set(names) & {"bank-0", "bank-1"}
    assert not any(" " in job or "/" in job for job in names)
    for i, job in enumerate(plan.jobs):
        assert set(job.needs) <= set(names[:i])


@EVERY
def test_all_arms_are_measured_alike(name: str) -> None:
    plan = plan_of(SUITES[name], order("sampling.max_tokens=99"))
    specs = [job.spec for job in plan.jobs if job.kind == "eval"]
    assert all(isinstance(spec, EvalSpec) and spec.detail and spec.seed == 0 for spec in specs)
    assert {(s.limit, s.n, s.split, s.pack, s.reward) for s in specs} == {
        (20, 4, "test", "abacus", "exact")
    }
    assert len({spec.tasks.model_dump_json() for spec in specs}) == 1
    hot = [spec for spec in specs if spec.sampling != specs[0].sampling]
    assert [spec.sampling.temperature for spec in hot] == ([1.5] if name == "full" else [])
    assert {spec.sampling.max_tokens for spec in specs} == {99}


def test_the_full_suite_has_every_kind_of_arm() -> None:
    assert {arm.family for arm in FULL.arms} == {"base", "control", "context", "weights", "both"}
    families = {arm.name: arm.family for arm in FULL.arms}
    square = FULL.square
    assert square is not None
    found = [families[arm] for arm in (square.base, square.context, square.weights, square.both)]
    assert found == ["base", "context", "weights", "both"]


def test_library_and_cases_come_from_runs_of_their_own() -> None:
    plan = plan_of(FULL, order())
    learn, practice = plan.job("learn-0").spec, plan.job("practice-0").spec
    assert isinstance(learn, LearnSpec)
    assert learn.memory is None
    assert practice.memory is not None
    assert practice.model_copy(update={"memory": None}) == learn
    assert plan.job("library-0").spec.policy.path == ROOT / "learn-0"
    assert plan.job("cases-0").spec.memory.path == practice.memory.path == ROOT / "bank-0"
    both = plan.job("grpo+library-0").spec
    assert (both.policy.path, both.model.path) == (
        ROOT / "learn-0",
        str(ROOT / "train-grpo-0" / "weights"),
    )


def test_an_arm_is_paid_for_by_all_that_stands_behind_it() -> None:
    plan = plan_of(FULL, order())
    made = {arm.path: arm.made_by for arm in plan.arms}
    assert made["base"] == ()
    assert made["distilled-1"] == ("learn-1", "imitate-distil-1")
    assert made["library+cases-0"] == ("learn-0", "practice-0")
    assert made["grpo-bases-entropy-0"] == ("train-grpo-0", "match-grpo-0")
    assert transitive(("imitate-rejection-0",), plan.jobs) == ("learn-0", "imitate-rejection-0")


def test_a_setting_reaches_the_runs_that_know_it() -> None:
    flags = (
        "sampling.temperature=0.9",
        "steps=3",
        "learn.epochs=7",
        "imitate.epochs=9",
        "memory.k=2",
    )
    plan = plan_of(FULL, order(*flags, seeds=1))
    learn, practice = plan.job("learn-0").spec, plan.job("practice-0").spec
    train, imitate = plan.job("train-grpo-0").spec, plan.job("imitate-distil-0").spec
    assert isinstance(train, TrainSpec)
    assert (learn.epochs, train.epochs, imitate.epochs, train.steps) == (7, 1, 9, 3)
    assert {spec.sampling.temperature for spec in (learn, train, imitate)} == {0.9}
    assert (learn.memory, practice.memory.k, plan.job("cases-0").spec.memory.k) == (None, 2, 2)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("epocks=3", "epocks: unknown key; did you mean epochs"),
        ("train.steeps=3", "steeps: unknown key; did you mean steps"),
        ("model='openai/gpt'", "model.kind: 'openai' is none of abacus, transformers"),
    ],
)
def test_mistakes_are_told_before_anything_is_run(flag: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_of(FULL, order(flag))


def test_a_kind_that_a_suite_has_not_is_no_scope() -> None:
    with pytest.raises(ConfigError, match="train: unknown key"):
        plan_of(SUITES["context"], order("train.steps=3"))


def test_there_are_no_other_suites() -> None:
    with pytest.raises(ConfigError, match="no suite 'half'; use one of these: context, memory, f"):
        suite("half")


def test_one_placebo_serves_all_seeds() -> None:
    plan = plan_of(SUITES["context"], order())
    found = [(arm.name, arm.seed, arm.path, arm.made_by) for arm in plan.arms]
    assert found == [
        ("base", None, "base", ()),
        ("placebo", None, "placebo", ("learn-0",)),
        ("learned", 0, "learned-0", ("learn-0",)),
        ("learned", 1, "learned-1", ("learn-1",)),
    ]
    assert plan.job("placebo").needs == ("learn-0",)
