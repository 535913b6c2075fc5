"""`tfgrpo bench`: a suite of arms learned from and measured on one base, with every seed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import console, options
from cli.pool import workers

if TYPE_CHECKING:
    from rich.table import Table

    from cli.suites import Suite
    from tfgrpo.metrics.summary import PolicySummary
    from tfgrpo.types import Comparison, TaskOutcome

SHOWN = (1, 8, 64)


@dataclass(frozen=True, slots=True)
class Arm:
    """One evaluated policy; `seed` is that of the learning run behind it, None for the base."""

    name: str
    seed: int | None
    outcomes: tuple[TaskOutcome, ...]
    tokens: int

    @property
    def label(self) -> str:
        return self.name if self.seed is None else f"{self.name}, seed {self.seed}"


def bench(
    arms: Annotated[
        str, typer.Argument(help="context: library and placebo; memory: library and cases.")
    ] = "context",
    seeds: Annotated[int, typer.Option(help="Learning runs.", min=1)] = 3,
    limit: Annotated[int, typer.Option(help="Held-out problems.", min=20)] = 200,
    n: Annotated[int, typer.Option("--n", help="Samples a problem.", min=1)] = 64,
    tasks: options.Tasks = None,
    model: options.Model = None,
    settings: Annotated[str, typer.Option("--preset", help="As in learn.")] = "abacus",
    jobs: Annotated[int, typer.Option(help="Processes; 1 for a model behind a server.", min=1)] = 2,
    more: options.Set = None,
    run: options.Run = None,
    json: options.Json = False,
) -> None:
    """Learn on a frozen model with several seeds; compare base, controls and what was learned.

    Problems of the comparison are disjoint from those learned on. Needs no GPU and no key.
    """
    from datetime import datetime

    from cli.suites import suite

    started = time.monotonic()
    chosen = suite(arms)
    root = run or options.RUNS / f"bench-{datetime.now():%Y%m%d-%H%M%S}"
    flags = options.overrides({"tasks": tasks, "model": model}, more)
    places = [(root / f"learn-{seed}", root / f"bank-{seed}") for seed in range(seeds)]
    learned = [run for run, _ in places]
    shape = (limit, n)
    plan: list[tuple[str, int | None, list[str]]] = [
        (arm.name, None, list(arm.settings)) for arm in chosen.arms if not arm.seeded
    ]
    for seed, place in enumerate(places):
        plan += [(arm.name, seed, arm.at(*place)) for arm in chosen.arms if arm.seeded]
    with workers(jobs) as pool, console.progress() as progress:
        bar = progress.add_task("Bench", total=seeds + len(plan), note="")

        def over(what: str) -> None:
            progress.update(bar, advance=1)
            progress.console.print(f"{what}  ({time.monotonic() - started:.0f} s)")

        lessons = [
            pool.submit(
                _learn, place[0], [*flags, *chosen.learning(*place), f"seed={seed}"], settings
            )
            for seed, place in enumerate(places)
        ]
        for seed, done in enumerate(lessons):
            done.result()
            over(f"Learned, seed {seed}")
        samples = [
            pool.submit(
                _evaluate, _folder(root, name, seed), (name, seed), own, shape, flags, settings
            )
            for name, seed, own in plan
        ]
        made = []
        for done_arm in samples:
            made.append(done_arm.result())
            over(f"Evaluated {made[-1].label}")
    _report(root, made, chosen, learned, n, json)
    console.note(f"Took {time.monotonic() - started:.0f} s. Everything is in {root}.")
    console.note(
        f"Next: tfgrpo experiences history {learned[0]}    "
        f"tfgrpo eval --policy {learned[0]} --split dev"
    )


def _folder(root: Path, name: str, seed: int | None) -> Path:
    plain = name.replace(", ", "-")
    return root / (plain if seed is None else f"{plain}-{seed}")


def _learn(folder: Path, flags: list[str], preset_name: str) -> None:
    from cli import sessions, wiring
    from cli.watch import learning_watch
    from tfgrpo.config import LearnSpec
    from tfgrpo.presets import preset
    from tfgrpo.settings import load

    spec = load(LearnSpec, None, flags, preset(preset_name))
    with (
        sessions.open_run(folder, spec, "learn") as opened,
        wiring.session(folder / sessions.CALLS, spec.budget, spec.price) as models,
        learning_watch(spec, models.meter) as watch,
    ):
        sessions.run_learning(spec, opened, models, watch)


def _evaluate(
    folder: Path,
    named: tuple[str, int | None],
    settings: list[str],
    shape: tuple[int, int],
    flags: list[str],
    preset_name: str,
) -> Arm:
    from cli import sessions, wiring
    from cli.watch import evaluation_watch
    from tfgrpo.config import EvalSpec
    from tfgrpo.ledger import Ledger
    from tfgrpo.presets import preset
    from tfgrpo.settings import load

    shared = {k: v for k, v in preset(preset_name).items() if k in EvalSpec.model_fields}
    limit, n = shape
    own = [*settings, f"limit={limit}", f"n={n}", "seed=0", "detail=true"]
    spec = load(EvalSpec, None, [*(f for f in flags if _common(f)), *own], shared)
    name, seed = named
    with (
        sessions.open_run(folder, spec, "eval") as opened,
        wiring.session(folder / sessions.CALLS, spec.budget, spec.price) as models,
        evaluation_watch(spec, models.meter, f"Evaluating {name}") as watch,
    ):
        outcomes = sessions.run_evaluation(spec, opened, models, watch)
        ledger = Ledger.from_json(opened.read_json("ledger.json"))
    total = ledger.total
    return Arm(name, seed, outcomes, total.prompt_tokens + total.completion_tokens)


def _common(flag: str) -> bool:
    from tfgrpo.config import EvalSpec

    return flag.split("=")[0].split(".")[0] in EvalSpec.model_fields


def _report(
    root: Path, arms: Sequence[Arm], suite: Suite, learned: Sequence[Path], n: int, json: bool
) -> None:
    from cli.experiences import library_rows, library_table
    from tfgrpo.canonical import canonical_json
    from tfgrpo.experience.files import load_library
    from tfgrpo.metrics.pass_at_k import powers_of_two
    from tfgrpo.metrics.summary import summarise
    from tfgrpo.report.plots import pass_at_k_figure
    from tfgrpo.storage import write_atomic

    ks = powers_of_two(n)
    summaries = [summarise(arm.outcomes, ks, 0, allow_missing=True) for arm in arms]
    pairs = [pair for a, b in suite.pairs for pair in _compared(arms, a, b, ks)]
    document: dict[str, Any] = {
        "arms": [
            {"name": a.name, "seed": a.seed, "tokens": a.tokens, "summary": s}
            for a, s in zip(arms, summaries, strict=True)
        ],
        "comparisons": [
            {"arm": p.b, "against": p.a, "seed": p.seed, "differences": p.found} for p in pairs
        ],
        "libraries": [library_rows(load_library(path)) for path in learned],
    }
    write_atomic(root / "bench.json", canonical_json(document).encode())
    curves = {
        plan.name: _pooled([a for a in arms if a.name == plan.name], ks) for plan in suite.arms
    }
    caption = (
        f"{len(arms[0].outcomes)} held-out problems x {n} samples, {len(learned)} learning seeds "
        "averaged; bands: 95% BCa over problems"
    )
    pass_at_k_figure(curves, caption, [root / "pass_at_k.png", root / "pass_at_k.svg"])
    if json:
        console.print_json(document)
        return
    for seed, path in enumerate(learned):
        console.show(library_table(load_library(path), f"Lessons, seed {seed}"))
    shown = [k for k in SHOWN if k <= n]
    console.show(_policies(arms, summaries, shown))
    console.show(_differences([p for p in pairs if (p.seed is not None) == suite.by_seed], shown))
    console.note(f"Figure: {root / 'pass_at_k.png'}")


def _policies(arms: Sequence[Arm], summaries: Sequence[PolicySummary], ks: list[int]) -> Table:
    rows = []
    for arm, s in zip(arms, summaries, strict=True):
        entropy = "" if s.token_entropy is None else f"{s.token_entropy:.3f}"
        cells = [console.percent(s.pass_at_k[k]).replace(" ", "\n", 1) for k in ks]
        distinct = f"{s.distinct_correct[max(ks)].value:.2f}"
        rows.append((arm.label, *cells, distinct, entropy, console.count(arm.tokens)))
    columns = (
        "policy", *(f"pass@{k}" for k in ks), f"distinct\ncorrect@{max(ks)}", "token\nentropy",
        "tokens",
    )  # fmt: skip
    return console.table("\nHeld-out problems (percent, 95% intervals)", columns, rows)


def _pooled(arms: Sequence[Arm], ks: Sequence[int]) -> dict[int, Any]:
    """pass@k averaged over seeds within each problem, with intervals over problems."""
    from statistics import fmean

    from tfgrpo.metrics.estimate import bootstrap_mean
    from tfgrpo.metrics.pass_at_k import per_task

    made = {}
    for k in ks:
        by_seed = [per_task(arm.outcomes, k) for arm in arms]
        values = [fmean(column) for column in zip(*by_seed, strict=True)]
        made[k] = bootstrap_mean(values, 0)
    return made


@dataclass(frozen=True, slots=True)
class Pair:
    """The differences b - a of one seed; `seed` None: of the averages over the seeds."""

    a: str
    b: str
    seed: int | None
    found: tuple[Comparison, ...]

    @property
    def label(self) -> str:
        return f"{self.b} - {self.a}" + ("" if self.seed is None else f"\nseed {self.seed}")


def _compared(arms: Sequence[Arm], a: str, b: str, ks: Sequence[int]) -> list[Pair]:
    """Each seed of `b` against the same seed of `a`, or its only run; then their averages."""
    from tfgrpo.metrics.summary import compare, compare_averages

    first = {arm.seed: arm.outcomes for arm in arms if arm.name == a}
    second = {arm.seed: arm.outcomes for arm in arms if arm.name == b}
    matched = [(seed, first.get(seed, first.get(None, ())), own) for seed, own in second.items()]
    pairs = [
        Pair(a, b, seed, compare(other, own, ks, 0, allow_missing=True))
        for seed, other, own in matched
    ]
    averages = compare_averages([o for _, o, _ in matched], [o for _, _, o in matched], ks, 0)
    return [*pairs, Pair(a, b, None, averages)]


def _differences(pairs: Sequence[Pair], ks: list[int]) -> Table:
    rows = []
    for pair in pairs:
        by_name = {c.name: c for c in pair.found}
        cells: list[str] = []
        for k in ks:
            c = by_name[f"pass@{k}"]
            difference = console.points(c).replace(" ", "\n", 1)
            cells.append(f"{difference}\np {console.p_value(c.p_value)}")
        c = by_name[f"distinct_correct@{max(ks)}"]
        cells.append(f"{c.difference.value:+.2f}\np {console.p_value(c.p_value)}")
        rows.append((pair.label, *cells))
    columns = ("difference", *(f"pass@{k}" for k in ks), f"distinct\ncorrect@{max(ks)}")
    averaged = any(pair.seed is None for pair in pairs)
    title = "\nPaired differences in points (95% intervals, sign-flip p" + (
        "; seeds averaged)" if averaged else ")"
    )
    return console.table(title, columns, rows)
