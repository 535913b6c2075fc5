"""`tfgrpo match` with the pocket model: weights whose matching temperature is known exactly."""

from __future__ import annotations

import json
import shlex
import sqlite3
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from cli import wiring
from cli.main import run as command
from cli.match_runs import FOUND, at_found, read_found
from cli.stage_runs import run_job
from cli.stages import Job, Order, plan_of
from cli.suites import FULL
from tests.cli.commands import Cli
from tfgrpo.config import EvalSpec, OpenAISpec
from tfgrpo.errors import ConfigError, RunError
from tfgrpo.llm.transformers_local import load as load_model
from tfgrpo.runs import RunDir
from tfgrpo.settings import dump, load
from tfgrpo.verdict.matching import check_matched
from tfgrpo.verdict.own import read_own

SHARPER = 1.25
"""By what the arm's logits are larger: at this temperature it is the base at temperature 1."""

ASKED = ("--tasks", "product,sort", "--limit", "2", "--n", "3", "--max-tokens", "60")
SMALL = ("--limit", "4", "--n", "4")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation of the base, and a training run that made the base's logits larger."""
    root = tmp_path_factory.mktemp("match")
    with pytest.raises(SystemExit) as end:
        command(["eval", *ASKED, "--set", "detail=true", "--run", str(root / "base")])
    assert not end.value.code
    RunDir.create(root / "trained", {}, "train").close()
    model, tokenizer = load_model(str(wiring.abacus_path()), "cpu", "float32")
    model.get_decoder().norm.weight.data *= SHARPER
    model.save_pretrained(root / "trained" / "weights")
    tokenizer.save_pretrained(root / "trained" / "weights")
    return root


@pytest.fixture(scope="module")
def found(root: Path) -> dict[str, Any]:
    with pytest.raises(SystemExit) as end:
        command([str(part) for part in search_in(root)])
    assert not end.value.code
    document: dict[str, Any] = json.loads((root / "found" / FOUND).read_text())
    return document


def search_in(root: Path) -> tuple[str | Path, ...]:
    given = ("--like", root / "base", *SMALL, "--run", root / "found", "--json")
    return ("match", root / "trained", *given)


def settings_of(path: Path) -> EvalSpec:
    return load(EvalSpec, None, (), RunDir.open(path).config)


def stored(run: Path) -> list[dict[str, Any]]:
    with sqlite3.connect(run / "calls.sqlite") as store:
        return [json.loads(row) for (row,) in store.execute("SELECT completion FROM calls")]


def test_larger_logits_are_matched_by_the_temperature_that_undoes_them(
    found: dict[str, Any],
) -> None:
    assert found["temperature"] == SHARPER
    assert [p["temperature"] for p in found["probes"]] == [1.0, 1.5, 1.25]
    cold, hot, last = (p["entropy"] for p in found["probes"])
    assert found["base"]["temperature"] == 1.0
    assert cold < 0.98 * found["base"]["entropy"] < 1.02 * found["base"]["entropy"] < hot
    assert last == pytest.approx(found["base"]["entropy"], rel=1e-3)


def test_evaluated_with_its_settings_it_gives_the_base_s_own_replies(
    found: dict[str, Any], root: Path, cli: Cli
) -> None:
    hotter = root / "trained-T=1.25"
    again = cli("eval", root / "found" / "eval.toml", "--run", hotter, "--json")
    assert again.code == 0, again.err
    assert settings_of(hotter).sampling.temperature == found["temperature"]
    (ours,), (base,) = read_own(hotter), read_own(root / "base")
    for a, b in zip(ours.outcomes, base.outcomes, strict=True):
        assert (a.task_id, a.answers, a.lengths) == (b.task_id, b.answers, b.lengths)
    assert (ours.family, base.family) == ("control", "base")
    assert check_matched((base, ours), force=False, meant=(ours.name,)) == ()


def test_a_policy_that_is_the_base_is_matched_by_its_own_temperature(root: Path, cli: Cli) -> None:
    given = cli("match", root / "base", "--like", root / "base", *SMALL, "--run", root / "same")
    assert given.code == 0, given.err
    same = read_found(root / "same")
    assert [(p.temperature, p.entropy) for p in same.probes] == [(1.0, same.target)]
    assert f"{same.target:.4f}" in given.out
    assert "100.0%" in given.out
    assert "base is as random as the base at 1." in given.out
    (told,) = [line for line in given.err.splitlines() if line.startswith("Next: ")]
    assert shlex.split(told)[1:] == [
        "tfgrpo", "eval", str(root / "same" / "eval.toml"), "--run", "runs/base-T=1",
    ]  # fmt: skip
    # At temperature 1 the sampler records what is drawn from: as found by reading it again.
    recorded = [h for call in stored(root / "same") for h in call["entropies"]]
    assert same.target == pytest.approx(fmean(recorded), rel=1e-4)
    assert len(stored(root / "same")) == 16


def test_a_search_that_was_cut_short_pays_for_no_reply_twice(
    found: dict[str, Any], root: Path, cli: Cli
) -> None:
    ledger = (root / "found" / "ledger.json").read_bytes()
    (root / "found" / FOUND).unlink()
    told = cli(*search_in(root)).json()
    assert cli(*search_in(root)).json() == told
    assert json.loads((root / "found" / FOUND).read_text()) == found
    assert {key: told[key] for key in found} == found
    assert (root / "found" / "ledger.json").read_bytes() == ledger


