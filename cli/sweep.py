"""`tfgrpo sweep`: many training methods, several seeds each, one table with paired intervals."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import console, options
from cli.pool import workers

if TYPE_CHECKING:
    from tfgrpo.types import Comparison, TaskOutcome

TABLE = (
    "grpo", "rloo", "clip-higher", "clip-cov", "kl-cov", "gppo", "entropy-shaped", "high-entropy",
    "low-entropy", "random-tokens", "opo", "pass-at-k", "maxrl", "nsr", "w-reinforce",
    "adaptive-entropy", "kl",
)  # fmt: skip
PLAIN = "grpo"
"""The method that the others are variants of."""

HOT = 1.5
"""The temperature of the control that only samples the base model hotter."""


@dataclass(frozen=True, slots=True)
class Run:
    """One trained and evaluated policy; `seed` is None for the untrained controls."""

    name: str
    seed: int | None
    outcomes: tuple[TaskOutcome, ...]
    rollout_tokens: int


def sweep(
    methods: Annotated[
        list[str] | None,
        typer.Argument(help="As `tfgrpo methods` lists them; none: the table of the docs."),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Training runs of each method.", min=1)] = 3,
    limit: Annotated[int, typer.Option(help="Held-out problems.", min=2)] = 72,
    n: Annotated[int, typer.Option("--n", help="Samples a problem.", min=1)] = 64,
    split: Annotated[str, typer.Option(help="dev while tuning, test for the table.")] = "test",
    steps: Annotated[int | None, typer.Option(show_default=False)] = None,
    model: options.Model = None,
    tasks: options.Tasks = None,
    jobs: Annotated[int, typer.Option(help="Processes.", min=1)] = 2,
    more: options.Set = None,
    run: options.Run = None,
    json: options.Json = False,
) -> None:
    """Train by every method on the same rollout budget and compare with the base.

    A sweep that was stopped goes on when it is given again with the same --run.
    """
    from datetime import datetime

    from baselines.methods import method as named

    started = time.monotonic()
    chosen = [named(name).name for name in methods or TABLE]
    root = run or options.RUNS / f"sweep-{datetime.now():%Y%m%d-%H%M%S}"
    flags = options.overrides({"tasks": tasks, "model": model, "steps": steps}, more)
    shape = (limit, n, split)
    for name in chosen:
        training_spec(name, 0, flags)  # every mistake is told before anything is run
    plan: list[tuple[str, int | None]] = [("base", None), (f"base, T={HOT}", None)]
    plan += [(name, seed) for seed in range(seeds) for name in chosen]
    with workers(jobs) as pool, console.progress() as progress:
        bar = progress.add_task("Sweep", total=len(plan), note="")
        waiting = [pool.submit(one, root, name, seed, flags, shape) for name, seed in plan]
        done: list[Run] = []
        for future in waiting:
            done.append(future.result())
            took = time.monotonic() - started
            label = done[-1].name if done[-1].seed is None else f"{done[-1].name}, {done[-1].seed}"
            progress.update(bar, advance=1, note=label)
            progress.console.print(f"{label}  ({took:.0f} s)")
    report(root, done, n, json)
    console.note(f"Took {time.monotonic() - started:.0f} s. Everything is in {root}.")


def training_spec(name: str, seed: int, flags: Sequence[str]) -> Any:
    from baselines.config import TrainSpec, check
    from baselines.methods import pocket
    from tfgrpo.settings import load

    defaults = {**pocket(name), "method": name}
    spec = load(TrainSpec, None, [*flags, f"seed={seed}"], defaults)
    check(spec)
    return spec


def one(
    root: Path, name: str, seed: int | None, flags: list[str], shape: tuple[int, int, str]
) -> Run:
    """Train where there is something to train, then evaluate; what is over is only read."""
    from cli import sessions, wiring
    from cli.train import train_in
    from tfgrpo.config import EvalSpec
    from tfgrpo.ledger import Ledger
    from tfgrpo.runs import RunDir
    from tfgrpo.settings import dump, load

    spec = training_spec(name if seed is not None else "rloo", seed or 0, flags)
    folder = root / (f"{name}-{seed}" if seed is not None else name.replace(", ", "-"))
    shared = {k: v for k, v in dump(spec).items() if k in ("tasks", "model", "pack", "reward")}
    shared |= {"sampling": dump(spec.sampling), "detail": True}
    tokens = 0
    if seed is not None:
        train_in(folder, spec)
        ledger = Ledger.from_json(RunDir.open(folder).read_json("ledger.json"))
        tokens = ledger.by_phase["rollout"].completion_tokens
        weights = str(folder / "weights")
        shared["model"] = {"kind": "transformers", "path": weights, "max_batch_rows": 256}
    elif name != "base":
        shared["sampling"]["temperature"] = HOT
    limit, n, split = shape
    own = [f"limit={limit}", f"n={n}", f"split='{split}'", "seed=0"]
    evaluation = load(EvalSpec, None, own, shared)
    with (
        sessions.open_run(folder / f"eval-{split}", evaluation, "eval") as opened,
        wiring.session(None, evaluation.budget, evaluation.price) as models,
    ):
        outcomes = sessions.run_evaluation(evaluation, opened, models, sessions.Watch())
    return Run(name, seed, outcomes, tokens)


def report(root: Path, runs: Sequence[Run], n: int, json: bool) -> None:
    """The table, as text and in sweep.json."""
    from tfgrpo.canonical import canonical_json
    from tfgrpo.storage import write_atomic

    by_name: dict[str, list[Run]] = {}
    for run in runs:
        by_name.setdefault(run.name, []).append(run)
    base = by_name["base"][0]
    plain = by_name.get(PLAIN, [])
    rows = [summary(name, found, base, plain, n) for name, found in by_name.items()]
    document = {"samples": n, "problems": len(base.outcomes), "rows": rows}
    write_atomic(root / "sweep.json", canonical_json(document).encode())
    if json:
        console.print_json(document)
        return
    console.show(
        console.table(
            f"\n{len(base.outcomes)} held-out problems x {n} samples; differences from the base in "
            "points, seeds averaged,\n95% intervals over problems; sd: over seeds",
            ("method", "pass@1", "sd", "difference", f"pass@{n}", "difference",
             "distinct\ncorrect", "token\nentropy", "style\nentropy", "rollout\ntokens"),
            [cells(row, n) for row in rows],
        )
    )  # fmt: skip
    others = [row for row in rows if row[f"from {PLAIN}"]]
    if others:
        title = f"\nDifferences from {PLAIN.upper()} in points, paired by problem and seed"
        shown = [
            (row["name"], *(points(row[f"from {PLAIN}"], k) for k in (1, n))) for row in others
        ]
        console.show(console.table(title, ("method", "pass@1", f"pass@{n}"), shown))


def summary(
    name: str, runs: Sequence[Run], base: Run, plain: Sequence[Run], n: int
) -> dict[str, Any]:
    """Figures of one method, averaged over its seeds; differences are paired by problem.

    Those from GRPO are there for methods that were trained with the same seeds.
    """
    import math

    from tfgrpo.metrics.diversity import distinct_correct_at_k, mode_histogram, token_entropy
    from tfgrpo.metrics.pass_at_k import per_task

    def styles(outcomes: Sequence[TaskOutcome]) -> float:
        shares = mode_histogram(outcomes).values()
        return fmean(-sum(p * math.log(p) for p in modes.values() if p) for modes in shares)

    own = [run.outcomes for run in runs]
    by_base, by_plain = {}, {}
    if name != "base":
        by_base = _differences([base.outcomes] * len(own), own, n)
    if name != PLAIN and [run.seed for run in plain] == [run.seed for run in runs]:
        by_plain = _differences([run.outcomes for run in plain], own, n)
    at_1 = [fmean(per_task(run.outcomes, 1)) for run in runs]
    entropies = [token_entropy(run.outcomes) for run in runs]
    return {
        "name": name,
        "seeds": [run.seed for run in runs],
        "pass@1": fmean(at_1),
        "pass@1 sd": stdev(at_1) if len(at_1) > 1 else None,
        f"pass@{n}": fmean(fmean(per_task(run.outcomes, n)) for run in runs),
        "distinct_correct": fmean(
            fmean(distinct_correct_at_k(o, n) for o in run.outcomes) for run in runs
        ),
        "token_entropy": fmean(e for e in entropies if e is not None),
        "style_entropy": fmean(styles(run.outcomes) for run in runs),
        "rollout_tokens": fmean(run.rollout_tokens for run in runs),
        "from base": by_base,
        f"from {PLAIN}": by_plain,
    }


def _differences(
    a: Sequence[Sequence[TaskOutcome]], b: Sequence[Sequence[TaskOutcome]], n: int
) -> dict[str, Comparison]:
    from tfgrpo.metrics.summary import compare_averages

    return {found.name: found for found in compare_averages(a, b, sorted({1, n}), 0)}


def points(differences: Mapping[str, Comparison], k: int) -> str:
    found = differences.get(f"pass@{k}")
    return "" if found is None else console.points(found).replace(" ", "\n", 1)


def cells(row: Mapping[str, Any], n: int) -> list[str]:
    spread = row["pass@1 sd"]

    return [
        row["name"],
        f"{100 * row['pass@1']:.1f}",
        "" if spread is None else f"{100 * spread:.1f}",
        points(row["from base"], 1),
        f"{100 * row[f'pass@{n}']:.1f}",
        points(row["from base"], n),
        f"{row['distinct_correct']:.2f}",
        f"{row['token_entropy']:.3f}",
        f"{row['style_entropy']:.2f}",
        console.count(row["rollout_tokens"]),
    ]
