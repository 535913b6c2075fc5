"""What became of the samples that were asked for, and what endpoints met while giving them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tfgrpo.errors import RunError
from tfgrpo.llm.faults import FAULTS, Faults
from tfgrpo.runs import RunDir
from tfgrpo.verdict.arms import Arm, Evaluation
from tfgrpo.verdict.details import Fate
from tfgrpo.verdict.evidence import run_of
from tfgrpo.verdict.own import SAMPLES

UNTOLD = "unknown"
"""The stage of a failure of which the run says no more than that it was one."""


def fates(arms: Sequence[Arm]) -> tuple[Fate, ...]:
    """One for each arm, over all its seeds, of all problems that it was given.

    Problems that a comparison leaves out count here: failures are why they are left out.

    Raises:
        RunError: if a file of a run is damaged.
    """
    return tuple(_fate(arm) for arm in arms)


def troubles(told: Sequence[Fate]) -> tuple[str, ...]:
    """A sentence for each arm with samples that were never graded, or faults of its endpoint."""
    sentences = []
    for fate in told:
        if fate.failed:
            sentences.append(f"Of {fate.arm}, {fate.failed} samples were never graded.")
        if fate.faults:
            met = ", ".join(f"{kind} {count.seen}" for kind, count in fate.faults.items())
            sentences.append(f"While {fate.arm} was sampled, its endpoint met these faults: {met}.")
    return tuple(sentences)


def read_faults(run: RunDir) -> Faults:
    """The faults of all sessions of a run; none where it met none.

    Raises:
        RunError: if the file is damaged or of another version.
    """
    path = run.file(FAULTS)
    if not path.is_file():
        return Faults()
    try:
        return Faults.from_json(run.read_json(FAULTS))
    except (AttributeError, KeyError, TypeError) as error:
        raise RunError(
            f"{path} does not count faults; restore it, or remove it to go without."
        ) from error


def _fate(arm: Arm) -> Fate:
    outcomes = [o for run in arm.runs for o in run.outcomes]
    right = sum(o.c for o in outcomes)
    unread = sum(
        answer is None and not correct
        for o in outcomes
        for answer, correct in zip(o.answers, o.correct, strict=True)
    )
    faults = Faults()
    failures: Counter[str] = Counter()
    for run in arm.runs:
        failures += _failures(run)
        own = run_of(run)
        for kind, count in read_faults(own).by_kind.items() if own else ():
            faults = faults.plus(kind, count)
    return Fate(
        arm=arm.name,
        right=right,
        wrong=sum(o.n for o in outcomes) - right - unread,
        unread=unread,
        failures=dict(sorted(failures.items())),
        faults=dict(sorted(faults.by_kind.items())),
    )


def _failures(evaluation: Evaluation) -> Counter[str]:
    """By stage, as far as the run's own folder tells; as many as the outcomes count."""
    run = run_of(evaluation)
    rows = run.read_rows(SAMPLES) if run else ()
    told = Counter(text.partition(":")[0] for row in rows for text in row.get("failures", ()))
    every = sum(o.failures for o in evaluation.outcomes)
    return told + Counter({UNTOLD: every - told.total()})