def test_a_library_is_a_policy_too(root: Path, cli: Cli) -> None:
    """Lessons that the base was taught to read make it surer of itself."""
    (root / "lessons.txt").write_text("Split the larger number by its places.\n")
    shown = ("--policy", f"library:{root / 'lessons.txt'}")
    assert cli("eval", *ASKED, *shown, "--run", root / "taught").code == 0
    given = ("--like", root / "base", *SMALL, "--tolerance", "0.1", "--json")
    told = cli("match", root / "taught", *given, "--run", root / "hotter").json()
    assert told["probes"][-1]["temperature"] == told["temperature"]
    assert told["probes"][-1]["entropy"] == pytest.approx(told["base"]["entropy"], rel=0.1)
    assert (
        settings_of(root / "taught").policy == load(EvalSpec, root / "hotter" / "eval.toml").policy
    )


def hosted(root: Path, name: str) -> Path:
    spec = settings_of(root / "base").model_copy(update={"model": OpenAISpec(model="some-model")})
    if not (root / name).is_dir():
        RunDir.create(root / name, dump(spec), "eval").close()
    return root / name


def test_an_endpoint_is_refused_and_nothing_is_left_behind(root: Path, cli: Cli) -> None:
    told = cli("match", hosted(root, "api"), "--like", root / "base", "--run", root / "no")
    assert told.code == 2
    assert "temperature needs logits, which 'openai' models do not give; use one in" in told.err
    assert not (root / "no").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("trained", "trained"), "is a run of tfgrpo train; give --like an evaluation"),
        (("base", "base", "--split", "test"), "split: should be 'train' or 'dev', not"),
        (("unfinished", "base"), "unfinished made no policy; give an evaluation"),
        (("base", "greedy"), "no entropy at its temperature, so none can be matched"),
    ],
)
def test_what_cannot_be_matched_is_said(
    root: Path, tmp_path: Path, cli: Cli, arguments: tuple[str, ...], message: str
) -> None:
    greedy = dump(settings_of(root / "base"))
    greedy["sampling"]["temperature"] = 0.0
    for name, settings, kind in (("unfinished", {}, "train"), ("greedy", greedy, "eval")):
        if not (root / name).is_dir():
            RunDir.create(root / name, settings, kind).close()
    arm, like, *more = arguments
    told = cli("match", root / arm, "--like", root / like, *more, "--run", tmp_path / "run")
    assert told.code == 2
    assert message in " ".join(told.err.split())


# in a bench ---------------------------------------------------------------------------------------


def test_a_bench_samples_its_arm_at_what_was_found(found: dict[str, Any], tmp_path: Path) -> None:
    order = Order(tmp_path, 2, 20, 4, ("match.n=4", "match.limit=4", "n=9"))
    plan = plan_of(FULL, order)
    search = plan.job("match-grpo-1")
    assert (search.kind, search.needs) == ("match", ("train-grpo-1",))
    spec = search.spec
    assert (spec.limit, spec.n, spec.seed, spec.split) == (4, 4, 1, "dev")
    assert spec.arm.model == plan.job("grpo-1").spec.model
    assert spec.like.model == plan.job("base").spec.model
    assert spec.like.sampling == spec.arm.sampling == plan.job("base").spec.sampling
    arm = plan.job("grpo-bases-entropy-1")
    assert arm.needs == ("train-grpo-1", "match-grpo-1")
    assert arm.spec == plan.job("grpo-1").spec
    (tmp_path / "match-grpo-1").mkdir()
    (tmp_path / "match-grpo-1" / FOUND).write_text(json.dumps(found))
    later = plan_of(FULL, order)
    heated = later.job("grpo-bases-entropy-1").spec
    assert heated.sampling.temperature == found["temperature"]
    assert at_found(arm.spec, tmp_path / "match-grpo-1") == heated
    assert [job for job in later.jobs if job.name != arm.name] == [
        job for job in plan.jobs if job.name != arm.name
    ]
    (tmp_path / "match-grpo-1" / FOUND).write_text("{}")
    with pytest.raises(RunError, match=r"temperature\.json is damaged; delete it and search again"):
        plan_of(FULL, order)


def test_a_job_is_run_at_the_temperature_found_since_it_was_planned(
    found: dict[str, Any], root: Path, tmp_path: Path
) -> None:
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / FOUND).write_text(json.dumps(found))
    spec = settings_of(root / "base")
    run_job(tmp_path, Job("arm", "arm, seed 0", "eval", spec, ("search",), "search"))
    assert settings_of(tmp_path / "arm") == at_found(spec, tmp_path / "search")
    assert settings_of(tmp_path / "arm").sampling.temperature == SHARPER


def test_settings_of_a_search_are_given_by_its_name_alone() -> None:
    with pytest.raises(ConfigError, match="tolerance: unknown key"):
        plan_of(FULL, Order(Path("b"), 1, 20, 4, ("tolerance=0.1",)))
