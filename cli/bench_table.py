"""Tables of `tfgrpo bench`: its plan, and what the suites of contexts found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli import console

if TYPE_CHECKING:
    from rich.table import Table

    from cli.stages import Plan
    from cli.suites import Suite
    from tfgrpo.metrics.summary import PolicySummary
    from tfgrpo.types import Comparison, TaskOutcome

SHOWN = (1, 8, 64)


@dataclass(frozen=True, slots=True)
class Arm:
    """One evaluated policy; `seed` is that of the runs behind it, None where it needs none."""

    name: str
    seed: int | None
    outcomes: tuple[TaskOutcome, ...]
    tokens: int

    @property
    def label(self) -> str:
        return self.name if self.seed is None else f"{self.name}, seed {self.seed}"


def read_arms(root: Path, plan: Plan) -> list[Arm]:
    """The finished evaluations of a bench, in the order of its plan."""
    from tfgrpo.ledger import Ledger
    from tfgrpo.runs import RunDir
    from tfgrpo.verdict.own import read_outcomes

    made = []
    for planned in plan.arms:
        run = RunDir.open(root / planned.path)
        total = Ledger.from_json(run.read_json("ledger.json")).total
        tokens = total.prompt_tokens + total.completion_tokens
        made.append(Arm(planned.name, planned.seed, read_outcomes(run), tokens))
    return made


def report(root: Path, suite: Suite, plan: Plan, json: bool) -> None:
    """Lessons, policies and their differences, as text and in bench.json; the figure of pass@k."""
    from cli.experiences import library_rows, library_table
    from tfgrpo.canonical import canonical_json
    from tfgrpo.experience.files import load_library
    from tfgrpo.metrics.pass_at_k import powers_of_two
    from tfgrpo.metrics.summary import summarise
    from tfgrpo.report.plots import pass_at_k_figure
    from tfgrpo.storage import write_atomic

    arms = read_arms(root, plan)
    learned = [root / job.name for job in plan.jobs if job.kind == "learn"]
    n = plan.samples
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
    curves = {arm.name: pooled([a for a in arms if a.name == arm.name], ks) for arm in suite.arms}
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


def pooled(arms: Sequence[Arm], ks: Sequence[int]) -> dict[int, Any]:
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
