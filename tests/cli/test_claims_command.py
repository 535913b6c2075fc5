"""`tfgrpo claims`: mistakes first, nothing made twice, one failure costs no other claim."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from baselines.claims.registry import CLAIMS, RUNS
from cli.claims_lab import TRAINED, Lab, finished, settings, training
from cli.main import app
from tfgrpo.errors import ConfigError, RunError

TINY = (
    "--limit", "3", "--n", "4", "--jobs", "1", "--tasks", "product,sort", "--set", "steps=1",
    "--set", "prompts=2", "--set", "group_size=2", "--set", "minibatches=2",
    "--set", "train_limit=4", "--set", "sampling.max_tokens=30",
)  # fmt: skip
CHEAP = ("format-collapse", "sparse-updates", "entropy-law")
HEAVY_LEFT = """
import sys
from typer.testing import CliRunner
from cli.main import app
done = CliRunner().invoke(app, ["claims", "--list", "--json"])
assert done.exit_code == 0, done.output
print(*{"torch", "transformers", "scipy", "faiss"} & set(sys.modules))
"""


def given(*arguments: object, code: int = 0) -> str:
    torch.set_num_threads(1)
    done = CliRunner().invoke(app, ["claims", *map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.stdout


def documents(*arguments: object, code: int = 0) -> dict[str, Any]:
    return {row["id"]: row for row in json.loads(given(*arguments, "--json", code=code))}


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(f): (f.stat().st_mtime_ns, f.stat().st_size) for f in files}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """One step of GRPO, and three claims on it, of which a run of one step cannot tell one."""
    root = tmp_path_factory.mktemp("claims")
    return root, documents(*CHEAP, *TINY, "--run", root, code=1)


# listing and planning -----------------------------------------------------------------------------


def test_listing_tells_statements_sources_and_rules_without_torch() -> None:
    command = [sys.executable, "-c", HEAVY_LEFT]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
    told = given("--list", "clip-asymmetry")
    assert "2503.14476" in told
    assert "The upper clip binds" in told
    assert "below 0, by at least 0.05" in told
    assert set(documents("--list")) == set(CLAIMS)


def test_every_claim_can_be_computed_and_every_run_be_made(tmp_path: Path) -> None:
    from cli.claims_make import _MAKERS
    from cli.claims_read import _COMPUTE

    assert set(_COMPUTE) == set(CLAIMS)
    assert {"base", *TRAINED, *_MAKERS} == set(RUNS)
    lab = Lab(tmp_path, None, (), 72, 64)
    places = [lab.place(name, 0) for name in RUNS]
    assert len(set(places)) == len(places)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (["entropy-laws"], ConfigError, "did you mean entropy-law"),
        (["on-policy", "--from", "nowhere"], ConfigError, "no folder nowhere; give that of a sw"),
        (["on-policy", "--set", "steps=no"], ConfigError, "steps"),
    ],
)
def test_mistakes_are_told_before_anything_is_run(
    arguments: list[str], kind: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=message):
        given(*arguments, "--run", tmp_path / "claims")
    assert not (tmp_path / "claims").exists()


def test_a_dry_run_counts_the_work_and_makes_nothing(tmp_path: Path) -> None:
    root = tmp_path / "claims"
    told = json.loads(given("--dry-run", "--seeds", 2, *TINY, "--run", root, "--json"))
    assert not root.exists()
    found = {(row["run"], row["seed"]): row for row in told["runs"]}
    assert len(found) == 2 * len(RUNS) - 1  # the base has no seeds
    counted = {name: (row["samples"], row["updates"]) for (name, _), row in found.items()}
    held_out, rollouts = 3 * 4, 1 * 2 * 2
    assert counted["base"] == (held_out, 0)
    assert counted["grpo"] == counted["binary"] == (rollouts + held_out, 2)
    assert counted["few"] == (rollouts + held_out + 2 * 2 * 4, 2)  # and twice on 2 problems
    assert counted["probe"] == (rollouts, 1 + 4 * 2)
    assert counted["diverse"] == (4 * 16 + held_out, 2 * 1)
    assert told["samples"] == sum(row["samples"] for row in told["runs"])
    assert "updates of the weights" not in given("--dry-run", *TINY, "--run", root)


def test_runs_differ_only_in_what_they_are_about(tmp_path: Path) -> None:
    lab = Lab(tmp_path, None, ("tasks='sum'", "steps=7"), 72, 64)
    few, plain = (training(lab, name, 1).model_dump() for name in ("few", "grpo"))
    assert few.pop("train_limit") == plain["prompts"]
    assert few == {key: value for key, value in plain.items() if key != "train_limit"}
    assert training(lab, "probe", 1) == training(lab, "grpo", 1)
    assert settings(lab, "taught", 1).model_dump()["source"]["samples"] == 4


# findings -----------------------------------------------------------------------------------------


def test_one_claim_that_fails_costs_no_other(measured: tuple[Path, dict[str, Any]]) -> None:
    root, found = measured
    assert found["entropy-law"]["verdict"] == "failed"
    assert "at least 8 steps" in found["entropy-law"]["fault"]
    sparse = found["sparse-updates"]
    assert sparse["verdict"] in ("supported", "not supported", "inconclusive")
    assert 0 <= sparse["low"] <= sparse["value"] <= sparse["high"] <= 1
    assert "tensors" in sparse["detail"]
    assert found["format-collapse"]["verdict"] != "failed"
    assert "--set steps=1" in sparse["command"]
    assert (root / "claims.json").is_file()
    assert sorted(p.name for p in root.iterdir()) == ["base", "claims.json", "grpo-0"]


def test_given_again_it_only_reads_and_keeps_what_was_found(
    measured: tuple[Path, dict[str, Any]],
) -> None:
    root, found = measured
    runs = {k: v for k, v in contents(root).items() if not k.endswith("claims.json")}
    told = given("sparse-updates", *TINY, "--run", root)
    assert "1 training seed" in told
    after = {k: v for k, v in contents(root).items() if not k.endswith("claims.json")}
    assert after == runs
    kept = json.loads((root / "claims.json").read_text())
    assert [row["id"] for row in kept] == ["entropy-law", "format-collapse", "sparse-updates"]
    assert kept[2] == found["sparse-updates"]


def test_the_runs_of_a_sweep_are_read_and_never_written(
    measured: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    swept, found = measured
    before = contents(swept)
    own = tmp_path / "own"
    again = documents(*CHEAP[:2], *TINY, "--from", swept, "--run", own)
    assert again == {name: found[name] for name in CHEAP[:2]}
    assert contents(swept) == before
    assert [path.name for path in own.iterdir()] == ["claims.json"]
    lab = Lab(own, swept, (), 3, 4)
    assert lab.place("grpo", 0) == swept / "grpo-0"
    assert lab.place("grpo", 1) == own / "grpo-1"
    assert lab.place("few", 0) == own / "few" / "grpo-0"


@pytest.mark.parametrize(
    ("changed", "message"),
    [(("--set", "optimiser.lr=0.5"), "lr was 0.0002, now 0.5"), (("--n", "5"), "n was 4, now 5")],
)
def test_a_sweep_of_other_settings_is_refused(
    measured: tuple[Path, dict[str, Any]], changed: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    swept, _ = measured
    with pytest.raises(RunError, match=message):
        given("sparse-updates", *TINY, *changed, "--from", swept, "--run", tmp_path / "own")
    assert not (tmp_path / "own").exists()


def test_a_run_that_was_cut_off_is_not_taken_from_a_sweep(
    measured: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    swept, _ = measured
    assert finished(swept / "grpo-0", "grpo")
    (tmp_path / "grpo-0" / "weights").mkdir(parents=True)
    assert not finished(tmp_path / "grpo-0", "grpo")
    assert Lab(tmp_path / "own", tmp_path, (), 3, 4).place("grpo", 0).parent.name == "own"


@pytest.mark.slow
def test_the_other_runs_end_to_end(tmp_path: Path) -> None:
    names = ("memorisation", "within-base", "diverse-sft", "clip-asymmetry", "brier-reward")
    longer = (*TINY, "--set", "sampling.max_tokens=80", "--n", 16, "--run", tmp_path)
    found = documents(*names, *longer, code=1)
    assert set(found) == set(names)
    # One pass over four problems teaches nobody the form.
    assert "state no confidence" in found["brier-reward"]["fault"]
    for name in names[:4]:
        assert found[name]["verdict"] != "failed", found[name]
    assert documents(*names, *longer, code=1) == found
