"""What became of all samples: right, wrong, without an answer, or never graded, and faults met."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tfgrpo.verdict.folders import config, evaluated
from tests.tfgrpo.verdict.outcomes import evaluation, outcome
from tfgrpo.errors import RunError
from tfgrpo.llm.faults import FaultCount, Faults
from tfgrpo.runs import RunDir
from tfgrpo.types import Usage
from tfgrpo.verdict.arms import Arm, arms_of
from tfgrpo.verdict.details import Fate
from tfgrpo.verdict.evidence import problem_shares
from tfgrpo.verdict.fates import fates, read_faults, troubles
from tfgrpo.verdict.own import read_own

LIMITED = Faults().plus("rate limit", FaultCount(7))
REFUSED = FaultCount(2, 2, Usage(2, 40, 0, 6, 0, 0.1))


def noted(path: Path, faults: Faults) -> None:
    """The faults as a session writes them."""
    with RunDir.resume(path, RunDir.open(path).config) as run:
        run.write_json("faults.json", faults.to_json())


def told(path: Path, failures: list[list[str]]) -> None:
    """The failures of each problem, as a session writes them beside the texts."""
    file = path / "samples.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    lines = [json.dumps(row | {"failures": f}) for row, f in zip(rows, failures, strict=True)]
    file.write_text("".join(f"{line}\n" for line in lines))


def test_seeds_are_summed_and_failures_told_by_stage(tmp_path: Path) -> None:
    lost = replace(outcome("q", 2, 0), failures=2)
    silent = replace(outcome("q", 4, 1), answers=("right", None, None, "wrong"))
    evaluated(tmp_path / "arm-0", [outcome("p", 4, 3), lost])
    evaluated(tmp_path / "arm-1", [outcome("p", 4, 4), silent])
    evaluated(tmp_path / "base", [outcome("p", 4, 0), outcome("q", 4, 0)])
    told(tmp_path / "arm-0", [[], ["refused: by the model", "transport: 503: overloaded"]])
    noted(tmp_path / "arm-0", LIMITED.plus("refusal", REFUSED))
    noted(tmp_path / "arm-1", LIMITED)
    arm, base = fates(arms_of(read_own(tmp_path)))
    assert base == Fate("base", 0, 8, 0, {}, {})
    assert not base.troubled
    assert arm == Fate(
        arm="arm",
        right=3 + 4 + 1,
        wrong=1 + 2 + 1,
        unread=2,
        failures={"refused": 1, "transport": 1},
        faults={"rate limit": FaultCount(14), "refusal": REFUSED},
    )
    assert (arm.failed, arm.troubled) == (2, True)
    assert troubles([base, arm]) == (
        "Of arm, 2 samples were never graded.",
        "While arm was sampled, its endpoint met these faults: rate limit 14, refusal "
        f"{REFUSED.seen}.",
    )


def test_failures_of_which_no_folder_tells_are_counted_all_the_same() -> None:
    lost = replace(outcome("p", 2, 1), failures=3)
    arm = Arm("other", "other", (replace(evaluation("other", []), outcomes=(lost,)),))
    assert fates([arm]) == (Fate("other", 1, 1, 0, {"unknown": 3}, {}),)


@pytest.mark.parametrize("text", ["[]", '{"rate limit": 3}', '{"rate limit": {"seen": 1}}', "{"])
def test_a_file_that_counts_no_faults_is_named(tmp_path: Path, text: str) -> None:
    with RunDir.create(tmp_path / "run", config(), "eval") as run:
        run.write_text("faults.json", text)
    with pytest.raises(RunError, match=r"faults\.json .*; restore it"):
        read_faults(RunDir.open(tmp_path / "run"))


def test_a_run_without_the_file_met_none(tmp_path: Path) -> None:
    RunDir.create(tmp_path / "run", config(), "eval").close()
    assert read_faults(RunDir.open(tmp_path / "run")) == Faults()


def test_each_problem_has_the_share_of_every_arm_averaged_over_its_seeds() -> None:
    arms = arms_of(
        [evaluation("a", [0, 4, 2]), evaluation("b", [4, 3, 0], seed=0),
         evaluation("b", [0, 4, 0], seed=1)]
    )  # fmt: skip
    found = problem_shares(arms, ["p1", "p0"])
    assert [(p.task_id, p.dataset, p.shares) for p in found] == [
        ("p1", "d", {"a": 1.0, "b": 0.875}),
        ("p0", "d", {"a": 0.0, "b": 0.5}),
    ]
