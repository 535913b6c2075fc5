"""The tables of a verdict on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cli import console

if TYPE_CHECKING:
    from rich.table import Table

    from tfgrpo.types import Estimate
    from tfgrpo.verdict.record import ArmFigures, Judgement, Verdict


def arms_table(verdict: Verdict) -> Table:
    """How often each arm is right."""
    question = verdict.question
    ks = sorted({1, question.k_mid, question.k_max})
    rows = [
        (
            console.safe(arm.name),
            str(len(arm.seeds)),
            *(console.percent(arm.curve[k]).replace(" ", "\n", 1) for k in ks),
        )
        for arm in verdict.arms
    ]
    title = (
        f"\n{verdict.problems} problems x {verdict.samples} samples "
        "(percent, 95% intervals over problems)"
    )
    return console.table(title, ("arm", "runs", *(f"pass@{k}" for k in ks)), rows)


def replies_table(verdict: Verdict) -> Table:
    """What each arm's replies are like, and what it took to make it."""
    k = verdict.question.k_mid
    columns = (
        "arm", f"maj@{k}", f"distinct\ncorrect@{k}", "token\nentropy", "tokens\na reply",
        "made with\ntokens",
    )  # fmt: skip
    return console.table("\nReplies", columns, [_replies(arm, k) for arm in verdict.arms])


def differences_table(verdict: Verdict) -> Table:
    """What was declared beforehand, with Holm's p, then the pairs that were asked for."""
    question = verdict.question
    rows = [
        _difference(found, question.endpoints) for found in (*verdict.judgements, *verdict.duels)
    ]
    headings = (name.replace("distinct_", "distinct\n") for name in question.endpoints)
    title = (
        "\nPaired differences in points (95% intervals over problems,\n"
        "Holm's p over all arms and endpoints)"
    )
    return console.table(title, ("difference", *headings, "seeds", "k*"), rows)


def _replies(arm: ArmFigures, k_mid: int) -> tuple[str, ...]:
    figures = arm.figures
    votes = figures.get(f"maj@{k_mid}")
    made = sum(u.completion_tokens for u in arm.cost.making.values()) if arm.cost else 0
    return (
        console.safe(arm.name),
        "" if votes is None else f"{100 * votes.value:.1f}",
        f"{figures[f'distinct_correct@{k_mid}'].value:.2f}",
        _entropy(figures),
        f"{arm.reading.mean_length:.0f}",
        console.count(made) if arm.cost else "unknown",
    )


def _entropy(figures: Mapping[str, Estimate]) -> str:
    """Nats per token, or between which values they lie."""
    if known := figures.get("token_entropy"):
        return f"{known.value:.3f}"
    if low := figures.get("token_entropy_low"):
        return f"{low.value:.2f} to {figures['token_entropy_high'].value:.2f}"
    return ""


def _difference(found: Judgement, endpoints: tuple[str, ...]) -> tuple[str, ...]:
    by_name = {claim.comparison.name: claim for claim in found.claims}
    cells = []
    for name in endpoints:
        claim = by_name[name]
        if name.startswith("pass"):
            told = console.points(claim.comparison).replace(" ", "\n", 1)
        else:
            d = claim.comparison.difference
            told = f"{d.value:+.2f}\n[{d.low:+.2f}, {d.high:+.2f}]"
        cells.append(f"{told}\np {console.p_value(claim.holm_p)}")
    star = found.crossover.estimate.label if found.crossover else ""
    support = found.differences["pass@1"].support
    return (f"{console.safe(found.b)}\n- {console.safe(found.a)}", *cells, support, star)
