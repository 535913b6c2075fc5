"""`tfgrpo train`: gradient GRPO and its interventions, the weights arm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import console, options

if TYPE_CHECKING:
    from accelerate import PartialState

    from baselines.config import TrainSpec
    from cli.training import OnStep
    from tfgrpo.types import StepRecord


def train(
    config: options.Config = None,
    method: Annotated[
        str | None,
        typer.Option(help="As `tfgrpo methods` lists them; default: grpo.", show_default=False),
    ] = None,
    tasks: options.Tasks = None,
    model: options.Model = None,
    steps: Annotated[int | None, typer.Option(help="Rollout batches.", show_default=False)] = None,
    prompts: Annotated[
        int | None, typer.Option(help="Problems a step.", show_default=False)
    ] = None,
    group_size: Annotated[
        int | None, typer.Option("--group-size", help="Rollouts a problem, G.", show_default=False)
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
    """Train a model's weights by reinforcement on verified rewards.

    Without any option the pocket model is trained by GRPO, in a few minutes on one core. With
    `accelerate launch -m cli.main train ...` the same runs on several processes or GPUs.
    """
    from baselines.config import TrainSpec, check
    from baselines.methods import method as named
    from baselines.methods import pocket
    from tfgrpo.settings import dump, load, to_toml

    flags = {
        "tasks": tasks, "model": model, "steps": steps, "prompts": prompts,
        "group_size": group_size, "optimiser.lr": lr, "sampling.temperature": temperature,
        "sampling.top_p": top_p, "sampling.max_tokens": max_tokens, "seed": seed,
    }  # fmt: skip
    is_pocket = model in (None, "abacus") and config is None
    name = method or named_in(config) or "grpo"
    defaults = pocket(name) if is_pocket else named(name).settings
    spec = load(TrainSpec, config, [*options.overrides(flags, more), f"method={name!r}"], defaults)
    check(spec)
    if dry_run:
        typer.echo(to_toml(spec), nl=False)
        return
    folder = options.run_folder(run, "train", dump(spec))
    train_in(folder, spec)
    if not _state(spec).is_main_process:
        return
    report(folder, json)


def named_in(config: Path | None) -> str | None:
    """The method that a settings file names: its settings are the file's defaults."""
    import tomllib

    if config is None or not config.is_file():
        return None
    try:
        found = tomllib.loads(config.read_text(encoding="utf-8")).get("method")
    except ValueError:
        return None  # what is wrong with the file is told where it is read in full
    return found if isinstance(found, str) else None


def train_in(folder: Path, spec: TrainSpec) -> None:
    """Run or resume the training in `folder`, alone or as one of several processes."""
    from accelerate.utils import broadcast_object_list

    from cli import sessions, training
    from tfgrpo.errors import BudgetStop

    state = _state(spec)
    if not state.is_main_process:
        told: list[Any] = [None]
        broadcast_object_list(told)
        training.run_training(spec, None, Path(told[0]), lambda record: None)
        return
    with sessions.open_run(folder, spec, "train") as opened:
        if state.num_processes > 1:
            broadcast_object_list([str(folder)])
        with training_watch(spec) as on_step:
            try:
                training.run_training(spec, opened, folder, on_step)
            except BudgetStop as stop:
                raise BudgetStop(sessions.budget_message(stop, opened)) from None
        draw(folder)


def _state(spec: TrainSpec) -> PartialState:
    """This process among those that a launcher has started."""
    from accelerate import PartialState

    from baselines.sharing import on_cpu

    return PartialState(cpu=on_cpu(spec))


@contextmanager
def training_watch(spec: TrainSpec) -> Iterator[OnStep]:
    """A bar over the steps, and a line for each."""
    with console.progress() as progress:
        bar = progress.add_task(f"Training, {spec.method}", total=spec.steps, note="")

        def on_step(r: StepRecord) -> None:
            m = r.metrics
            line = (
                f"step {r.step}  accuracy {m.get('accuracy', 0):.3f}  "
                f"entropy {m.get('entropy', 0):.3f}  "
                f"informative {r.groups.get('mixed', 0)}/{sum(r.groups.values())}  "
                f"length {m.get('length', 0):.0f}"
            )
            probes = [f"{k[6:]} {v:.3f}" for k, v in m.items() if k.startswith("probe_")]
            progress.console.print("  ".join([line, *probes]))
            progress.update(bar, completed=r.step + 1, note=f"accuracy {m.get('accuracy', 0):.3f}")

        yield on_step


def draw(folder: Path) -> None:
    """training.png and .svg: accuracy and entropy against the step."""
    from tfgrpo.report.plots import training_figure
    from tfgrpo.runs import RunDir

    opened = RunDir.open(folder)
    rows = list(opened.read_rows("steps.jsonl"))
    metrics = [row["metrics"] for row in rows if "entropy" in row["metrics"]]
    if metrics:
        training_figure(
            [m["accuracy"] for m in metrics],
            [m["entropy"] for m in metrics],
            f"{opened.config['method']}, seed {opened.config['seed']}; thick: mean of 5 steps",
            [folder / "training.png", folder / "training.svg"],
        )


def report(folder: Path, json: bool) -> None:
    """First and last steps, the fitted law, and what to look at next."""
    from cli.runs import ledger_table
    from tfgrpo.runs import RunDir

    opened = RunDir.open(folder)
    rows = list(opened.read_rows("steps.jsonl"))
    law = entropy_law(rows, opened.config["seed"])
    if json:
        console.print_json({"run": folder, "steps": rows, "law": law})
        return
    share = max(1, len(rows) // 10)
    shown = ("accuracy", "entropy", "mode_entropy", "answers", "length", "grad_norm")
    lines = [
        (name, f"{_mean(rows[:share], name):.3f}", f"{_mean(rows[-share:], name):.3f}")
        for name in shown
    ]
    title = f"{opened.config['method']}: {len(rows)} steps"
    columns = ("", f"first {share}", f"last {share}")
    console.show(console.table(console.safe(title), columns, lines))
    if law is not None:
        console.show(
            f"R = -a exp(H) + b: a {console.plain(law.a)}, b {console.plain(law.b)}, "
            f"ceiling b - a {console.plain(law.ceiling)}, R^2 {law.r_squared:.2f}, "
            f"RMSE {law.rmse:.3f}"
        )
    console.show(ledger_table(opened))
    where = console.safe(folder)
    console.note(f"Next: tfgrpo eval --model {where}    (figure: {where}/training.png)")


def entropy_law(rows: Sequence[dict[str, Any]], seed: int) -> Any:
    """The fit of `tfgrpo.metrics.law`, or None where there is nothing to fit."""
    from tfgrpo.metrics.law import fit_law

    metrics = [row["metrics"] for row in rows if "entropy_response" in row["metrics"]]
    try:
        return fit_law(
            [m["accuracy"] for m in metrics], [m["entropy_response"] for m in metrics], seed
        )
    except ValueError:
        return None


def _mean(rows: Sequence[dict[str, Any]], name: str) -> float:
    values = [row["metrics"][name] for row in rows if name in row["metrics"]]
    return sum(values) / len(values) if values else 0.0
