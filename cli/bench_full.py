"""The table of `tfgrpo bench full`: every arm, averaged over its seeds, beside the base."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from cli import console
from cli.bench_table import SHOWN, Arm, pooled, read_arms

if TYPE_CHECKING:
    from cli.stages import Plan
    from cli.suites import Suite


def report(root: Path, suite: Suite, plan: Plan, json: bool) -> None:
    """One row for each arm, as text and in bench.json."""
    from tfgrpo.canonical import canonical_json
    from tfgrpo.storage import write_atomic

    arms = read_arms(root, plan)
    ks = [k for k in SHOWN if k <= plan.samples]
    base = [arm for arm in arms if arm.name == suite.base]
    rows = []
    for planned in suite.arms:
        own = [arm for arm in arms if arm.name == planned.name]
        rows.append({"family": planned.family, **row(own, base, ks)})
    document = {
        "samples": plan.samples,
        "problems": len(base[0].outcomes),
        "rows": rows,
    }
    write_atomic(root / "bench.json", canonical_json(document).encode())
    if json:
        console.print_json(document)
        return
    last = max(ks)
    columns = (
        "arm", "family", "seeds", *(f"pass@{k}" for k in ks),
        *(f"pass@{k}\n- base" for k in sorted({1, last})), f"distinct\ncorrect@{last}",
        "token\nentropy",
    )  # fmt: skip
    title = (
        f"\n{document['problems']} held-out problems x {plan.samples} samples, in percent and "
        "points;\nseeds averaged, 95% intervals over problems"
    )
    console.show(console.table(title, columns, [_cells(row, ks) for row in rows]))


def row(own: Sequence[Arm], base: Sequence[Arm], ks: Sequence[int]) -> dict[str, Any]:
    """Figures of an arm; `from base` is empty for the base itself."""
    from tfgrpo.metrics.diversity import distinct_correct_at_k, token_entropy
    from tfgrpo.metrics.pass_at_k import with_samples
    from tfgrpo.metrics.summary import compare_averages

    last = max(ks)
    found = {}
    if own[0].name != base[0].name:
        pairs = [arm.outcomes for arm in own]
        found = {
            c.name: c
            for c in compare_averages([base[0].outcomes] * len(own), pairs, sorted({1, last}), 0)
        }
    enough = [with_samples(arm.outcomes, last, allow_missing=True) for arm in own]
    entropies = [e for arm in own if (e := token_entropy(arm.outcomes)) is not None]
    return {
        "name": own[0].name,
        "seeds": [arm.seed for arm in own],
        "tokens": fmean(arm.tokens for arm in own),
        "pass_at_k": pooled(own, ks),
        "from base": found,
        "distinct_correct": fmean(
            fmean(distinct_correct_at_k(o, last, "answers") for o in outcomes)
            for outcomes in enough
        ),
        "token_entropy": fmean(entropies) if entropies else None,
    }


def _cells(row: dict[str, Any], ks: Sequence[int]) -> list[str]:
    def lines(text: str) -> str:
        return text.replace(" ", "\n", 1)

    entropy, found = row["token_entropy"], row["from base"]
    return [
        row["name"],
        row["family"],
        "" if row["seeds"] == [None] else str(len(row["seeds"])),
        *(lines(console.percent(row["pass_at_k"][k])) for k in ks),
        *(lines(console.points(found[f"pass@{k}"])) if found else "" for k in sorted({1, max(ks)})),
        f"{row['distinct_correct']:.2f}",
        "" if entropy is None else f"{entropy:.3f}",
    ]
