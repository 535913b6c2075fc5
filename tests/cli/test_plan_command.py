"""`tfgrpo plan` on pilots that were really made, and without any."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli import sessions, wiring
from cli.main import run as command
from tests.cli.commands import tfgrpo
from tests.cli.spoken import solved
from tests.tfgrpo.experience.world import text_of
from tfgrpo.config import EvalSpec
from tfgrpo.ledger import Ledger
from tfgrpo.llm.scripted import Reply, ScriptedModel
from tfgrpo.runs import RunDir
from tfgrpo.seeding import derive_rng
from tfgrpo.types import ChatRequest
from tfgrpo.verdict.expecting import of_pair, of_pilot
from tfgrpo.verdict.own import read_outcomes
from tfgrpo.verdict.planning import Ask, designs, grid

PROBLEMS, SAMPLES = 24, 8
SETTINGS = {
    "tasks": {"kind": "procedural", "families": ["sum", "product"]},
    "limit": PROBLEMS, "n": SAMPLES, "seed": 3,
}  # fmt: skip
PRICE = {"prompt": 2.0, "cached": 1.0, "completion": 8.0}
Plan = Callable[..., tuple[int, str, str]]


def skilled(bonus: float) -> Callable[[ChatRequest, int], Reply]:
    """Each problem has a chance of its own, to which `bonus` is added."""

    def reply(request: ChatRequest, index: int) -> Reply:
        prompt = text_of(request)
        chance = derive_rng(0, prompt).random() + bonus
        right = derive_rng(1, prompt, bonus, index).random() < chance
        return f"Attempt {index}.\nAnswer: {solved(prompt) if right else 7}"

    return reply


def pilot(path: Path, bonus: float = 0.0, **changes: Any) -> Path:
    spec = EvalSpec.model_validate(SETTINGS | changes)
    model = ScriptedModel(skilled(bonus))
    with (
        sessions.open_run(path, spec, "eval") as opened,
        wiring.session(path / sessions.CALLS, spec.budget, spec.price, lambda _: model) as models,
    ):
        sessions.run_evaluation(spec, opened, models, sessions.Watch())
    return path


@pytest.fixture(scope="module")
def pilots(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The base, and an arm whose price is known."""
    folder = tmp_path_factory.mktemp("pilots")
    return pilot(folder / "base", price=PRICE), pilot(folder / "arm", 0.1, price=PRICE)


