"""`tfgrpo eval`: sample a frozen policy and count."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cli import console, options
from tfgrpo.errors import BudgetStop, RunError

POCKET = {
    "pack": "abacus",
    "tasks": "sum,product,sort,countdown",
    "sampling": {"temperature": 1.0, "top_p": 1.0, "max_tokens": 192},
    "limit": 100,
    "n": 64,
}


def evaluate(
    config: options.Config = None,
    tasks: options.Tasks = None,
    model: options.Model = None,
    policy: Annotated[
        str | None,
        typer.Option(
            help="base, a learning run or library file, empty, fewshot[:N] or placebo:PATH.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="train, dev or test.", show_default=False)
    ] = None,
    limit: options.Limit = None,
    n: Annotated[
        int | None, typer.Option("--n", help="Samples a problem.", show_default=False)
    ] = None,
    memory: options.Memory = None,
    read: options.Read = None,
    temperature: options.Temperature = None,
    top_p: options.TopP = None,
    max_tokens: options.MaxTokens = None,
    max_connections: options.MaxConnections = None,
    seed: options.Seed = None,
    more: options.Set = None,
    run: options.Run = None,
    json: options.Json = False,
    dry_run: options.DryRun = False,
) -> None:
    """Evaluate a policy: unbiased pass@k and diversity, with intervals over problems."""
    from cli import sessions, wiring
    from cli.watch import evaluation_watch
    from tfgrpo.config import EvalSpec
    from tfgrpo.settings import dump, load, to_toml

    flags = {
        "tasks": tasks, "model": model, "policy": policy, "split": split, "limit": limit, "n": n,
        "sampling.temperature": temperature, "sampling.top_p": top_p,
        "sampling.max_tokens": max_tokens, "model.max_connections": max_connections, "seed": seed,
    }  # fmt: skip
    pocket = model in (None, "abacus") and config is None
    flags |= options.memory_flags(memory, read, pocket)
    defaults = {**(POCKET if pocket else {}), **_trained_under(model), **_learned_under(policy)}
    spec = load(EvalSpec, config, options.overrides(flags, more), defaults)
    if dry_run:
        typer.echo(to_toml(spec), nl=False)
        return
    folder = options.run_folder(run, "eval", dump(spec))
    with sessions.open_run(folder, spec, "eval") as opened:
        with (
            wiring.session(folder / sessions.CALLS, spec.budget, spec.price) as models,
            evaluation_watch(spec, models.meter) as watch,
        ):
            try:
                outcomes = sessions.run_evaluation(spec, opened, models, watch)
            except BudgetStop as stop:
                raise BudgetStop(sessions.budget_message(stop, opened)) from None
        from tfgrpo.metrics.pass_at_k import powers_of_two
        from tfgrpo.metrics.summary import summarise

        if not any(outcome.n for outcome in outcomes):
            raise RunError(
                f"No sample of {folder} could be graded, so there is nothing to count; see the "
                "failures in its samples.jsonl, mend the cause and evaluate in a new run."
            )
        summary = summarise(outcomes, powers_of_two(spec.n), spec.seed, allow_missing=True)
        opened.write_json("summary.json", summary)
        if json:
            console.print_json({"run": folder, "summary": summary})
            return
        rows = [(f"pass@{k}", console.percent(e)) for k, e in summary.pass_at_k.items()]
        last = max(summary.distinct_correct)
        rows.append((f"distinct correct@{last}", console.plain(summary.distinct_correct[last])))
        rows.append(("answer entropy (nats)", console.plain(summary.answer_entropy)))
        if summary.token_entropy is not None:
            rows.append(("token entropy (nats)", f"{summary.token_entropy:.3f}"))
        if bounds := summary.token_entropy_bounds:
            rows.append(("token entropy (nats)", "between {:.3f} and {:.3f}".format(*bounds)))
        rows.append(("mean length (tokens)", f"{summary.mean_length:.1f}"))
        rows.append(("cut off / failed", f"{summary.truncated} / {summary.failures}"))
        title = f"{summary.n_tasks} problems x {spec.n} samples, 95% intervals over problems"
        console.show(console.table(title, ("", "value"), rows))
        console.show(modes_table(outcomes))
        console.note(f"Samples and outcomes are in {console.safe(folder)}.")


def _learned_under(policy: str | None) -> dict[str, Any]:
    """Settings that a learning run shares with its evaluation; files and flags override them."""
    path = Path((policy or "").removeprefix("placebo:").removeprefix("library:"))
    if not policy or not (path / "config.json").is_file():
        return {}
    from tfgrpo.runs import RunDir

    shared = ("tasks", "model", "pack", "reward", "sampling", "price")
    return {key: value for key, value in RunDir.open(path).config.items() if key in shared}


def _trained_under(model: str | None) -> dict[str, Any]:
    """The same for the folder of a training run, whose weights are the model."""
    if not model or not (Path(model) / "weights").is_dir():
        return {}
    from tfgrpo.runs import RunDir

    shared = ("tasks", "pack", "reward", "sampling")
    return {key: value for key, value in RunDir.open(Path(model)).config.items() if key in shared}


def modes_table(outcomes: object) -> object:
    """Which strategies were used, and how often each was right."""
    from tfgrpo.metrics.diversity import mode_accuracy

    rows = [
        (f"{dataset} / {mode or 'unreadable'}", f"{100 * s.share:.0f}%", f"{100 * s.accuracy:.0f}%")
        for dataset, modes in mode_accuracy(outcomes).items()  # type: ignore[arg-type]
        for mode, s in modes.items()
    ]
    return console.table("Strategies", ("task / strategy", "share", "right"), rows)
