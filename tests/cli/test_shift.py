"""`tfgrpo shift` on evaluations of the pocket model: every kind of arm, rebuilt to the token."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from baselines.shift.forcing import shifts
from cli import sessions, wiring
from cli.main import app
from cli.shift_runs import Choice, Reading, chosen, reading
from memory.store import CaseStore
from memory.types import CaseIn
from tfgrpo.canonical import canonical_json
from tfgrpo.config import EvalSpec, LearnSpec
from tfgrpo.errors import ConfigError, RunError
from tfgrpo.experience.edits import Add
from tfgrpo.experience.library import EditContext, ExperienceLibrary
from tfgrpo.llm.cache import CallStore, call_key
from tfgrpo.llm.transformers_local import load as load_model
from tfgrpo.rollout import own_stream
from tfgrpo.runs import RunDir
from tfgrpo.seeding import derive_seed
from tfgrpo.settings import dump, load
from tfgrpo.types import ChatRequest

POCKET = ("--tasks", "product,sum", "--limit", "3", "--n", "3", "--max-tokens", "40")
DETAIL = ("--set", "detail=true")
LESSONS = ("Split the larger number by its places.", "Add the parts from left to right.")
ARMS = ("base", "empty", "library", "cases", "both")
HALF = 2.0**-11
"""Half precision keeps 11 bits."""


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation of each arm; `both` shows lessons to weights that noise has moved."""
    root = tmp_path_factory.mktemp("shift")
    (root / "lessons.txt").write_text("\n".join(LESSONS))
    with CaseStore(root / "bank") as store:
        cases = [
            CaseIn(question=f"What is {i} + {i + 9}?", plan=f"add {i} to {i + 9}", reward=1.0,
                   outcome="success", item_id=f"item-{i}", dataset="sum")
            for i in range(10, 24)
        ]  # fmt: skip
        store.add_many(cases, actor="test")
    model, tokenizer = load_model(str(wiring.abacus_path()), "cpu", "float32")
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * weight.std() * torch.randn(weight.shape, generator=draw)
    model.save_pretrained(root / "noisy" / "weights")
    tokenizer.save_pretrained(root / "noisy" / "weights")
    library = ("--policy", f"library:{root / 'lessons.txt'}")
    own: dict[str, tuple[object, ...]] = {
        "base": (),
        "empty": ("--policy", "empty"),
        "library": library,
        "cases": ("--memory", root / "bank", "--set", "memory.draw=softmax"),
        "both": ("--model", root / "noisy" / "weights", "--set", "pack=abacus", *library),
    }
    for name, flags in own.items():
        invoke("eval", *POCKET, *DETAIL, *flags, "--run", root / name)
    return root


@pytest.fixture(scope="module")
def rows(runs: Path) -> dict[str, dict[str, Any]]:
    paths = [runs / name for name in ARMS]
    told = json.loads(invoke("shift", *paths, "--run", runs / "out", "--json"))
    assert told == json.loads((runs / "out" / "shift.json").read_text())
    return {row["name"]: row for row in told}


@contextmanager
def beside_base(runs: Path, name: str) -> Iterator[tuple[Reading, Reading]]:
    with reading(runs / "base") as base, reading(runs / name, base.scorer) as own:
        yield own, base


# figures ----------------------------------------------------------------------------------------


def test_the_base_has_not_moved_and_every_other_policy_has(rows: dict[str, Any]) -> None:
    assert list(rows) == list(ARMS)
    assert rows["base"]["kl_per_reply"] == rows["base"]["kl_per_token"]
    assert {rows["base"]["kl_per_token"][end] for end in ("value", "low", "high")} == {0.0}
    assert rows["base"]["points_per_nat"] is None
    for name in ARMS[1:]:
        assert rows[name]["kl_per_token"]["low"] > 0
        assert rows[name]["kl_per_reply"]["value"] > rows[name]["kl_per_token"]["value"]
    order = [rows[name]["kl_per_reply"]["value"] for name in ("base", "empty", "library", "both")]
    assert order == sorted(order)


