"""The pages that a stranger follows: every command in its order, as it stands, in an empty folder.

What this machine has not is put in its place by `HERE` and nothing else.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from cli.wiring import abacus_path
from tests.cli.spoken import voice
from tests.cli.test_served import VLLM, free_port, serving
from tests.docs.commands import blocks, commands, leading, masked, run, swapped, typed, words
from tests.docs.pocket_server import PocketServer
from tests.tfgrpo.llm.loopback import Loopback
from tfgrpo.experience.files import load_library

ROOT = Path(__file__).parents[2]
LOCAL = "http://127.0.0.1:8000/v1"
# The prompts that the pocket model knows, and the default group size again.
OWN_PROMPTS = {"learn --model": "learn --preset abacus --group-size 8 --model"}

# What a page says, and what the test puts there: `URL` is the address of the test's own server,
# `:` the shell's command that does nothing, whatever words follow it.
HERE: Mapping[str, Mapping[str, str]] = {
    "hosted.md": OWN_PROMPTS | {"https://api.openai.com/v1": "URL", "https://HOST/v1": "URL"},
    "vllm.md": OWN_PROMPTS
    | {LOCAL: "URL", "vllm serve ": ": vllm serve ", "ray start ": ": ray start "}
    | {"python3.11 -m venv": ": python3.11 -m venv", "uv pip": ": uv pip", "vllm-env/bin/": ": "},
    "serving.md": OWN_PROMPTS
    | {LOCAL: "URL", "pip install": ": pip install", "transformers serve": ": transformers serve"}
    | {"FOLDER": str(abacus_path())},
    # A learning run of a minute, evaluations of 6400 samples and a search by some 2000, made small.
    "verdict.md": {
        "tfgrpo learn ": "tfgrpo learn --limit 16 --epochs 1 ",
        "tfgrpo eval ": "tfgrpo eval --limit 16 --n 8 ",
        "tfgrpo match ": "tfgrpo match --limit 4 --n 4 --tolerance 0.3 ",
    },
    "tasks.md": {},
}
# Runs every arm, with weights: half an hour. Below it the page has no other commands.
TOO_LONG = {"verdict.md": "## Measured"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (abacus_path() / "config.json").is_file(), reason="the weights of Abacus are missing"
    ),
]


def text_of(name: str) -> str:
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    return page.partition(TOO_LONG[name])[0] if name in TOO_LONG else page


def followed(name: str, folder: Path, url: str = "") -> str:
    """What a page's commands print, once all of them have succeeded; what it shows is in it."""
    page = text_of(name)
    swaps = {old: new.replace("URL", url) for old, new in HERE[name].items()}
    done = run(swapped(typed(page), swaps), folder)
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed
    shown = [cell for b in blocks(page) if b.kind == "printed" for cell in leading(b.text)]
    assert [cell for cell in shown if cell not in masked(printed)] == []
    return printed


def right(run: Path) -> float:
    """The pass@1 of an evaluation."""
    value: float = json.loads((run / "summary.json").read_bytes())["pass_at_k"]["1"]["value"]
    return value


def test_a_hosted_api(tmp_path: Path) -> None:
    with PocketServer("gpt-4.1-mini", "NAME", key="sk-...") as server:
        printed = followed("hosted.md", tmp_path, server.url)
        assert set(server.keys) == {"Bearer sk-..."}
    assert "it ended with 3\n" in printed
    assert "The budget of 0.002 US dollars is spent" in printed
    runs = tmp_path / "runs"
    assert right(runs / "learned") > right(runs / "base") + 0.1
    assert abs(right(runs / "placebo") - right(runs / "base")) < 0.2
    assert [path.name for path in tmp_path.rglob("*") if holds(path, b"sk-...")] == [".env"]


def holds(path: Path, text: bytes) -> bool:
    return path.is_file() and text in path.read_bytes()


def test_vllm_by_the_pocket_model_under_its_names(tmp_path: Path) -> None:
    with PocketServer("Qwen/Qwen3-0.6B", "MODEL", "abacus") as server:
        followed("vllm.md", tmp_path, server.url)
    assert right(tmp_path / "runs" / "learned") > 0.5


def test_vllm_itself_started_by_the_line_of_the_page(tmp_path: Path) -> None:
    python, port = python_of_vllm(), free_port()
    (line,) = (c for c in commands(typed(text_of("vllm.md"))) if "api_server" in c)
    names = "--served-model-name abacus"
    started = swapped(
        line,
        {
            "vllm-env/bin/python": python,
            "baselines/abacus/weights": str(abacus_path()),
            names: f"{names} Qwen/Qwen3-0.6B MODEL",
            "--port 8000": f"--port {port}",
        },
    )
    with serving(words(started), port, tmp_path) as url:
        (tmp_path / "page").mkdir()
        followed("vllm.md", tmp_path / "page", url)
    assert right(tmp_path / "page" / "runs" / "learned") > 0.5


