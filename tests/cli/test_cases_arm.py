"""A bank of cases in the method: practice fills and credits it, evaluation reads it frozen."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from cli.stage_runs import run_job
from cli.stages import Job, Order, plan_of
from cli.suites import MEMORY
from memory.store import CaseStore
from memory.types import STATES, Case, CaseFilter
from tests.cli.commands import tfgrpo
from tfgrpo.config import EvalSpec, MemorySpec, ProceduralSpec
from tfgrpo.errors import RunError
from tfgrpo.runs import RunDir

pytestmark = pytest.mark.slow

LEARN = ("--tasks", "sum,product", "--limit", "12", "--batch-size", "4", "--epochs", "1")
EVAL = ("--tasks", "sum,product", "--limit", "6", "--n", "4", "--split", "dev")


@pytest.fixture(scope="module")
def practised(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A learning run and the bank that it filled."""
    folder = tmp_path_factory.mktemp("practice")
    tfgrpo("learn", "--run", folder / "run", "--memory", folder / "bank", *LEARN)
    return folder / "run", folder / "bank"


def rows(run: Path, name: str) -> list[dict[str, Any]]:
    return list(RunDir.open(run).read_rows(name))


def everything(bank: Path) -> list[Case]:
    with CaseStore(bank, mode="ro") as store:
        return store.cases(CaseFilter(states=STATES))


def contents(bank: Path) -> list[tuple[Any, ...]]:
    """What a bank holds, without the names that differ from run to run."""
    with CaseStore(bank, mode="ro") as store:
        credits = store.utilities()
        return [
            (c.id, c.kind, c.question, c.plan, c.outcome, c.seen_count, c.state, credits.get(c.id))
            for c in store.cases(CaseFilter(states=STATES))
        ]


def bytes_of(folder: Path) -> Mapping[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(f.relative_to(folder)): sha256(f.read_bytes()).hexdigest() for f in files}


def test_practice_leaves_cases_insights_and_credits(practised: tuple[Path, Path]) -> None:
    run, bank = practised
    cases = everything(bank)
    attempts = [c for c in cases if c.kind == "case"]
    lessons = [c for c in cases if c.kind == "insight" and c.state == "active"]
    assert {c.outcome for c in attempts} == {"success", "failure"}
    assert all(c.item_id and c.rollout_id and c.reward is not None for c in attempts)
    library = json.loads((run / "library" / "step_0002.json").read_text())["entries"]
    assert {c.plan for c in lessons} == set(library.values())
    known = {c.id: c for c in cases}
    for lesson in lessons:
        sources = [known[p.id] for p in lesson.parents if p.relation == "from"]
        assert sources
        assert all(source.kind == "case" for source in sources)
    with CaseStore(bank, mode="ro") as store:
        assert store.utilities()
        assert not store.verify()


def test_no_rollout_sees_a_case_of_its_own_problem_and_some_see_none(
    practised: tuple[Path, Path],
) -> None:
    run, bank = practised
    items = {c.id: {c.item_id, *c.also_items} for c in everything(bank)}
    seen, blind = 0, 0
    for row in rows(run, "groups.jsonl"):
        for rollout in row["rollouts"]:
            shown = [int(s.split(":")[1]) for s in rollout["shown"] if s.startswith("case:")]
            assert all(row["task_id"] not in items[case_id] for case_id in shown)
            seen += bool(shown)
            blind += row["step"] > 0 and not shown
    assert seen > blind > 0


def test_a_lost_bank_is_made_again_from_its_run(practised: tuple[Path, Path]) -> None:
    run, bank = practised
    before = contents(bank)
    shutil.rmtree(bank)
    tfgrpo("learn", "--run", run, "--memory", bank, *LEARN)
    assert contents(bank) == before
    tfgrpo("learn", "--run", run, "--memory", bank, *LEARN)
    assert contents(bank) == before


def test_a_run_that_was_stopped_fills_the_bank_as_one_that_was_not(
    practised: tuple[Path, Path], tmp_path: Path
) -> None:
    _, bank = practised
    again = ("--run", tmp_path / "run", "--memory", tmp_path / "bank", *LEARN)
    tfgrpo("learn", *again, "--set", "budget.max_tokens=9000", code=3)
    assert 0 < len(contents(tmp_path / "bank")) < len(contents(bank))
    tfgrpo("learn", *again)
    assert contents(tmp_path / "bank") == contents(bank)


@pytest.mark.parametrize("policy", ["base", "library"])
def test_an_evaluation_reads_a_frozen_bank(
    practised: tuple[Path, Path], policy: str, tmp_path: Path
) -> None:
    run, bank = practised
    before = bytes_of(bank)
    chosen = ("--policy", run) if policy == "library" else ()
    done = tfgrpo("eval", "--memory", bank, *chosen, *EVAL, "--run", tmp_path / "e", "--json")
    assert bytes_of(bank) == before
    assert json.loads(done.stdout)["summary"]["n_samples"] == 24
    reads = rows(tmp_path / "e", "reads.jsonl")
    assert len(reads) == 6
    assert all(len(row["shown"]) == 4 for row in reads)
    assert all(row["shown"][0] == row["shown"][1] for row in reads), "top shows all the same"
    assert any(row["shown"][0] for row in reads)