def test_rows_name_their_arms_and_hold_together(rows: dict[str, Any], runs: Path) -> None:
    assert [rows[name]["family"] for name in ARMS] == [
        "base", "control", "context", "context", "context",
    ]  # fmt: skip
    for name, row in rows.items():
        assert (row["path"], row["base"]) == (str(runs / name), str(runs / "base"))
        assert (row["problems"], row["samples"]) == (3, 9)
        assert row["on_policy"]
        assert row["entropy_gap"] < 1e-3
        perplexity = row["perplexity_base_own"]["value"]
        assert perplexity == pytest.approx(math.exp(row["nll_base"]["value"]))
        assert row["perplexity_own_own"]["value"] == pytest.approx(math.exp(row["nll"]["value"]))
        reference = rows["base"]["perplexity_own_own"]
        assert row["perplexity_base_base"] == reference
        outcomes = sessions.read_outcomes(RunDir.open(runs / name))
        bare = sessions.read_outcomes(RunDir.open(runs / "base"))
        gain = sum(o.c for o in outcomes) / 9 - sum(o.c for o in bare) / 9
        assert row["gain"]["difference"]["value"] == pytest.approx(gain)
        if row["points_per_nat"]:
            nats = row["kl_per_reply"]["value"]
            assert row["points_per_nat"]["value"] == pytest.approx(100 * gain / nats)


def test_k3_of_the_sampled_tokens_needs_nothing_else(rows: dict[str, Any], runs: Path) -> None:
    paths = (runs / "base", runs / "both")
    given = invoke("shift", *paths, "--kl", "k3", "--run", runs / "k3", "--json")
    (bare, both) = json.loads(given)
    assert (bare["kl_per_reply"]["value"], both["estimator"]) == (0.0, "k3")
    assert both["kl_per_reply"]["value"] > 0
    assert both["kl_per_reply"]["value"] != rows["both"]["kl_per_reply"]["value"]
    assert both["nll_base"] == rows["both"]["nll_base"]


# what is scored ---------------------------------------------------------------------------------


def sampled(run: Path, own: Reading, task_id: str, count: int) -> list[tuple[Any, Any]]:
    """(token ids, log-probabilities) of the rollouts of a task as the sampler returned them."""
    spec = load(EvalSpec, None, (), RunDir.open(run).config)
    params = own_stream(spec.sampling.params(derive_seed(spec.seed, "evaluate")), task_id)
    task, keys = own.tasks[task_id], []
    for index in range(count):
        messages = own.policy.render(task, index).messages
        request = ChatRequest(messages, params, phase="evaluate", detail=True)
        keys.append(call_key(own.scorer.chat.model_id, request, index))
    with CallStore(run / sessions.CALLS) as store:
        stored = store.get(keys)
    return [(stored[key].token_ids, stored[key].logprobs) for key in keys]


@pytest.mark.parametrize("name", ARMS)
def test_tokens_are_as_likely_as_the_sampler_found_them(runs: Path, name: str) -> None:
    """The calls are found by the hash of the very prompt, so each rollout's own is rebuilt."""
    with beside_base(runs, name) as (own, base):
        picked = chosen(own, base, Choice())
        told = [c.told for c in picked]
        figures = shifts(own.scorer.model, base.scorer.model, told, micro_tokens=600)
        expected = [
            (*both, entropies)
            for task_id in sorted(own.samples)
            for both, entropies in zip(
                sampled(runs / name, own, task_id, 3),
                (s.entropies for s in own.samples[task_id]),
                strict=True,
            )
        ]
    assert len(picked) == len(expected) == 9
    for c, f, (ids, logprobs, entropies) in zip(picked, figures, expected, strict=True):
        assert c.told.reply == ids
        assert f[0].tolist() == pytest.approx(logprobs, abs=1e-4)
        assert f[3].tolist() == pytest.approx(entropies, rel=HALF, abs=1e-4)


def test_rollouts_that_drew_their_own_cases_keep_their_own_prompts(runs: Path) -> None:
    with beside_base(runs, "cases") as (own, base):
        picked = chosen(own, base, Choice())
    assert len({c.told.prompt for c in picked}) > 3
    assert len({c.told.base_prompt for c in picked}) == 3


def test_weights_and_prompt_together_stand_against_bare_weights_and_prompt(runs: Path) -> None:
    """Two models and two prompts by hand, on logits of float64."""
    with beside_base(runs, "both") as (own, base):
        first = chosen(own, base, Choice(samples=1))[0]
        task = own.tasks[first.task_id]
        (found,) = shifts(own.scorer.model, base.scorer.model, [first.told])
    lines = "".join(f"[E{i}] {text}\n" for i, text in enumerate(LESSONS, 1)).strip()
    block = own.policy.pack.library_block(lines)  # type: ignore[attr-defined]
    rows = []
    for folder, library in ((runs / "noisy" / "weights", block), (wiring.abacus_path(), "")):
        model, tokenizer = load_model(str(folder), "cpu", "float32")
        messages = own.policy.pack.render(  # type: ignore[attr-defined]
            "solve", library=library, question=task.prompt
        )
        chat = [{"role": m.role, "content": m.content} for m in messages]
        text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        prompt = tokenizer(text, add_special_tokens=False)["input_ids"]
        ids = torch.tensor([[*prompt, *first.told.reply]])
        with torch.no_grad():
            logits = model.double()(input_ids=ids).logits[0, len(prompt) - 1 : -1]
        rows.append(logits.log_softmax(-1))
    kl = (rows[0].exp() * (rows[0] - rows[1])).sum(-1)
    assert found[2].tolist() == pytest.approx(kl.tolist(), rel=1e-3, abs=1e-5)
    targets = torch.tensor(first.told.reply)[:, None]
    for figure, row in zip(found[:2], rows, strict=True):
        assert figure.tolist() == pytest.approx(row.gather(-1, targets)[:, 0].tolist(), abs=1e-4)


