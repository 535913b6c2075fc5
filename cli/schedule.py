"""Which job of a bench comes next, and all of them in a pool: no barrier between the stages."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from dataclasses import dataclass, field

from cli.stages import Job
from tfgrpo.errors import BudgetStop, RunError, TfgrpoError


def tails(jobs: Sequence[Job], expected: Mapping[str, float]) -> dict[str, float]:
    """Seconds from the start of each job to the end of the longest chain that it begins."""
    found: dict[str, float] = {}
    for job in reversed(jobs):  # whoever needs a job stands behind it
        after = [found[other.name] for other in jobs if job.name in other.needs]
        found[job.name] = expected[job.name] + max(after, default=0.0)
    return found


def next_job(
    jobs: Sequence[Job], over: Collection[str], begun: Collection[str], tail: Mapping[str, float]
) -> Job | None:
    """Of the jobs whose needs are over the one with the longest tail; None if none is free.

    Of equal ones those that were prepared go first: replies to what was learned are the longer.
    """
    free = [
        job
        for job in jobs
        if job.name not in over and job.name not in begun and set(job.needs) <= set(over)
    ]
    return max(free, key=lambda job: (tail[job.name], len(job.needs)), default=None)


@dataclass(slots=True)
class State:
    """How far a bench is: names of jobs, with seconds where they are known."""

    over: dict[str, float] = field(default_factory=dict)
    began: dict[str, float] = field(default_factory=dict)
    failed: dict[str, Exception] = field(default_factory=dict)


def drive(
    jobs: Sequence[Job],
    state: State,
    expected: Mapping[str, float],
    submit: Callable[[Job], Future[float]],
    slots: int,
    told: Callable[[Job], None],
) -> None:
    """Run all jobs that are not over, `slots` at once; `told` hears of each that ends.

    What a failed job leaves undone behind it is left alone. Raises RunError if a process dies.
    """
    tail = tails(jobs, expected)
    waiting: dict[Future[float], Job] = {}
    while True:
        begun = {*state.began, *state.failed}
        while len(waiting) < slots and (job := next_job(jobs, state.over, begun, tail)):
            waiting[submit(job)] = job
            state.began[job.name] = time.monotonic()
            begun.add(job.name)
        if not waiting:
            return
        for future in wait(waiting, return_when=FIRST_COMPLETED).done:
            job = waiting.pop(future)
            del state.began[job.name]
            error = future.exception()
            if isinstance(error, BrokenExecutor):
                raise RunError(
                    "A process of the bench died, perhaps for want of memory; give the same "
                    "command with the same --run, and fewer --jobs, to go on."
                ) from error
            if error is None:
                state.over[job.name] = future.result()
            elif isinstance(error, Exception):
                state.failed[job.name] = error
            else:
                raise error
            told(job)


def raise_failures(jobs: Sequence[Job], state: State, root: object) -> None:
    """Raise one error that names what failed: BudgetStop if budgets alone stopped it."""
    if not state.failed:
        return
    labels = {job.name: job.label for job in jobs}
    causes = "; ".join(f"{labels[name]}: {error}" for name, error in state.failed.items())
    undone = sum(job.name not in state.over for job in jobs)
    kind = TfgrpoError
    if all(isinstance(error, BudgetStop) for error in state.failed.values()):
        kind = BudgetStop
    raise kind(
        f"{undone} of {len(jobs)} jobs are not done ({causes}). Mend that and give the same "
        f"command with --run {root} to go on."
    ) from next(iter(state.failed.values()))
