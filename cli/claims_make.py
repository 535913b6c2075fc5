"""The runs that claims rest on, each made once and resumed where it was cut off."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from baselines.claims.registry import RunName
from cli.claims_lab import (
    BASE_TRAIN,
    DIVERSE,
    EVAL,
    EVAL_TRAIN,
    PROBE,
    SCORES,
    TEACHING,
    TRAINED,
    Lab,
    evaluation,
    few_size,
    imitation,
    learning,
    own_flags,
    training,
)
from cli.sweep import one

if TYPE_CHECKING:
    from baselines.demonstrations import Demonstration
    from tfgrpo.config import EvalSpec

REPLIES = 16
"""Of each problem and arm that the base scores."""


def make(lab: Lab, name: RunName, seed: int) -> None:
    """Make the run or go on with it; one that is over is left as it is."""
    if lab.done(name, seed):
        return
    if name == "base":
        one(lab.root, "base", None, list(lab.flags), lab.shape)
    if name in TRAINED:
        method, inner = TRAINED[name]
        one(lab.root / inner, method, seed, own_flags(lab, name, seed), lab.shape)
    if name in _MAKERS:
        _MAKERS[name](lab, seed)


def evaluate(folder: Path, spec: EvalSpec) -> None:
    from cli import sessions, wiring

    with (
        sessions.open_run(folder, spec, "eval") as opened,
        wiring.session(None, spec.budget, spec.price) as models,
    ):
        sessions.run_evaluation(spec, opened, models, sessions.Watch())


def _weights(folder: Path) -> dict[str, Any]:
    return {"kind": "transformers", "path": str(folder / "weights"), "max_batch_rows": 256}


def _few(lab: Lab, seed: int) -> None:
    """Evaluate before and after on the very problems of the training."""
    folder, spec = lab.place("few", seed), training(lab, "few", seed)
    own = {"split": "train", "limit": few_size(lab), "seed": seed}
    evaluate(folder / EVAL_TRAIN, evaluation(lab, spec, **own, model=_weights(folder)))
    evaluate(folder / BASE_TRAIN, evaluation(lab, spec, **own))


def _diverse(lab: Lab, seed: int) -> None:
    from cli import sessions
    from cli.imitate import build_world, run_imitation

    folder, spec = lab.place("diverse", seed), imitation(lab, seed, DIVERSE)
    with sessions.open_run(folder, spec, "imitate") as opened:
        if not (folder / "weights").is_dir():
            run_imitation(spec, opened, build_world(spec))
    plain = training(lab, "grpo", seed)
    evaluate(folder / EVAL, evaluation(lab, plain, model=_weights(folder)))


def _taught(lab: Lab, seed: int) -> None:
    """Teach the form on the base's replies to training problems; those without answer are left."""
    from baselines.claims.stating import form_demonstrations, teach
    from cli import sessions
    from cli.imitate import build_world, save
    from cli.training import STEPS
    from tfgrpo.runs import RunDir
    from tfgrpo.verdict.own import SAMPLES, read_outcomes

    folder, spec = lab.place("taught", seed), imitation(lab, seed, TEACHING)
    own = {"split": "train", "limit": spec.train_limit, "seed": seed}
    n = TEACHING["source"]["samples"]
    with sessions.open_run(folder, spec, "imitate") as opened:
        plain = training(lab, "grpo", seed)
        evaluate(folder / BASE_TRAIN, evaluation(lab, plain, **own, n=n))
        asked = RunDir.open(folder / BASE_TRAIN)
        texts = {row["task_id"]: row["texts"] for row in asked.read_rows(SAMPLES)}
        world = build_world(spec)
        tasks = {task.task_id: task for task in world.tasks}
        answered = [
            (tasks[o.task_id], [t for t, a in zip(texts[o.task_id], o.answers, strict=True) if a])
            for o in read_outcomes(asked)
        ]
        sessions.write_rows(opened, STEPS, [])
        for told in teach(spec, world, form_demonstrations(world, answered, seed)):
            opened.append(STEPS, told)
        save(world, folder)