def test_drawn_cases_differ_from_rollout_to_rollout(
    practised: tuple[Path, Path], tmp_path: Path
) -> None:
    _, bank = practised
    drawn = tfgrpo(
        "eval", "--memory", bank, *EVAL, "--set", "memory.draw=softmax",
        "--run", tmp_path / "d", "--json",
    )  # fmt: skip
    assert json.loads(drawn.stdout)["summary"]["n_samples"] == 24
    assert any(
        len(set(map(tuple, row["shown"]))) > 1 for row in rows(tmp_path / "d", "reads.jsonl")
    )


def of_files(bank: Path) -> Mapping[str, str]:
    return {name: digest for name, digest in bytes_of(bank).items() if "neural" not in name}


def test_a_parametric_read_is_trained_first_and_then_kept(
    practised: tuple[Path, Path], tmp_path: Path
) -> None:
    _, practised_bank = practised
    bank, root = tmp_path / "bank-0", tmp_path / "bench"
    shutil.copytree(practised_bank, bank)
    before = bytes_of(bank)
    spec = EvalSpec(
        tasks=ProceduralSpec(families=("sum", "product")),
        memory=MemorySpec(path=bank, read="neural", floor=0.0),
        split="dev", limit=6, n=4,
    )  # fmt: skip
    job = Job("neural-0", "neural, seed 0", "eval", spec)
    run_job(root, job)
    run = root / job.name
    (file,) = bank.glob("neural-*")
    trained, told = file.read_bytes(), json.loads((run / "fit.json").read_text())
    assert of_files(bank) == before
    assert told["report"]["queries"][0] >= 1
    assert any(row["shown"][0] for row in rows(run, "reads.jsonl"))
    done = (run / "outcomes.jsonl").read_bytes()
    # What was killed before the model was whole, or the evaluation over, ends as if it had not.
    (run / "outcomes.jsonl").unlink()
    file.unlink()
    run_job(root, job)
    assert (file.read_bytes(), (run / "outcomes.jsonl").read_bytes()) == (trained, done)
    tfgrpo("memory", "fit", "--store", bank, "--seed", "1", "--epochs", "3")
    assert file.read_bytes() != trained
    with pytest.raises(RunError, match="policy_id"):
        run_job(root, job)


def test_the_suite_of_memories_has_a_parametric_read(tmp_path: Path) -> None:
    plan = plan_of(MEMORY, Order(tmp_path, 2, 20, 4))
    neural, value = plan.job("neural-1"), plan.job("value-1")
    assert neural.needs == value.needs == ("learn-1",)
    assert neural.spec.memory == value.spec.memory.model_copy(update={"read": "neural"})
    assert ("similarity", "neural") in MEMORY.pairs


def test_a_changed_bank_is_another_policy(practised: tuple[Path, Path], tmp_path: Path) -> None:
    _, bank = practised
    shutil.copytree(bank, tmp_path / "bank")
    again = ("eval", "--memory", tmp_path / "bank", *EVAL, "--run", tmp_path / "e")
    tfgrpo(*again)
    with CaseStore(tmp_path / "bank") as store:
        store.archive([store.cases()[0].id], actor="test")
    refused = tfgrpo(*again, code=1)
    assert "policy_id" in refused.stderr


def test_off_is_the_bare_model(practised: tuple[Path, Path], tmp_path: Path) -> None:
    _, bank = practised
    tfgrpo("eval", "--memory", bank, "--read", "off", *EVAL, "--run", tmp_path / "off")
    tfgrpo("eval", *EVAL, "--run", tmp_path / "base")
    assert rows(tmp_path / "off", "samples.jsonl") == rows(tmp_path / "base", "samples.jsonl")


def test_nonsense_is_refused_with_a_sentence(practised: tuple[Path, Path], tmp_path: Path) -> None:
    _, bank = practised
    missing = tfgrpo("eval", "--memory", tmp_path / "none", *EVAL, "--run", tmp_path / "a", code=1)
    assert (
        f"There is no store of cases in {tmp_path / 'none'}; name another, fill" in missing.stderr
    )
    mixed = tfgrpo(
        "eval", "--memory", bank, "--policy", "empty", *EVAL, "--run", tmp_path / "b", code=2
    )
    assert "leave one out" in mixed.stderr.replace("\n", " ")
    untrained = tfgrpo(
        "eval", "--memory", bank, "--read", "neural", *EVAL, "--run", tmp_path / "c", code=1
    )
    assert f"train one. To do that: tfgrpo memory fit --store {bank}." in untrained.stderr
