"""Learning and evaluation sessions, wired, resumable and recorded, for commands and the bench."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from cli import banks, unseen, wiring
from tfgrpo import config, tokens
from tfgrpo.canonical import canonical_json, fingerprint
from tfgrpo.errors import BudgetStop, ConfigError, TfgrpoError
from tfgrpo.evaluation import evaluate, outcome_of
from tfgrpo.experience.casebook import reads_row
from tfgrpo.experience.context_policy import ContextPolicy
from tfgrpo.experience.files import OPS
from tfgrpo.experience.learn import Learner, Step, learn
from tfgrpo.experience.library import ExperienceLibrary, replay
from tfgrpo.experience.record import StepWriter
from tfgrpo.experience.reflect import Reflector
from tfgrpo.ledger import Ledger
from tfgrpo.llm.cache import CallStore
from tfgrpo.llm.faults import FAULTS
from tfgrpo.llm.meter import Meter
from tfgrpo.policy import BlockPolicy
from tfgrpo.prompts import load_pack
from tfgrpo.protocols import ChatModel, Policy
from tfgrpo.rollout import Sampling, gold_grader
from tfgrpo.runs import RunDir
from tfgrpo.seeding import derive_seed
from tfgrpo.settings import dump
from tfgrpo.types import RolloutGroup, Task, TaskOutcome
from tfgrpo.verdict.own import BEGAN, OUTCOMES, SAMPLES, read_outcomes

CALLS = "calls.sqlite"
READS = "reads.jsonl"

T = TypeVar("T")
OnStep = Callable[[Step], None]
OnGroup = Callable[[RolloutGroup, str], None]


@dataclass(frozen=True, slots=True)
class Watch:
    """Whoever looks on: told of each group, and of each step that is over."""

    on_group: OnGroup = lambda group, kind: None
    on_step: OnStep = lambda step: None


def open_run(path: Path, spec: config.Spec, kind: str) -> RunDir:
    """A new run, or the same one again: a folder that holds a run is resumed."""
    settings = dump(spec)
    if (path / "config.json").is_file():
        return RunDir.resume(path, settings)
    return RunDir.create(path, settings, kind)


def learning_tasks(spec: config.LearnSpec, bench: wiring.Bench) -> Sequence[Task]:
    """The problems to learn from. Without gold nothing in them can give an answer away."""
    tasks = bench.tasks.tasks("train", spec.train_limit, derive_seed(spec.seed, "tasks"))
    if not tasks:
        raise ConfigError(f"The tasks {bench.tasks.name} have no train split; give other tasks.")
    vote = isinstance(spec.evidence, config.Vote)
    return [task.without_gold() for task in tasks] if vote else tasks


def learner(spec: config.LearnSpec, bench: wiring.Bench, models: wiring.Models) -> Learner:
    pack = load_pack(spec.pack)
    gold = isinstance(spec.evidence, config.Gold)

    def reflector(model: ChatModel) -> Reflector:
        return Reflector(
            model=model,
            pack=pack,
            params=spec.reflection.params(derive_seed(spec.seed, "reflection")),
            summarise=spec.summarise,
            max_operations=spec.max_operations,
            max_words=spec.limits.max_words,
            show_gold=gold,
        )

    policy = models.get(spec.model)
    reflecting = reflector(models.get(spec.reflector or spec.model))
    editing = reflector(models.get(spec.editor or spec.reflector or spec.model))
    params = spec.sampling.params(derive_seed(spec.seed, "rollouts"))
    return Learner(
        model=policy,
        pack=pack,
        reflector=reflecting,
        editor=editing,
        grader=wiring.build_grader(bench, spec.evidence),
        sampling=Sampling(spec.group_size, params),
        epochs=spec.epochs,
        batch_size=spec.batch_size,
        seed=spec.seed,
        dropout=spec.dropout,
    )


def run_learning(
    spec: config.LearnSpec, run: RunDir, models: wiring.Models, watch: Watch
) -> ExperienceLibrary:
    """Learn, or go on after the last step that stands; a budget's stop leaves the ledger too."""
    bench = wiring.build_tasks(spec.tasks, spec.reward)
    made = learner(spec, bench, models)
    tasks = learning_tasks(spec, bench)
    hold(run, BlockPolicy(made.model, made.pack), tasks)
    writer = StepWriter(run)
    reflector = models.parameters(spec.reflector or spec.model)
    sizes = {
        "rollout": models.parameters(spec.model),
        "summarise": reflector,
        "compare": reflector,
        "consolidate": models.parameters(spec.editor or spec.reflector or spec.model),
    }
    limits = wiring.library_limits(spec.limits)
    count = models.token_counter()
    library = replay(run.read_rows(OPS), limits, count)

    async def go(bank: banks.PracticeBank | None) -> ExperienceLibrary:
        latest = library
        own = replace(made, practice=bank.practice) if bank else made
        async for step in learn(own, tasks, library, watch.on_group, writer.finished):
            writer.write(step)
            if bank and step.memory:
                bank.keep(step.memory)
            watch.on_step(step)
            latest = step.library
        return latest

    try:
        with banks.practising(spec, run, made.pack, count) as bank:
            return asyncio.run(landed(go(bank), models.meter))
    finally:
        write_ledger(run, sizes)