def _library(lab: Lab, seed: int) -> None:
    from cli import sessions, wiring

    folder, spec = lab.place("library", seed), learning(lab, seed)
    with (
        sessions.open_run(folder, spec, "learn") as opened,
        wiring.session(folder / sessions.CALLS, spec.budget, spec.price) as models,
    ):
        sessions.run_learning(spec, opened, models, sessions.Watch())
    policy = {"kind": "library", "path": str(folder)}
    evaluate(folder / EVAL, evaluation(lab, training(lab, "grpo", seed), policy=policy))


def _probe(lab: Lab, seed: int) -> None:
    from baselines.claims.probe import measure
    from cli import sessions
    from cli.training import build_trainer

    spec = training(lab, "probe", seed)
    with sessions.open_run(lab.place("probe", seed), spec, "probe") as opened:
        opened.write_bytes(PROBE, measure(spec, build_trainer(spec).world).pack())


def _likelihood(lab: Lab, seed: int) -> None:
    """Score `REPLIES` replies of the base and of GRPO to each problem under the base."""
    from baselines.claims.likelihood import score
    from cli import sessions, wiring
    from tfgrpo.llm.transformers_local import load

    spec = training(lab, "likelihood", seed)
    model, tokenizer = load(wiring.weights_of(spec.model), "auto", "float32")
    rows: list[dict[str, Any]] = []
    arms: tuple[RunName, ...] = ("base", "grpo")
    for name in arms:
        said = _replies(lab.place(name, seed) / EVAL, spec.pack, model, tokenizer)
        flat = [reply for replies in said.values() for reply in replies]
        scored = iter(score(model, flat, spec.micro_tokens))
        rows += [
            {"arm": name, "task_id": i, "scored": [next(scored) for _ in replies]}
            for i, replies in said.items()
        ]
    with sessions.open_run(lab.place("likelihood", seed), spec, "likelihood") as opened:
        sessions.write_rows(opened, SCORES, rows)


def _replies(folder: Path, pack: str, model: Any, tokenizer: Any) -> dict[str, list[Demonstration]]:
    """The first replies to each problem as tokens: those sampled, or else of the text."""
    from baselines.demonstrations import Demonstration, end_token
    from tfgrpo.llm.inprocess.worker import Encoder
    from tfgrpo.prompts import load_pack
    from tfgrpo.runs import RunDir
    from tfgrpo.tokens import TOKENS, unpack
    from tfgrpo.types import Task
    from tfgrpo.verdict.own import SAMPLES, read_outcomes

    run, encoder, end = RunDir.open(folder), Encoder(tokenizer, None), end_token(model, tokenizer)
    file = run.file(TOKENS)
    sampled = unpack(file.read_bytes()) if file.is_file() else {}
    lengths = {o.task_id: o.lengths for o in read_outcomes(run)}
    found: dict[str, list[Demonstration]] = {}
    for row in run.read_rows(SAMPLES):
        i = row["task_id"]
        task = Task(i, row["prompt"], None, row["dataset"], "test")
        asked = load_pack(pack).render("solve", library="", question=task.prompt)
        prompt = encoder.tokens(asked)
        for at, text in enumerate(row["texts"][:REPLIES]):
            if i in sampled:
                ids = sampled[i][at].ids
            else:
                ids = tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
                ids = (*ids, *end) if len(ids) < lengths[i][at] else ids
            found.setdefault(i, []).append(Demonstration(task, prompt, ids, text, None, None, 1.0))
    return found


_MAKERS: Mapping[RunName, Callable[[Lab, int], None]] = {
    "few": _few,
    "taught": _taught,
    "diverse": _diverse,
    "library": _library,
    "probe": _probe,
    "likelihood": _likelihood,
}
