"""The tables of a verdict on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli import console

if TYPE_CHECKING:
    from rich.table import Table

    from tfgrpo.verdict.record import ArmFigures, Judgement, Verdict


def arms_table(verdict: Verdict) -> Table:
    """Each arm by itself."""
    question = verdict.question
    ks = sorted({1, question.k_mid, question.k_max})
    rows = [_arm(arm, ks, question.k_mid) for arm in verdict.arms]
    columns = (
        "arm", "seeds", *(f"pass@{k}" for k in ks), f"maj@{question.k_mid}",
        f"distinct\ncorrect@{question.k_mid}", "token\nentropy", "tokens\na reply",
        "made with\ntokens",
    )  # fmt: skip
    title = (
        f"\n{verdict.problems} problems x {verdict.samples} samples "
        "(percent, 95% intervals over problems)"
    )
    return console.table(title, columns, rows)


def differences_table(verdict: Verdict) -> Table:
    """What was declared beforehand, with Holm's p, then the pairs that were asked for."""
    question = verdict.question
    rows = [
        _difference(found, question.endpoints) for found in (*verdict.judgements, *verdict.duels)
    ]
    columns = ("difference", *question.endpoints, "seeds", "k*")
    return console.table(
        "\nPaired differences in points (95% intervals over problems, Holm's p over all arms)",
        columns, rows,
    )  # fmt: skip


def _arm(arm: ArmFigures, ks: list[int], k_mid: int) -> tuple[str, ...]:
    figures = arm.figures
    votes, entropy = figures.get(f"maj@{k_mid}"), figures.get("token_entropy")
    made = sum(u.completion_tokens for u in arm.cost.making.values()) if arm.cost else 0
    return (
        console.safe(arm.name),
        str(len(arm.seeds)),
        *(console.percent(arm.curve[k]).replace(" ", "\n", 1) for k in ks),
        "" if votes is None else f"{100 * votes.value:.1f}",
        f"{figures[f'distinct_correct@{k_mid}'].value:.2f}",
        "" if entropy is None else f"{entropy.value:.3f}",
        f"{arm.reading.mean_length:.0f}",
        console.count(made) if arm.cost else "unknown",
    )


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
