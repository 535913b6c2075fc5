"""The views of diversity of every arm, on equal numbers of samples, and against the base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tfgrpo.metrics.panel import Classes, Matching, Of, Panel, panel, panel_estimates
from tfgrpo.metrics.surface import forking_threshold
from tfgrpo.seeding import derive_seed
from tfgrpo.types import Estimate, RolloutGroup
from tfgrpo.verdict.arms import Arm
from tfgrpo.verdict.evidence import groups_of
from tfgrpo.verdict.meanings import Meanings
from tfgrpo.verdict.panel_differences import Panels, panel_differences
from tfgrpo.verdict.record import Verdict

OF: tuple[Of, ...] = ("all", "correct")
DRAWS = 2
"""Subsets of samples behind the views without a closed form."""


def with_panels(verdict: Verdict, arms: Sequence[Arm], meanings: Meanings | None = None) -> Verdict:
    """The verdict with the panels of all arms whose texts are there, and what sets them apart.

    An arm's panel is averaged over its seeds; its differences from the base are paired by problem,
    and by seed where both were trained. The forking threshold is the base's, the vocabulary the
    largest token id of all arms. With `meanings` there is a view of these, too; from which cosine
    on they are the same is frozen on the base and told in the settings.
    """
    groups = {arm.name: {run.seed: groups_of(run) for run in arm.runs} for arm in arms}
    matching = _matching(groups, verdict)
    if matching is None:
        return verdict
    seed, base = verdict.question.seed, verdict.question.base
    classes: dict[str, dict[int | None, Classes]] = {}
    if meanings is not None:
        cosine = meanings.frozen_on([group for run in groups[base].values() for group in run])
        told = {"meanings": {"embedder": meanings.name, "cosine": round(cosine, 4)}}
        verdict = replace(verdict, settings={**verdict.settings, **told})
        classes = {
            name: {key: meanings.classes(run, cosine) for key, run in runs.items()}
            for name, runs in groups.items()
        }
    panels: dict[Of, dict[str, Panels]] = {
        of: {
            name: {
                key: panel(run, matching, seed, of, classes[name][key] if classes else None)
                for key, run in runs.items()
                if run
            }
            for name, runs in groups.items()
        }
        for of in OF
    }

    def estimates(name: str, of: Of) -> Mapping[str, Estimate]:
        return panel_estimates(_averaged(list(panels[of][name].values())), seed)

    return replace(
        verdict,
        arms=tuple(
            replace(
                arm,
                panel=estimates(arm.name, "all"),
                panel_correct=estimates(arm.name, "correct"),
            )
            for arm in verdict.arms
        ),
        diversity=tuple(
            found
            for judgement in verdict.judgements
            for of in OF
            for found in panel_differences(
                (base, panels[of][base]), (judgement.b, panels[of][judgement.b]), matching, of,
                derive_seed(seed, "panels"), verdict.question.resamples,
            )
        ),
    )  # fmt: skip


def _matching(
    groups: Mapping[str, Mapping[int | None, Sequence[RolloutGroup]]], verdict: Verdict
) -> Matching | None:
    bases = groups[verdict.question.base].values()
    base = [r for run in bases for group in run for r in group.rollouts]
    if not base or verdict.samples < 2:
        return None
    entropies = [h for r in base for h in r.completion.entropies or ()]
    largest = max(
        (
            max(r.completion.token_ids or (1,))
            for runs in groups.values()
            for run in runs.values()
            for group in run
            for r in group.rollouts
        ),
        default=1,
    )
    return Matching(
        vocabulary=largest + 1,
        fork_above=forking_threshold(entropies) if entropies else 0.0,
        samples=min(16, verdict.samples),
        correct=min(4, verdict.samples),
        draws=DRAWS,
    )


def _averaged(panels: Sequence[Panel]) -> Panel:
    """Each metric of each problem, averaged over the seeds that have it."""
    found: dict[str, dict[str, list[float]]] = {}
    for own in panels:
        for metric, values in own.items():
            for task_id, value in values.items():
                found.setdefault(metric, {}).setdefault(task_id, []).append(value)
    return {
        metric: {task_id: sum(v) / len(v) for task_id, v in values.items()}
        for metric, values in found.items()
    }