def python_of_vllm() -> str:
    python = os.environ.get(VLLM)
    if not python:
        pytest.skip(f"set {VLLM} to the python of an environment that holds vLLM")
    return python


PARSER = """
import json, sys
from vllm.entrypoints.cli.serve import ServeSubcommand
from vllm.utils.argparse_utils import FlexibleArgumentParser

parser, command = FlexibleArgumentParser(prog="vllm"), ServeSubcommand()
command.subparser_init(parser.add_subparsers())
for line in json.load(sys.stdin):
    read = parser.parse_args(line[1:])
    command.validate(read)
    print(read.model_tag, read.data_parallel_size, read.tensor_parallel_size)
"""


def test_vllms_own_parser_takes_the_lines_for_gpus() -> None:
    python = python_of_vllm()
    pages = [text_of("vllm.md"), (ROOT / "README.md").read_text(encoding="utf-8")]
    lines = [words(c) for page in pages for c in commands(typed(page)) if c.startswith("vllm ")]
    done = subprocess.run(
        [python, "-c", PARSER],
        input=json.dumps(lines),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    read = [line.split() for line in done.stdout.splitlines() if re.search(r" \d+ \d+$", line)]
    assert len(read) == len(lines) >= 10
    assert {model for model, _, _ in read} == {"Qwen/Qwen3-0.6B", "MODEL"}
    assert ["MODEL", "2", "4"] in read


def test_transformers_serve_started_by_the_line_of_the_page(tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="needs pip install 'tfgrpo[serve]'")
    port = free_port()
    (line,) = (c for c in commands(typed(text_of("serving.md"))) if "transformers serve" in c)
    script = str(Path(sys.executable).with_name("transformers"))
    places = {"transformers": script, "FOLDER": str(abacus_path()), "8000": str(port)}
    with serving(words(swapped(line, places)), port, tmp_path) as url:
        (tmp_path / "page").mkdir()
        followed("serving.md", tmp_path / "page", url)


def test_the_doctor_has_a_row_for_each_thing_that_it_may_miss(tmp_path: Path) -> None:
    with PocketServer("NAME", ignores=["n", "seed", "logprobs", "usage", "cached"]) as server:
        done = run(f"tfgrpo doctor NAME@{server.url} --json", tmp_path)
    found = {row["name"]: row["supported"] for row in json.loads(done.stdout)}
    assert [found[name] for name in ("n", "seed", "logprobs", "usage")] == [False] * 4
    (table,) = re.findall(r"## What to do about a no\n(.*?)\n## ", text_of("serving.md"), re.DOTALL)
    rows = set(re.findall(r"`([^`]+)`", " ".join(row.split("|")[1] for row in rows_of(table))))
    assert rows == set(found)


def rows_of(table: str) -> list[str]:
    return [line for line in table.splitlines() if line.startswith("| `")]


def test_a_model_that_takes_only_temperature_1_is_as_the_page_says(tmp_path: Path) -> None:
    assert "(`temperature 0 no`)" in text_of("hosted.md")
    assert "add `--set reflection.temperature=1`" in text_of("hosted.md")
    small = "--tasks sum,product --limit 6 --batch-size 3 --group-size 4 --epochs 1 --seed 1"
    with Loopback(reply=voice, only={"temperature": 1.0}) as server:
        doctor = run(f"tfgrpo doctor tiny@{server.url}", tmp_path)
        learn = f"tfgrpo learn --model tiny@{server.url} {small}"
        stopped = run(f"{learn} --run cold", tmp_path)
        learned = run(f"{learn} --set reflection.temperature=1 --run run", tmp_path)
    assert re.search(r"temperature 0 +no ", doctor.stdout)
    assert stopped.returncode == 1
    assert learned.returncode == 0, learned.stderr
    assert load_library(tmp_path / "run").active


def test_tasks_and_rewards_of_your_own(tmp_path: Path) -> None:
    printed = followed("tasks.md", tmp_path)
    grades = re.findall(r" (\S+) +(yes|no) ", printed)
    # The gold of five problems; a reply that is right for one; theirs on the gold; code; gsm8k.
    assert grades[:5] == [("1", "yes")] * 5
    assert sorted(grades[5:10]) == [*[("0", "no")] * 4, ("1", "yes")]
    assert [said for _, said in grades[10:]] == ["yes"] * 7
    assert "asked and learned from: none" in printed
    assert right(tmp_path / "runs" / "learned") > 0.5


def test_the_verdict(tmp_path: Path) -> None:
    followed("verdict.md", tmp_path)
    assert (tmp_path / "runs" / "report" / "report.html").is_file()
