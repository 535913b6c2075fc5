"""`tfgrpo imitate`: supervised fine-tuning on a model's own replies, the weights arm without RL."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import console, options

if TYPE_CHECKING:
    from baselines.demonstrations import Demonstration
    from baselines.imitation import World
    from baselines.imitation_config import ImitateSpec
    from cli.training import OnStep
    from tfgrpo.prompts import PromptPack
    from tfgrpo.protocols import ChatModel, Policy
    from tfgrpo.runs import RunDir
    from tfgrpo.types import RolloutGroup, StepRecord

DEMONSTRATIONS = "demonstrations.jsonl"


def imitate(
    config: options.Config = None,
    source: Annotated[
        str | None,
        typer.Option(
            help="rejection:RUN, expert_iteration, diverse or distil:LIBRARY.", show_default=False
        ),
    ] = None,
    loss: Annotated[str | None, typer.Option(help="nll or gem.", show_default=False)] = None,
    tasks: options.Tasks = None,
    model: options.Model = None,
    limit: options.Limit = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the demonstrations.", show_default=False)
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate.", show_default=False)] = None,
    temperature: options.Temperature = None,
    top_p: options.TopP = None,
    max_tokens: options.MaxTokens = None,
    seed: options.Seed = None,
    more: options.Set = None,
    run: options.Run = None,
    json: options.Json = False,
    dry_run: options.DryRun = False,
) -> None:
    """Fine-tune a model's weights on its own replies: rejection sampling, expert iteration, more.

    Without any option the pocket model goes through two rounds of expert iteration, in a minute or
    two. A run that was interrupted starts over, and ends with the same weights.
    """
    from baselines.imitation_config import POCKET, ImitateSpec, check
    from cli import sessions
    from tfgrpo.errors import BudgetStop
    from tfgrpo.settings import dump, load, to_toml

    flags = {
        "source": source, "loss": loss, "tasks": tasks, "model": model, "train_limit": limit,
        "epochs": epochs, "optimiser.lr": lr, "sampling.temperature": temperature,
        "sampling.top_p": top_p, "sampling.max_tokens": max_tokens, "seed": seed,
    }  # fmt: skip
    pocket = model in (None, "abacus") and config is None
    spec = load(ImitateSpec, config, options.overrides(flags, more), POCKET if pocket else {})
    check(spec)
    if dry_run:
        typer.echo(to_toml(spec), nl=False)
        return
    folder = options.run_folder(run, "imitate", dump(spec))
    # Before the folder is made: what cannot be read leaves nothing behind.
    world = None if _is_over(folder) else build_world(spec)
    with sessions.open_run(folder, spec, "imitate") as opened:
        for notice in opened.notices:
            console.note(console.safe(notice))
        if world is not None:
            try:
                run_imitation(spec, opened, world)
            except BudgetStop as stop:
                raise BudgetStop(sessions.budget_message(stop, opened)) from None
    report(folder, json)


def build_world(spec: ImitateSpec) -> World:
    """Model, problems and source of `spec`. Raises ConfigError or RunError if something is off."""
    import torch

    from baselines.demonstrations import take_all
    from baselines.imitation import World
    from baselines.imitation_config import Distil, Rejection
    from cli import wiring
    from tfgrpo.config import TransformersSpec
    from tfgrpo.errors import ConfigError
    from tfgrpo.llm.transformers_local import identify, load
    from tfgrpo.prompts import load_pack
    from tfgrpo.rollout import Grader, gold_grader
    from tfgrpo.seeding import derive_seed
    from tfgrpo.types import Task

    source, pack = spec.source, load_pack(spec.pack)
    groups = learned_groups(source.path, spec.pack) if isinstance(source, Rejection) else ()
    teacher = teacher_of(source.path, pack) if isinstance(source, Distil) else None
    tasks: Sequence[Task] = ()
    grader: Grader = take_all
    if not isinstance(source, Rejection) and spec.tasks is not None:
        bench = wiring.build_tasks(spec.tasks, spec.reward)
        tasks = bench.tasks.tasks("train", spec.train_limit, derive_seed(spec.seed, "tasks"))
        grader = gold_grader(bench.reward)
        if not tasks:
            raise ConfigError(
                f"The tasks {bench.tasks.name} have no train split; give other tasks."
            )
    threads = wiring.pocket_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    path = wiring.weights_of(spec.model)
    device = spec.model.device if isinstance(spec.model, TransformersSpec) else "cpu"
    model, tokenizer = load(path, device, "float32")
    return World(
        model=model,
        tokenizer=tokenizer,
        name=identify(path, model),
        pack=pack,
        tasks=tasks,
        grader=grader,
        groups=groups,
        teacher=teacher,
        wrap=wiring.metering(spec.budget, spec.price),
        max_batch_rows=spec.model.max_batch_rows,
    )


def teacher_of(path: Path, pack: PromptPack) -> Callable[[ChatModel], Policy]:
    """The policy that shows the library at `path`. Raises ConfigError if it teaches nothing."""
    from tfgrpo.errors import ConfigError
    from tfgrpo.experience.context_policy import ContextPolicy
    from tfgrpo.experience.files import load_library

    library = load_library(path)
    if not library.active:
        raise ConfigError(f"The library at {path} is empty; give one that has lessons.")
    return lambda chat: ContextPolicy(chat, pack, library)


def learned_groups(path: Path, pack: str) -> list[RolloutGroup]:
    """The rollouts that the learning run at `path` saw, as it recorded and graded them.

    Raises RunError if there is no run, and ConfigError if it did not learn, or with another pack.
    """
    from tfgrpo.errors import ConfigError
    from tfgrpo.experience.record import GROUPS
    from tfgrpo.runs import RunDir

    run = RunDir.open(path)
    if run.kind != "learn":
        raise ConfigError(f"{path} is no learning run; give a folder that `tfgrpo learn` wrote.")
    if run.config["pack"] != pack:
        raise ConfigError(
            f"The run {path} asked with the prompt pack {run.config['pack']!r}, and these settings "
            f"name {pack!r}; set pack to the same."
        )
    return [_group(row) for row in run.read_rows(GROUPS)]


def _group(row: dict[str, Any]) -> RolloutGroup:
    """The group that `tfgrpo.experience.record.group_row` wrote, without its gold."""
    from tfgrpo.types import (
        Completion,
        FailedRollout,
        Failure,
        Rollout,
        RolloutGroup,
        Score,
        Task,
        Usage,
    )

    task = Task(row["task_id"], row["prompt"], None, row["dataset"], "train")
    rollouts = tuple(
        Rollout(
            task.task_id,
            r["index"],
            "",
            Completion(r["text"], r["finish"], Usage(completion_tokens=r["tokens"])),
            Score(r["reward"], r["correct"], r["answer"], r["mode"]),
            tuple(r["shown"]),
        )
        for r in row["rollouts"]
    )
    failures = tuple(
        FailedRollout(task.task_id, f["index"], "", Failure(f["stage"], f["reason"]))
        for f in row["failures"]
    )
    return RolloutGroup(task, rollouts, failures)


def run_imitation(spec: ImitateSpec, run: RunDir, world: World) -> None:
    """Fine-tune from the beginning and record it; `weights/` comes last, and whole."""
    from baselines.imitation import Watch
    from baselines.imitation import imitate as fine_tune
    from cli.sessions import write_rows
    from cli.training import STEPS, used_row, write_ledger

    learned: list[dict[str, Any]] = []

    def record(number: int, chosen: Sequence[Demonstration]) -> None:
        learned.extend(demonstration_row(number, d) for d in chosen)
        write_rows(run, DEMONSTRATIONS, learned)

    write_rows(run, STEPS, [])
    write_rows(run, DEMONSTRATIONS, [])
    with imitation_watch(spec, len(world.tasks)) as (on_group, on_step):
        try:
            for step in fine_tune(spec, world, Watch(on_group, record)):
                run.append(STEPS, used_row(step))
                on_step(step)
        finally:
            write_ledger(run, sum(p.numel() for p in world.model.parameters()))
    save(world, run.path)


def save(world: World, folder: Path) -> None:
    """The model and its tokenizer as any tool reads them, under their name only when complete."""
    from cli.training import WEIGHTS

    part = folder / f".{WEIGHTS}"
    if part.exists():
        shutil.rmtree(part)
    world.model.save_pretrained(part)
    world.tokenizer.save_pretrained(part)
    part.rename(folder / WEIGHTS)


def _is_over(folder: Path) -> bool:
    from cli.training import WEIGHTS

    return (folder / WEIGHTS).is_dir()


def demonstration_row(number: int, demonstration: Demonstration) -> dict[str, Any]:
    """One demonstration of round `number`, with its text; `tokens` counts those of the reply."""
    return {
        "round": number,
        "task_id": demonstration.task.task_id,
        "dataset": demonstration.task.dataset,
        "prompt": demonstration.task.prompt,
        "text": demonstration.text,
        "answer": demonstration.answer,
        "mode": demonstration.mode,
        "tokens": len(demonstration.reply),
        "weight": demonstration.weight,
    }


@contextmanager
def imitation_watch(
    spec: ImitateSpec, problems: int
) -> Iterator[tuple[Callable[[int, RolloutGroup], None], OnStep]]:
    """A bar over the problems that are sampled, and a line for each pass over demonstrations."""
    with console.progress() as progress:
        bar = progress.add_task(f"Sampling, {spec.source.kind}", total=problems or None, note="")
        current = 0

        def on_group(number: int, group: RolloutGroup) -> None:
            nonlocal current
            if number != current:
                current = number
                progress.reset(bar)
            progress.update(bar, advance=1, note=f"round {number}")

        def on_step(r: StepRecord) -> None:
            m = r.metrics
            shown = ("accuracy", "demonstrations", "loss", "entropy")
            told = "  ".join(f"{name} {_number(m[name])}" for name in shown if name in m)
            progress.console.print(f"round {m['round']:g}  epoch {r.epoch}  {told}")

        yield on_group, on_step


def report(folder: Path, json: bool) -> None:
    """Every pass over the demonstrations, what it cost, and what to look at next."""
    from cli.runs import ledger_table
    from cli.training import STEPS
    from tfgrpo.runs import RunDir

    opened = RunDir.open(folder)
    rows = list(opened.read_rows(STEPS))
    if json:
        ledger = opened.read_json("ledger.json")
        console.print_json({"run": folder, "steps": rows, "ledger": ledger})
        return
    shown = ("accuracy", "problems", "demonstrations", "modes", "loss", "nll", "entropy")
    lines = [
        (f"{row['metrics']['round']:g}", row["epoch"],
         *(_number(row["metrics"].get(name)) for name in shown))
        for row in rows
    ]  # fmt: skip
    title = f"Fine-tuned on its own replies: {opened.config['source']['kind']}"
    console.show(console.table(console.safe(title), ("round", "epoch", *shown), lines))
    console.show(ledger_table(opened))
    console.note(f"Next: tfgrpo eval --model {console.safe(folder)}")


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:g}" if value == int(value) else f"{value:.3f}"
