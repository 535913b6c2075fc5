"""What the tables of a verdict hold, row by row."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeAlias

from tfgrpo.report.figures.costs import generated
from tfgrpo.report.figures.shares import in_order
from tfgrpo.report.pages.verdict_fates import fates_of
from tfgrpo.report.pages.verdict_records import SAMPLES, differences, measures
from tfgrpo.types import Estimate
from tfgrpo.verdict.record import Verdict

Value: TypeAlias = str | float | bool | None
Row: TypeAlias = Mapping[str, Value]


def _list(values: Iterable[str | float]) -> str:
    return json.dumps(list(values), ensure_ascii=False)


def _interval(estimate: Estimate) -> dict[str, Value]:
    return {
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "problems": estimate.n,
        "level": estimate.level,
        "method": estimate.method,
    }


def _arms(verdict: Verdict) -> Iterator[Row]:
    for arm in verdict.arms:
        reading, cost = arm.reading, arm.cost
        making = list(cost.making.values()) if cost else []
        yield {
            "arm": arm.name,
            "family": arm.family,
            "seeds": _list(seed for seed in arm.seeds if seed is not None),
            "pass@1 by seed": _list(arm.by_seed),
            "samples": reading.samples,
            "truncated": reading.truncated,
            "unread": reading.unread,
            "failures": reading.failures,
            "mean_length": reading.mean_length,
            "making_calls": sum(u.calls for u in making) if cost else None,
            "making_read_tokens": sum(u.prompt_tokens for u in making) if cost else None,
            "making_generated_tokens": generated(cost) if cost else None,
            "making_seconds": sum(u.seconds for u in making) if cost else None,
            "making_flops": cost.flops if cost else None,
            "making_usd": cost.usd if cost else None,
            "serving_problems": cost.queries if cost else None,
            "serving_replies": cost.samples if cost else None,
            "serving_read_tokens": cost.serving.prompt_tokens if cost else None,
            "serving_generated_tokens": cost.serving.completion_tokens if cost else None,
            "serving_flops": cost.serving_flops if cost else None,
        }


def _measures(verdict: Verdict) -> Iterator[Row]:
    for arm in verdict.arms:
        for m in measures(arm):
            yield {"arm": m.arm, "measure": m.name, "of": m.of, **_interval(m.estimate)}


def _differences(verdict: Verdict) -> Iterator[Row]:
    for d in differences(verdict):
        found, claim = d.found, d.claim
        yield {
            "arm": d.b,
            "against": d.a,
            "measure": d.name,
            "declared": claim is not None,
            "verdict": claim.verdict if claim else None,
            "holm_p": claim.holm_p if claim else None,
            "detectable": claim.detectable if claim else None,
            "of_arm": found.problems.b,
            "of_other": found.problems.a,
            **_interval(found.problems.difference),
            "p": found.problems.p_value,
            "support": found.support,
            "by_seed": _list(found.by_seed),
            "seeds_low": found.seeds.low,
            "seeds_high": found.seeds.high,
            "crossed_low": found.crossed.low,
            "crossed_high": found.crossed.high,
        }


def _curves(verdict: Verdict) -> Iterator[Row]:
    for arm in verdict.arms:
        for k, estimate in sorted(arm.curve.items()):
            yield {"kind": "pass@k", "arm": arm.name, "against": None, "k": k,
                   **_interval(estimate)}  # fmt: skip
    for judgement in (*verdict.judgements, *verdict.duels):
        for k, estimate in sorted(judgement.curve.items()):
            yield {"kind": "difference", "arm": judgement.b, "against": judgement.a, "k": k,
                   **_interval(estimate)}  # fmt: skip
    for k, value in sorted(verdict.floor.items()):
        sure = Estimate(value, math.nan, math.nan, verdict.problems, "guessing")
        yield {"kind": "guessing", "arm": None, "against": None, "k": k, **_interval(sure)}


def _solved(verdict: Verdict) -> Iterator[Row]:
    for judgement in (*verdict.judgements, *verdict.duels):
        for times, sets in ((1, judgement.solved), (2, judgement.solved_twice)):
            yield {
                "arm": judgement.b,
                "against": judgement.a,
                "times_right": times,
                "both": len(sets.both),
                "gained": len(sets.b_only),
                "lost": len(sets.a_only),
                "neither": len(sets.neither),
                "unmatched": len(sets.unmatched),
                "p": sets.p_value,
                "mid_p": sets.mid_p,
                "retained": sets.retained,
                "discovered": sets.discovered,
                "gained_problems": _list(sets.b_only),
                "lost_problems": _list(sets.a_only),
            }


def _interaction(verdict: Verdict) -> Iterator[Row]:
    found = verdict.interaction
    for name, effect in found.effects.items() if found else ():
        yield {"both": found.both if found else None, "measure": name, **_interval(effect)}


def _training(verdict: Verdict) -> Iterator[Row]:
    for run in verdict.trajectories:
        steps = zip(run.accuracy, run.entropy, run.tokens, strict=True)
        for step, (accuracy, entropy, tokens) in enumerate(steps):
            yield {"arm": run.name, "seed": run.seed, "step": step, "accuracy": accuracy,
                   "entropy": entropy, "tokens": tokens}  # fmt: skip


def _strategies(verdict: Verdict) -> Iterator[Row]:
    for arm in verdict.arms:
        for dataset, shares in sorted(arm.modes.items()):
            for name, share in sorted(shares.items()):
                yield {"arm": arm.name, "dataset": dataset, "strategy": name, "share": share}


def _diversity(verdict: Verdict) -> Iterator[Row]:
    for d in verdict.diversity:
        yield {"arm": d.b, "against": d.a, "measure": d.name, "of": SAMPLES[d.of], "of_arm": d.of_b,
               "of_other": d.of_a, **_interval(d.difference)}  # fmt: skip


def _shares(verdict: Verdict) -> Iterator[Row]:
    for problem in in_order(verdict):
        for arm, share in problem.shares.items():
            yield {"problem": problem.task_id, "dataset": problem.dataset, "arm": arm,
                   "share": share, "base": problem.shares[verdict.question.base]}  # fmt: skip


def _samples(verdict: Verdict) -> Iterator[Row]:
    for fate in verdict.fates:
        for name, samples in fates_of(fate).items():
            yield {"arm": fate.arm, "fate": name, "samples": samples}


def _faults(verdict: Verdict) -> Iterator[Row]:
    for fate in verdict.fates:
        for kind, count in fate.faults.items():
            yield {
                "arm": fate.arm,
                "class": kind,
                "times": count.seen,
                "samples_lost": count.failed,
                "calls_in_vain": count.lost.calls,
                "read_tokens_in_vain": count.lost.prompt_tokens,
                "generated_tokens_in_vain": count.lost.completion_tokens,
            }


TABLES: Mapping[str, Callable[[Verdict], Iterator[Row]]] = {
    "arms.csv": _arms,
    "measures.csv": _measures,
    "differences.csv": _differences,
    "curves.csv": _curves,
    "solved.csv": _solved,
    "interaction.csv": _interaction,
    "training.csv": _training,
    "strategies.csv": _strategies,
    "diversity_gains.csv": _diversity,
    "shares.csv": _shares,
    "samples.csv": _samples,
    "faults.csv": _faults,
}
"""File names and where their rows come from."""