def run_evaluation(
    spec: config.EvalSpec,
    run: RunDir,
    models: wiring.Models,
    watch: Watch,
    policy: Policy | None = None,
) -> tuple[TaskOutcome, ...]:
    """Sample, grade and record; `policy` overrides the one that the spec describes.

    An evaluation that is over is read, not made again: a call that failed then may succeed now.
    """
    bench = wiring.build_tasks(spec.tasks, spec.reward)
    model = models.get(spec.model)
    tasks = bench.tasks.tasks(spec.split, spec.limit, derive_seed(spec.seed, "tasks"))
    if not tasks:
        raise ConfigError(
            f"The tasks {bench.tasks.name} have no {spec.split} split; choose another split."
        )
    if spec.split != "train":
        unseen.check(spec, tasks)
    count = models.token_counter()
    with banks.evaluating(spec, run, count) as casebook:
        chosen = policy or wiring.build_policy(spec, model, bench, count, casebook)
        return _evaluated(spec, run, models, watch, (bench, chosen, tasks))


def _evaluated(
    spec: config.EvalSpec,
    run: RunDir,
    models: wiring.Models,
    watch: Watch,
    subject: tuple[wiring.Bench, Policy, Sequence[Task]],
) -> tuple[TaskOutcome, ...]:
    bench, chosen, tasks = subject
    hold(run, chosen, tasks)
    if run.file(OUTCOMES).is_file():
        return read_outcomes(run)
    params = spec.sampling.params(derive_seed(spec.seed, "evaluate"))
    sampling = Sampling(spec.n, params, "evaluate", spec.detail)
    groups: dict[str, RolloutGroup] = {}

    def keep(group: RolloutGroup) -> None:
        groups[group.task.task_id] = group
        watch.on_group(group, "evaluate")

    try:
        work = evaluate(chosen, tasks, gold_grader(bench.reward), sampling, keep)
        asyncio.run(landed(work, models.meter))
    finally:
        write_ledger(run, {"evaluate": models.parameters(spec.model)})
    ordered = [groups[task.task_id] for task in tasks]
    outcomes = tuple(outcome_of(group) for group in ordered)
    write_rows(run, SAMPLES, [sample_row(group) for group in ordered])
    if spec.detail and (packed := tokens.pack(ordered)) is not None:
        run.write_bytes(tokens.TOKENS, packed)
    if isinstance(chosen, ContextPolicy) and chosen.casebook:
        write_rows(run, READS, [reads_row(chosen.casebook, task, spec.n) for task in tasks])
    write_rows(run, OUTCOMES, outcomes)
    return outcomes


async def landed(work: Coroutine[Any, Any, T], meter: Meter) -> T:
    """Await `work`; whatever ends it, wait for the calls in flight, which are paid anyway.

    No further call begins then. A second interrupt does not wait.
    """
    try:
        return await work
    except (TfgrpoError, asyncio.CancelledError):
        meter.stop()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)
        raise


def hold(run: RunDir, policy: Policy, tasks: Sequence[Task]) -> None:
    """Raise RunError if a resumed run would meet another policy or other tasks than it began with.

    Its settings name prompt packs, libraries and task files that may have been edited since.
    """
    given = [[task.task_id, task.prompt, task.answer] for task in tasks]
    run.ensure_row(BEGAN, 0, {"policy_id": policy.policy_id, "tasks": fingerprint(given)})


def write_rows(run: RunDir, name: str, rows: Sequence[object]) -> None:
    run.write_text(name, "".join(f"{canonical_json(row)}\n" for row in rows))


def sample_row(group: RolloutGroup) -> dict[str, Any]:
    return {
        "task_id": group.task.task_id,
        "dataset": group.task.dataset,
        "prompt": group.task.prompt,
        "gold": group.task.answer,
        "texts": [r.completion.text for r in group.rollouts],
        "correct": [r.score.correct for r in group.rollouts],
        "failures": [f"{f.failure.stage}: {f.failure.reason}" for f in group.failures],
    }


def write_ledger(run: RunDir, parameters: Mapping[str, int]) -> Ledger:
    """What the run cost over all its sessions, summed over the calls that it has stored.

    `parameters` are those of the model that serves each phase, 0 where they are not known.
    """
    path = run.path / CALLS
    if not path.is_file():
        return Ledger()
    with CallStore(path) as store:
        ledger = sum((Ledger({p: u}) for p, u in store.usage_by_phase().items()), Ledger())
        faults = store.faults()
    run.write_json("ledger.json", ledger.to_json())
    if faults.by_kind:
        run.write_json(FAULTS, faults.to_json())
    run.write_json("parameters.json", {k: n for k, n in parameters.items() if n})
    return ledger


def budget_message(error: BudgetStop, run: RunDir) -> str:
    return f"{error} The partial result is saved in {run.path}."