@pytest.fixture
def plan(capsys: pytest.CaptureFixture[str]) -> Plan:
    def give(*arguments: str | Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            command(["plan", *map(str, arguments)])
        printed = capsys.readouterr()
        return int(end.value.code or 0), printed.out, printed.err

    return give


def told(ended: tuple[int, str, str]) -> Any:
    code, out, err = ended
    assert code == 0, err
    return json.loads(out)


def test_a_pilot_becomes_designs(plan: Plan, pilots: tuple[Path, Path]) -> None:
    base, _ = pilots
    found = told(plan("--effect", "0.04", "--pilot", base, "--k", "1,4", "--json"))
    ask = Ask(0.04, (1, 4), tests=3)
    expected = of_pilot(read_outcomes(RunDir.open(base)), 0.8, (1, 4))
    wanted = designs(expected, ask, (1, 2, 4, 8, 16))
    assert [(d["problems"], d["samples"]) for d in found["designs"]] == [
        (d.problems, d.samples) for d in wanted
    ]
    cells = grid(expected, ask, (50, 100, 200, 300, 500, 1000), (1, 2, 4, 8, 16))
    assert [d["found"] for d in found["grid"]] == [
        {str(k): pytest.approx(x) for k, x in d.found.items()} for d in cells
    ]
    assert found["ask"]["evaluations"] == 4
    assert any("correlation 0.8 is assumed" in text for text in found["cautions"])


def test_a_second_pilot_tells_the_correlation(plan: Plan, pilots: tuple[Path, Path]) -> None:
    found = told(plan("--effect", "0.04", "--pilot", pilots[0], "--pilot", pilots[1], "--json"))
    expected = of_pair(*(read_outcomes(RunDir.open(path)) for path in pilots), (1, 8))
    assert found["expected"]["measured"]
    assert found["expected"]["correlation"] == pytest.approx(expected.correlation)
    assert found["expected"]["arm"]["a"] == pytest.approx(expected.arm.a)
    assert not any("is assumed" in text for text in found["cautions"])


def test_a_bill_comes_from_the_ledgers(plan: Plan, pilots: tuple[Path, Path]) -> None:
    """Both pilots' words scale to the first design: one base, and three seeds of the arm."""
    found = told(plan("--effect", "0.05", "--pilot", pilots[0], "--pilot", pilots[1], "--json"))
    first = found["designs"][0]
    used = [Ledger.from_json(RunDir.open(p).read_json("ledger.json")).total for p in pilots]
    assert used[0].calls == PROBLEMS
    replies = first["problems"] * first["samples"] / (PROBLEMS * SAMPLES)
    bill = first["bill"]["usage"]
    assert bill["calls"] == 4 * first["problems"]
    assert bill["completion_tokens"] == pytest.approx(
        replies * (used[0].completion_tokens + 3 * used[1].completion_tokens), abs=2
    )
    assert first["bill"]["usd"] == pytest.approx(
        (bill["prompt_tokens"] * 2.0 + bill["completion_tokens"] * 8.0) / 1e6
    )
    assert first["bill"]["wall"] > 0


def test_what_is_not_known_is_said(plan: Plan, tmp_path: Path) -> None:
    unpriced = pilot(tmp_path / "unpriced")
    arguments = ("--effect", "0.05", "--pilot", unpriced)
    assert told(plan(*arguments, "--json"))["designs"][0]["bill"]["usd"] is None
    assert plan(*arguments)[1].count("unknown") == len(told(plan(*arguments, "--json"))["designs"])

    copied = tmp_path / "copied"
    shutil.copytree(unpriced, copied)
    os.utime(copied / "environment.json", (1e9, 1e9))
    wall = told(plan("--effect", "0.05", "--pilot", copied, "--json"))["designs"][0]["bill"]["wall"]
    assert wall is None

    (copied / "ledger.json").unlink()
    assert told(plan("--effect", "0.05", "--pilot", copied, "--json"))["designs"][0]["bill"] is None
    assert "What it costs is unknown without a pilot" in plan(
        "--effect", "0.05", "--pilot", copied
    )[1]  # fmt: skip


def test_tables_of_a_process_by_hand() -> None:
    """Even chances paired at 0.5, one seed and test: total 1/12 + 2/24, so 131 problems x 4."""
    done = tfgrpo(
        "plan", "--effect", "0.1", "--mean", "0.5", "--spread", str((1 / 12) ** 0.5),
        "--correlation", "0.5", "--k", "1", "--seeds", "1", "--tests", "1",
        "--problems", "100,131", "--samples", "4",
    )  # fmt: skip
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["100", "11.4"] in lines
    assert ["131", "10.0*"] in lines
    assert ["131", "x", "4", "10.0*", "1,048"] in lines
    flat = " ".join(done.stdout.split())
    assert "pass@1 50.0; the arms' correlation is 0.50, assumed" in flat
    assert "each needs p < 0.05" in flat
    assert "fewer than 3 training seeds (1)" in flat


def test_as_many_problems_as_there_are(plan: Plan) -> None:
    found = told(
        plan("--effect", "0.01", "--mean", "0.5", "--spread", "0.3", "--limit", "30", "--json")
    )
    assert {design["problems"] for design in found["designs"]} == {30}
    assert found["designs"][0]["samples"] == 32
    assert found["cautions"][0].startswith("30 problems find no less than")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "needs a pilot, or two, or else --mean and --spread"),
        (["--mean", "0.5"], "needs a pilot, or two, or else --mean and --spread"),
        (["--mean", "0.5", "--spread", "0.5"], "No skill has mean 0.5"),
        (["--mean", "0.5", "--spread", "0.2", "--k", "1;8"], "is no list of numbers; write 1,8,64"),
        (["--mean", "0.5", "--spread", "0.2", "--k", "8", "--samples", "4"], "larger --samples"),
        (["--mean", "0.5", "--spread", "0.2", "--problems", "1"], "2 problems"),
        (["--mean", "0.5", "--spread", "0.2", "--arms", "1"], "two arms"),
        (["--mean", "0.5", "--spread", "0.2", "--power", "1"], "shares between 0 and 1"),
    ],
)
def test_plans_that_cannot_be_made(plan: Plan, arguments: list[str], message: str) -> None:
    code, out, err = plan("--effect", "0.05", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.rstrip().endswith(".")


def test_a_pilot_is_a_finished_evaluation(plan: Plan, tmp_path: Path) -> None:
    with RunDir.create(tmp_path / "learn", {}, "learn"):
        pass
    code, _, err = plan("--effect", "0.05", "--pilot", tmp_path / "learn")
    assert code == 2
    assert "is no finished evaluation; give a run of tfgrpo eval" in " ".join(err.split())