def test_a_choice_is_the_same_in_every_run_and_another_by_another_seed(runs: Path) -> None:
    with beside_base(runs, "empty") as (own, base):

        def problems(reader: Reading, choice: Choice) -> list[str]:
            return [c.task_id for c in chosen(reader, base, choice)]

        small = Choice(problems=2, samples=2, seed=1)
        assert problems(own, small) == problems(base, small)
        assert len(problems(own, small)) == 4
        others = {tuple(problems(own, replace(small, seed=seed))) for seed in range(8)}
        assert len(others) > 1
        whole = {c.told.reply for c in chosen(own, base, Choice())}
        assert {c.told.reply for c in chosen(own, base, small)} <= whole


def test_a_problem_that_lost_samples_is_scored_only_where_all_saw_the_same(runs: Path) -> None:
    def short(own: Reading) -> Reading:
        return replace(own, samples={**own.samples, next(iter(own.samples)): own.samples[
            next(iter(own.samples))][:2]})  # fmt: skip

    with beside_base(runs, "cases") as (own, base):
        assert len(chosen(short(own), base, Choice())) == 6
    with beside_base(runs, "library") as (own, base):
        assert len(chosen(short(own), base, Choice())) == 8


# places -----------------------------------------------------------------------------------------


def test_a_bench_is_read_by_its_manifest_and_keeps_the_result(runs: Path, tmp_path: Path) -> None:
    for name in ("library", "base", "both"):
        shutil.copytree(runs / name, tmp_path / name)
    (tmp_path / "both" / "tokens.npz").unlink()
    arms = [
        {"name": name, "family": family, "seed": seed, "path": path, "made_by": []}
        for name, family, seed, path in (
            ("lessons", "context", 0, "library"),
            ("plain", "base", None, "base"),
            ("silent", "both", 1, "both"),
        )
    ]
    document = {"schema": 1, "suite": "x", "base": "plain", "arms": arms}
    (tmp_path / "arms.json").write_text(json.dumps(document))
    result = CliRunner().invoke(app, ["shift", str(tmp_path)], catch_exceptions=False)
    assert "kept no token ids: left out" in result.stderr
    rows = json.loads((tmp_path / "shift.json").read_text())
    assert [(r["name"], r["family"], r["seed"]) for r in rows] == [
        ("plain", "base", None), ("lessons", "context", 0),
    ]  # fmt: skip
    assert "lessons" in result.stdout
    assert "seed 0" in result.stdout
    assert f"{rows[1]['kl_per_reply']['value']:.3f}" in result.stdout


def test_replies_that_were_cooled_are_told(runs: Path, tmp_path: Path) -> None:
    invoke("eval", *POCKET, *DETAIL, "--temperature", "0.5", "--run", tmp_path / "cool")
    paths = [str(runs / "base"), str(tmp_path / "cool")]
    command = ["shift", *paths, "--base", paths[0], "--run", str(tmp_path)]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert "not sampled at temperature 1" in result.stderr
    rows = json.loads((tmp_path / "shift.json").read_text())
    assert [row["on_policy"] for row in rows] == [True, False]
    assert rows[1]["kl_per_token"]["value"] == 0


# refusals ---------------------------------------------------------------------------------------


def test_a_policy_that_changed_since_is_refused(runs: Path, tmp_path: Path) -> None:
    lessons = runs / "lessons.txt"
    before = lessons.read_text()
    lessons.write_text("Guess.")
    try:
        with pytest.raises(RunError, match="policy_id"):
            invoke("shift", runs / "base", runs / "library", "--run", tmp_path)
    finally:
        lessons.write_text(before)


