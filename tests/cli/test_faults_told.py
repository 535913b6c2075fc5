"""What an endpoint did to a run is told by `tfgrpo runs show` and by the report of a comparison."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

from cli import sessions, wiring
from tests.cli.commands import Cli
from tests.cli.spoken import voice
from tests.tfgrpo.llm.loopback import Loopback
from tests.tfgrpo.llm.troubles import plan
from tests.tfgrpo.report.samples import rows_of
from tfgrpo.config import EvalSpec
from tfgrpo.llm.faults import FaultCount, Faults
from tfgrpo.llm.openai_compat import OpenAIChat
from tfgrpo.protocols import ChatModel
from tfgrpo.runs import RunDir
from tfgrpo.types import Usage

MET = (
    Faults()
    .plus("rate limit", FaultCount(12))
    .plus("refusal", FaultCount(3, 3, Usage(3, 300, 0, 21, 0, 0.5)))
)


def test_faults_are_shown_by_class(cli: Cli, tmp_path: Path) -> None:
    with RunDir.create(tmp_path / "run", {"seed": 1}, "eval") as run:
        run.write_json("faults.json", MET.to_json())
    shown = cli("runs", "show", tmp_path / "run").out
    assert re.search(r"^rate limit +12 +0 +0 +0$", shown, re.MULTILINE)
    assert re.search(r"^refusal +3 +3 +3 +321$", shown, re.MULTILINE)
    assert Faults.from_json(cli("runs", "show", tmp_path / "run", "--json").json()["faults"]) == MET


def test_a_run_without_faults_says_nothing_of_them(cli: Cli, tmp_path: Path) -> None:
    RunDir.create(tmp_path / "run", {"seed": 1}, "eval").close()
    assert "ault" not in cli("runs", "show", tmp_path / "run").out
    assert cli("runs", "show", tmp_path / "run", "--json").json()["faults"] == {}


def test_a_damaged_count_is_one_sentence(cli: Cli, tmp_path: Path) -> None:
    with RunDir.create(tmp_path / "run", {"seed": 1}, "eval") as run:
        run.write_text("faults.json", '{"\\u001b[31m": 1}')
    ended = cli("runs", "show", tmp_path / "run")
    assert ended.code == 1
    assert "restore it" in " ".join(ended.err.split())
    assert "Traceback" not in ended.err


def evaluate(url: str, policy: str, run: Path) -> None:
    """A session as the command makes it, on a client that does not wait long to try again."""
    spec = EvalSpec.model_validate(
        {
            "tasks": {"kind": "procedural", "families": ["sum", "product"]}, "limit": 8, "n": 4,
            "model": {"kind": "openai", "model": "tiny", "base_url": url},
            "policy": {"kind": policy},
        }
    )  # fmt: skip

    def build(model: Any) -> ChatModel:
        return OpenAIChat(model.model, model.base_url, backoff_s=0.001)

    with (
        sessions.open_run(run, spec, "eval") as opened,
        wiring.session(run / sessions.CALLS, spec.budget, spec.price, build) as models,
    ):
        sessions.run_evaluation(spec, opened, models, sessions.Watch())


def test_a_comparison_tells_what_the_endpoint_did_to_each_arm(cli: Cli, tmp_path: Path) -> None:
    with Loopback(reply=voice, ignores=["n"]) as server:
        evaluate(server.url, "base", tmp_path / "base")
        server.plan = plan(0.4, ["refusal", "500"], most=99)
        server.forget()
        evaluate(server.url, "empty", tmp_path / "blank")
        refused, broken = server.met["refusal"], server.met["500"]
    assert refused > 0 < broken
    out = tmp_path / "report"
    runs = (tmp_path / "base", tmp_path / "blank", "--k", "1")
    found = cli("compare", *runs, "--report", out, "--json").json()
    base, blank = found["fates"]
    assert base["failures"] == {}
    assert set(base["faults"]) <= {"too few choices"}
    assert blank["failures"] == {"refused": refused}
    assert blank["right"] + blank["wrong"] + blank["unread"] + refused == 8 * 4
    assert blank["faults"]["refusal"]["seen"] == blank["faults"]["refusal"]["failed"] == refused
    assert blank["faults"]["server error"]["seen"] == broken
    assert json.loads((out / "verdict.json").read_bytes())["fates"] == [base, blank]
    told = rows_of((out / "report.html").read_text(), "faults")["blank"]
    assert (told["never graded"], told["at the stage"]) == (refused, f"refused {refused}")
    assert (told["right"], told["wrong"]) == (blank["right"], blank["wrong"])
    with (out / "faults.csv").open(newline="") as file:
        rows = {(row["arm"], row["class"]): row["times"] for row in csv.DictReader(file)}
    assert rows["blank", "refusal"] == str(refused)
    assert rows["blank", "server error"] == str(broken)
