"""The page of a verdict: what may be said, then everything that it rests on."""

from __future__ import annotations

from collections.abc import Sequence

from tfgrpo.report.figures.album import drawings
from tfgrpo.report.figures.measures import difference_title, scale, scaled
from tfgrpo.report.figures.sketch import Drawing, basis
from tfgrpo.report.pages.findings import Figure, Finding, Findings, Mark
from tfgrpo.report.pages.parts import Block, Fact, Facts, Listing, Page, Prose, View
from tfgrpo.report.pages.verdict_tables import VERDICTS, tables
from tfgrpo.verdict.arms import Family
from tfgrpo.verdict.record import Interaction, Judgement, Verdict

VIEWS: tuple[tuple[str, str, tuple[str, ...], str], ...] = (
    ("arms", "Arms", (), "arms"),
    ("curves", "Curves", ("pass_at_k", "gains"), ""),
    ("differences", "Differences", (), "differences"),
    ("entropy", "Entropy", ("accuracy_and_entropy", "training"), "runs"),
    ("diversity", "Diversity", ("diversity", "diversity_gains", "strategies"), "diversity"),
    ("solved", "Solved", ("solved", "shares", "solved_map"), ""),
    ("costs", "Costs", ("costs",), "costs"),
    ("faults", "Faults", (), "faults"),
    ("problems", "Disagreements", (), "problems"),
    ("settings", "Settings", (), "settings"),
)
"""Key, title, figures and table of each view but the first; an empty one is left out."""

ORDER: tuple[Family, ...] = ("context", "weights", "both", "other", "control", "base")
"""Whose findings are told first."""

NOTES = {
    "arms": "Shares are means over problems and seeds, with intervals over problems.",
    "differences": "Endpoints that were declared before the data were seen come first and are "
    "judged; all others are exploratory.",
    "diversity": "How far each view is from the base's, paired by problem: exploratory, so with "
    "intervals and without tests. Every view is taken problem by problem; only the entropy above "
    "which a token forks is one for all, the base's.",
    "faults": "What became of all samples that were asked of an arm. Those that were never graded "
    "are neither right nor wrong and count in no share. Faults are what the endpoint met while the "
    "arm was sampled, whether or not another try helped.",
    "problems": "The problems on which arms differ most, with a reply of each.",
}


def verdict_page(verdict: Verdict, drawn: Sequence[Drawing] | None = None) -> Page:
    """The page, to be given to `shell.render`; `drawn` are its `drawings`, if they are at hand."""
    if drawn is None:
        drawn = drawings(verdict)
    figures = {d.name: Figure(d.title, d.svg.decode(), d.alt, d.caption) for d in drawn}
    made = tables(verdict)
    full = {table.key for table in made if table.rows}
    views = [View("verdict", "Verdict", _opening(verdict, figures.get("endpoints")))]
    for key, name, wanted, listed in VIEWS:
        blocks: list[Block] = [figures[figure] for figure in wanted if figure in figures]
        if key == "costs" and verdict.budgets:
            blocks.insert(0, Prose("Budgets", "\n".join(verdict.budgets)))
        if listed in full:
            blocks.append(Listing(listed, NOTES.get(listed, "")))
        if blocks:
            views.append(View(key, name, tuple(blocks)))
    return Page(
        title=f"{verdict.question.base} and {_arms(len(verdict.arms) - 1)}",
        note=basis(verdict),
        tables=made,
        views=tuple(views),
        stamps=verdict.stamps,
        whole_print=True,
    )


def _opening(verdict: Verdict, endpoints: Figure | None) -> tuple[Block, ...]:
    blocks: list[Block] = []
    if verdict.judgements:
        family = {arm.name: arm.family for arm in verdict.arms}
        ordered = sorted(verdict.judgements, key=lambda j: ORDER.index(family[j.b]))
        blocks.append(Findings("", tuple(map(_finding, ordered)), "arms"))
    if endpoints is not None:
        blocks.append(endpoints)
    if verdict.interaction is not None:
        blocks.append(_interaction(verdict.interaction, verdict.question.endpoints))
    if verdict.duels:
        duels = tuple(_finding(duel, pair=True) for duel in verdict.duels)
        blocks.append(Findings("Further pairs", duels, "arms"))
    blocks.append(_facts(verdict))
    return tuple(blocks)


def _finding(judgement: Judgement, *, pair: bool = False) -> Finding:
    marks = tuple(
        Mark(
            label=difference_title(name := claim.comparison.name),
            estimate=scaled(name, claim.comparison.difference),
            word=claim.verdict,
            tone=VERDICTS.get(claim.verdict, "plain"),
            digits=_digits(name),
        )
        for claim in judgement.claims
    )
    about = f"{judgement.b} against {judgement.a}" if pair else judgement.b
    return Finding(about, judgement.sentence, marks, judgement.b)


def _interaction(found: Interaction, endpoints: Sequence[str]) -> Findings:
    names = [name for name in (*endpoints, "token_entropy") if name in found.effects]
    marks = tuple(
        Mark(
            label=difference_title(name),
            estimate=scaled(name, found.effects[name]),
            digits=_digits(name),
        )
        for name in names
    )
    told = (
        f"What {found.both} gains on {found.weights}, minus what {found.context} gains on "
        f"{found.base}. Below 0 context and weights give the same gain; above 0 each makes the "
        "other worth more."
    )
    finding = Finding(found.both, told, marks, found.both)
    return Findings("Context and weights together", (finding,), "arms")


def _digits(name: str) -> int:
    return 1 if scale(name) == 100 else 2


def _arms(count: int) -> str:
    return "1 other arm" if count == 1 else f"{count} other arms"


def _facts(verdict: Verdict) -> Facts:
    question = verdict.question
    sets = ", ".join(f"{name} {count:,}" for name, count in verdict.datasets.items())
    samples = sum(arm.reading.samples for arm in verdict.arms)
    failed = sum(fate.failed for fate in verdict.fates)
    lost = Fact("never graded", f"{failed:,}", "samples, neither right nor wrong")
    return Facts(
        (
            Fact("problems", f"{verdict.problems:,}", sets),
            Fact("samples of each", f"{verdict.samples:,}", f"{samples:,} in all"),
            Fact("arms", f"{len(verdict.arms):,}", f"base: {question.base}"),
            Fact("comparisons", f"{len(verdict.judgements) * len(question.endpoints):,}",
                 f"declared, at {100 * question.level:g}%, Holm-adjusted together"),
            Fact("margin", f"{100 * question.margin:g} points",
                 f"of pass@{question.k_max} within which coverage is kept"),
            *([lost] if failed else []),
        )
    )  # fmt: skip