def test_recorded_entropies_of_another_policy_are_refused(runs: Path, tmp_path: Path) -> None:
    """The samples of one arm in the folder of another."""
    shutil.copytree(runs / "library", tmp_path / "swapped")
    shutil.copy(runs / "both" / "tokens.npz", tmp_path / "swapped" / "tokens.npz")
    with pytest.raises(RunError, match=r"entropies .* nats from those that were recorded"):
        invoke("shift", runs / "base", tmp_path / "swapped", "--run", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def hosted(folder: Path) -> Path:
    spec = load(EvalSpec, None, ["tasks='sum'", "model='tiny@http://localhost:1/v1'"])
    with RunDir.create(folder, dump(spec), "eval") as run:
        row = {"task_id": "t", "dataset": "sum", "correct": [True], "answers": [None],
               "modes": [None], "entropies": [None], "lengths": [1], "truncated": 0,
               "failures": 0}  # fmt: skip
        sessions.write_rows(run, sessions.OUTCOMES, [row])
    return folder


def test_an_endpoint_gives_no_logits(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs its logits, which an endpoint does not give"):
        invoke("shift", hosted(tmp_path / "a"), runs / "library")


def test_what_cannot_be_compared_is_told(runs: Path, tmp_path: Path) -> None:
    cases: list[tuple[str, tuple[object, ...]]] = [
        ("only the base", (runs / "base",)),
        ("name it by --base", (runs / "library", runs / "empty")),
        ("holds several evaluations", (runs / "library", "--base", runs)),
        ("holds no finished evaluation", (tmp_path,)),
        ("--kl is exact or k3", (runs / "base", "--kl", "k2")),
        ("one learning run", (runs / "base", runs / "empty", "--steps")),
        ("no learning run", (runs / "base", "--steps")),
    ]
    for told, arguments in cases:
        with pytest.raises(ConfigError, match=told):
            invoke("shift", *arguments)


def test_models_of_different_vocabularies_have_no_divergence(runs: Path) -> None:
    with beside_base(runs, "empty") as (own, base):

        class Other:
            def get_vocab(self) -> dict[str, int]:
                return {"a": 0}

        stranger = replace(own, scorer=replace(own.scorer, tokenizer=Other()))
        with pytest.raises(ConfigError, match="different vocabularies"):
            chosen(stranger, base, Choice())


def test_equal_weights_are_loaded_once(runs: Path) -> None:
    with beside_base(runs, "library") as (own, base):
        assert own.scorer is base.scorer
    with beside_base(runs, "both") as (own, base):
        assert own.scorer is not base.scorer


# steps ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A learning run of three steps: a lesson, no edit, and another lesson."""
    path = tmp_path_factory.mktemp("steps") / "learn"
    settings = ["tasks='product,sum'", "pack='abacus'", "sampling.max_tokens=40"]
    library = ExperienceLibrary.empty()
    with RunDir.create(path, dump(load(LearnSpec, None, settings)), "learn") as run:
        rows = []
        for step, edits in enumerate(((Add(LESSONS[0]),), (), (Add(LESSONS[1]),))):
            library = library.apply(edits, EditContext(step, "", "")).library
            rows.append({"step": step, "fingerprint": library.fingerprint})
        run.write_text("ops.jsonl", "".join(f"{canonical_json(o)}\n" for o in library.to_ops()))
        run.write_text("steps.jsonl", "".join(f"{canonical_json(row)}\n" for row in rows))
    return path


def test_each_step_has_a_row_and_equal_libraries_have_equal_ones(
    learned: Path, tmp_path: Path
) -> None:
    shape = ("--steps", "--problems", "3", "--samples", "2", "--run", tmp_path)
    rows = json.loads(invoke("shift", learned, *shape, "--json"))
    assert rows == json.loads((tmp_path / "shift.json").read_text())
    assert [(r["step"], r["lessons"]) for r in rows] == [(-1, 0), (0, 1), (1, 1), (2, 2)]
    assert rows[0]["kl_per_reply"]["value"] == rows[0]["gain"]["difference"]["value"] == 0
    assert {**rows[1], "step": None} == {**rows[2], "step": None}
    assert rows[3]["kl_per_reply"] != rows[2]["kl_per_reply"]
    for row in rows[1:]:
        assert row["kl_per_token"]["low"] > 0
        assert (row["problems"], row["samples"]) == (3, 6)
        assert row["entropy"]["value"] > 0
    shown = invoke("shift", learned, *shape)
    assert "before" in shown
    assert f"{rows[3]['kl_per_reply']['value']:.3f}" in shown


def test_a_log_that_does_not_give_its_steps_is_refused(learned: Path, tmp_path: Path) -> None:
    shutil.copytree(learned, tmp_path / "learn")
    steps = tmp_path / "learn" / "steps.jsonl"
    last = steps.read_text().splitlines()[-1]
    steps.write_text(canonical_json({**json.loads(last), "step": 0}) + "\n")
    with pytest.raises(RunError, match=r"Step 0 of .* cannot be replayed"):
        invoke("shift", tmp_path / "learn", "--steps", "--run", tmp_path / "out")
