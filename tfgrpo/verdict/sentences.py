"""What may be said of a comparison, no stronger than its intervals."""

from __future__ import annotations

from tfgrpo.metrics.claims import Claim
from tfgrpo.metrics.crossover import CrossoverLaw
from tfgrpo.metrics.seeds import MIN_SEEDS, SeededDifference
from tfgrpo.types import Estimate
from tfgrpo.verdict.record import Judgement, Question, Verdict


def judged(found: Judgement, question: Question) -> str:
    """One or two sentences on one arm against another: accuracy, coverage, variety, crossing."""
    by_name = {claim.comparison.name: claim for claim in found.claims}
    parts = [_accuracy(found, by_name["pass@1"])]
    last = f"pass@{question.k_max}"
    if last in by_name and last != "pass@1":
        parts.append(_coverage(by_name[last], question))
    if found.crossover is not None:
        parts.append(_crossing(found.a, found.crossover))
    return " ".join(parts)


def headline(verdict: Verdict) -> str:
    """The best arm of each family against the base, in one sentence each."""
    best: dict[str, Judgement] = {}
    for judgement in verdict.judgements:
        family = verdict.arm(judgement.b).family
        held = best.get(family)
        if held is None or _gain(judgement) > _gain(held):
            best[family] = judgement
    order = ("context", "weights", "both", "other", "control")
    return " ".join(best[family].sentence for family in order if family in best)


def interval(estimate: Estimate, unit: float = 100.0, digits: int = 1) -> str:
    """`+24.0 [20.7, 27.4]`, in points by default."""
    value, low, high = (unit * x for x in (estimate.value, estimate.low, estimate.high))
    return f"{value:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def _accuracy(found: Judgement, claim: Claim) -> str:
    difference = found.differences["pass@1"]
    told = interval(claim.comparison.difference)
    seeds = _seeds(difference)
    if claim.verdict == "better" and (len(difference.by_seed) == 1 or difference.holds):
        return f"{found.b} gains on {found.a} at one sample: {told} points of pass@1{seeds}."
    if claim.verdict == "worse" and (len(difference.by_seed) == 1 or difference.holds):
        return f"{found.b} loses to {found.a} at one sample: {told} points of pass@1{seeds}."
    if claim.verdict in ("better", "worse"):
        return (
            f"{found.b} against {found.a} at one sample: {told} points of pass@1 over problems, "
            f"but the seeds do not carry it{seeds}."
        )
    return (
        f"{found.b} is not told apart from {found.a} at one sample: {told} points of pass@1"
        f"{seeds}; {100 * claim.detectable:.1f} would have been found."
    )


def _coverage(claim: Claim, question: Question) -> str:
    told = interval(claim.comparison.difference)
    k = question.k_max
    if claim.verdict == "better":
        return f"It solves more at k = {k}: {told}."
    if claim.verdict == "worse":
        return f"It solves less at k = {k}: {told}."
    if claim.verdict == "non-inferior":
        return f"Coverage at k = {k} is kept within {100 * question.margin:g} points: {told}."
    return (
        f"At k = {k} nothing is shown: {told}; {100 * claim.detectable:.1f} would have been found."
    )


def _crossing(a: str, law: CrossoverLaw) -> str:
    star = law.estimate
    if not star.led:
        return "It does not lead at k = 1, so there is no crossing to look for."
    if law.no_lead == law.resamples:
        return ""
    low, high = law.interval()
    ends = f"[{_end(low, law)}, {_end(high, law)}]"
    if star.k is None:
        share = 100 * law.censored_share
        return f"{a} catches up at no k up to {law.limit} ({share:.0f}% of draws agree)."
    return f"{a} catches up at k* = {star.k} {ends}."


def _end(k: int | None, law: CrossoverLaw) -> str:
    return f">{law.limit}" if k is None else str(k)


def _seeds(difference: SeededDifference) -> str:
    count = len(difference.by_seed)
    if count == 1:
        return ", one run"
    few = ", fewer than three seeds" if count < MIN_SEEDS else ""
    return f", {difference.agreeing}/{count} seeds agree{few}"


def _gain(judgement: Judgement) -> float:
    return judgement.differences["pass@1"].problems.difference.value
