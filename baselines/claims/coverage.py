"""Claims on pass@1 and pass@k: crossover, trade-off, on-policy updates, token masks, memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from baselines.claims.finding import (
    RESAMPLES,
    SEED,
    Finding,
    Floats,
    Runs,
    Verdict,
    both,
    difference,
    of_difference,
    of_spread,
    points,
    spread,
    unseen_share,
    verdict,
)
from baselines.claims.registry import Rule, claim
from tfgrpo.metrics.bootstrap import bootstrap_means
from tfgrpo.metrics.crossover import CrossoverLaw, crossover_law
from tfgrpo.metrics.pass_at_k import pass_at_k, per_task_curve
from tfgrpo.metrics.seeds import MIN_SEEDS
from tfgrpo.seeding import derive_seed
from tfgrpo.types import Estimate, TaskOutcome

LEAD = 0.005
"""How far the base must lead at some k before the curves count as crossed."""
NOT_CROSSED = 0.025
"""Share of draws up to which an event of a 95% interval counts as absent."""


def crossover(base: Runs, tuned: Runs) -> Finding:
    """At large k the base overtakes (arXiv 2504.13837, section 3).

    k* is the smallest k at which pass@k of the base exceeds the tuned policy's by `LEAD`, after
    the latter led at k = 1; interval over paired draws of problems, curves averaged over seeds.
    Supported if it exists in all but 2.5% of the draws, and with three seeds in every seed; not
    supported if it exists in at most 2.5%; inconclusive otherwise, where tuning does not lead, or
    where no problem tells the curves apart at the last k, as both at 1: draws cannot show then
    what other problems might.
    """
    plain, moved = _aligned(base, tuned)
    law = _law(plain, moved.mean(axis=0))
    crossed = sum(law.counts.values()) / law.resamples
    said = verdict_of_crossing(law)
    if np.ptp(plain[:, -1] - moved[..., -1]) == 0 and unseen_share(len(plain)) > LEAD:
        said = "inconclusive"
    own = [_law(plain, x).estimate.label for x in moved]
    if said == "supported" and len(own) >= MIN_SEEDS and not all(k.isdigit() for k in own):
        said = "inconclusive"
    ends = law.interval() if law.no_lead < law.resamples else (None, None)
    detail = (
        f"k* is {law.estimate.label} up to k = {law.limit}; the base overtakes in {points(crossed)}"
        f"% of the draws; by seed: {', '.join(own)}."
    )
    value, low, high = (None if k is None else float(k) for k in (law.estimate.k, *ends))
    return Finding(value, low, high, said, detail)


def verdict_of_crossing(law: CrossoverLaw) -> Verdict:
    """What the distribution of k* says, see `crossover`."""
    crossed = sum(law.counts.values()) / law.resamples
    if law.no_lead / law.resamples > NOT_CROSSED:
        return "inconclusive"
    if crossed >= 1 - NOT_CROSSED:
        return "supported"
    return "not supported" if crossed <= NOT_CROSSED else "inconclusive"


def _law(base: Floats, tuned: Floats) -> CrossoverLaw:
    """The law of k*; a tie at a ceiling of 1 must not count as overtaking."""
    margin = np.where(np.arange(base.shape[1]) > 0, LEAD, 0.0)
    return crossover_law(base - margin, tuned, derive_seed(SEED, "crossover"), RESAMPLES)


def _aligned(base: Runs, tuned: Runs) -> tuple[Floats, Floats]:
    """pass@1 .. pass@K on the shared problems, the base's (P, K) and each seed's (S, P, K)."""
    shared = set.intersection(*({o.task_id for o in run} for run in (*base, *tuned)))
    if not shared:
        raise ValueError("The arms share no problem; evaluate both on one task set.")
    by_id = [{o.task_id: o for o in run} for run in (*base, *tuned)]
    limit = min(run[i].n for run in by_id for i in shared)
    curves = [per_task_curve([run[i] for i in sorted(shared)], limit) for run in by_id]
    return np.mean(curves[: len(base)], axis=0), np.stack(curves[len(base) :])


def pass_at_k_tradeoff(base: Runs, tuned: Runs) -> Finding:
    """pass@1 rises while pass@K falls (arXiv 2504.13837, section 4.3), K the number of samples.

    Paired by problem, seeds averaged. Both must hold by the rule, pass@1 by `GAIN`.
    """
    last = min(o.n for run in (*base, *tuned) for o in run)
    at_1 = difference("pass@1", base, tuned, accuracy)
    at_k = difference(f"pass@{last}", base, tuned, lambda o: pass_at_k(o.n, o.c, last))
    first = at_1.problems.difference
    rises = verdict(GAIN, first.value, first.low, first.high, at_1.by_seed)
    rule = claim("pass-at-k-tradeoff").rule
    detail = (
        f"pass@1 {points(at_1.problems.a)} to {points(at_1.problems.b)} "
        f"[{points(first.low)}, {points(first.high)}]; pass@{last} {points(at_k.problems.a)} to "
        f"{points(at_k.problems.b)}."
    )
    found = of_difference(rule, at_k, detail)
    return replace(found, verdict=both(found.verdict, rises))


GAIN = Rule("pass@1, tuned minus base", "share", low=0.0, smallest=0.02)


def accuracy(outcome: TaskOutcome) -> float:
    """c / n, which is pass@1."""
    return outcome.c / outcome.n


def on_policy(rloo: Runs, grpo: Runs) -> Finding:
    """Strictly on-policy RLOO beats GRPO with several updates (arXiv 2603.11682).

    pass@1, RLOO minus GRPO, paired by problem and seed; both were trained on equal rollouts.
    """
    found = difference("pass@1", grpo, rloo, accuracy)
    detail = f"pass@1 of RLOO {points(found.problems.b)}, of GRPO {points(found.problems.a)}."
    return of_difference(claim("on-policy").rule, found, detail)


def high_entropy_tokens(base: Runs, high: Runs, low: Runs) -> Finding:
    """The fifth of the tokens with most entropy carries the learning (arXiv 2506.01939).

    pass@1 trained on that fifth minus pass@1 trained on the other four, paired.
    """
    found = difference("pass@1", low, high, accuracy)
    gains = [difference("pass@1", base, arm, accuracy).problems for arm in (high, low)]
    told = [_interval(c.difference) for c in gains]
    detail = f"Gain in points over the base: that fifth {told[0]}, the others {told[1]}."
    return of_difference(claim("high-entropy-tokens").rule, found, detail)


def _interval(share: Estimate) -> str:
    return f"{points(share.value)} [{points(share.low)}, {points(share.high)}]"


def memorisation(
    base_trained: Runs, few_trained: Runs, base_unseen: Runs, few_unseen: Runs
) -> Finding:
    """A small fixed set is memorised (arXiv 2507.10532; 2504.20571 found unseen problems to gain).

    Mean gain in pass@1 on the trained problems minus that on held-out ones. Trained problems are
    a seed's own, so both sets are drawn again independently, the former within each seed.
    """
    seeds = range(len(few_trained))
    trained = [_gains(base_trained[i], few_trained[i]) for i in seeds]
    unseen = [_gains(base_unseen[0], few_unseen[i]) for i in seeds]
    by_seed = [float(a.mean() - b.mean()) for a, b in zip(trained, unseen, strict=True)]
    draws = np.mean([_means(x, "trained", i) for i, x in enumerate(trained)], axis=0)
    # Held-out problems are the same for all seeds, so they are drawn once for all.
    draws = draws - _means(np.mean(unseen, axis=0), "unseen", 0)
    detail = (
        f"Gain on {len(trained[0])} trained problems {points(float(np.mean(trained)))} points, on "
        f"{len(unseen[0])} held-out ones {points(float(np.mean(unseen)))}."
    )
    return of_spread(claim("memorisation").rule, spread(by_seed, draws), detail)


def _means(values: Floats, label: str, seed: int) -> Floats:
    return bootstrap_means(values, derive_seed(SEED, label, seed), RESAMPLES)


def _gains(before: Sequence[TaskOutcome], after: Sequence[TaskOutcome]) -> Floats:
    """Differences of c / n on the problems of `before`, in their order."""
    own = {o.task_id: o for o in after}
    if own.keys() != {o.task_id for o in before}:
        raise ValueError("The arms were evaluated on other problems; evaluate both on one set.")
    return np.array([accuracy(own[o.task_id]) - accuracy(o) for o in before])
