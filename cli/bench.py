"""`tfgrpo bench`: a suite of arms made from and measured on one base, with every seed."""

from __future__ import annotations

import time
from concurrent.futures import Executor
from statistics import fmean
from typing import TYPE_CHECKING, Annotated

import typer

from cli import console, options
from cli.pool import workers

if TYPE_CHECKING:
    from cli.bench_record import Record
    from cli.forecast import Rates
    from cli.stages import Job, Plan


def bench(
    arms: Annotated[
        str,
        typer.Argument(
            help="context: library and placebo; memory: library and cases; full: every arm of "
            "context and weights, with its controls."
        ),
    ] = "context",
    seeds: Annotated[int, typer.Option(help="Learning runs.", min=1)] = 3,
    limit: Annotated[int, typer.Option(help="Held-out problems.", min=20)] = 200,
    n: Annotated[int, typer.Option("--n", help="Samples a problem.", min=1)] = 64,
    tasks: options.Tasks = None,
    model: options.Model = None,
    settings: Annotated[str, typer.Option("--preset", help="As in learn.")] = "abacus",
    jobs: Annotated[int, typer.Option(help="Processes; 1 for a model behind a server.", min=1)] = 2,
    more: options.Set = None,
    run: options.Run = None,
    json: options.Json = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and how long it takes, and stop.")
    ] = False,
) -> None:
    """Learn and train on one base with several seeds; compare base, controls and what was made.

    Problems of the comparison are disjoint from those learned on. Needs no GPU and no key. A bench
    that was stopped goes on when it is given again with the same --run. A setting is for every run
    that knows it, or for one kind of them: --set train.steps=5 (learn, train, imitate, eval).
    """
    from datetime import datetime

    from cli.bench_plan import show_plan
    from cli.bench_record import read_record, write_arms
    from cli.stages import Order, plan_of
    from cli.suites import suite

    chosen = suite(arms)
    root = run or options.RUNS / f"bench-{datetime.now():%Y%m%d-%H%M%S}"
    flags = options.overrides({"tasks": tasks, "model": model}, more)
    plan = plan_of(chosen, Order(root, seeds, limit, n, tuple(flags), settings))
    record = read_record(root, plan)
    with workers(jobs) as pool:
        _forecast(record, plan, pool, jobs)
        if dry_run:
            show_plan(chosen, plan, record, json)
            return
        write_arms(root, arms, chosen, plan)
        _run(record, plan, pool, jobs)
    write_arms(root, arms, chosen, plan)
    if arms == "full":
        from cli.compare import report_bench

        report_bench(root, json)
    else:
        from cli.bench_table import report

        report(root, chosen, plan, json)
    _farewell(record, arms)


def _forecast(record: Record, plan: Plan, pool: Executor, slots: int) -> None:
    """Expect, and tell, how long the jobs take that are not over."""
    from cli.forecast import cost_sentence, expected_seconds, remaining_seconds, spoken

    if len(record.over) == len(plan.jobs):
        return
    if record.rates is None:
        record.rates, record.how = _measured(plan, pool, slots)
    record.expected = expected_seconds(plan, record.rates)
    left = remaining_seconds(plan.jobs, record.expected, record.over, {}, slots)
    known = record.rates is not None or bool(record.over)
    if record.expected_s is None and known and not record.over:
        record.expected_s = left
    jobs = f"{len(plan.jobs) - len(record.over)} of {len(plan.jobs)} jobs"
    when = f"About {spoken(left)} for {jobs}" if known else f"{jobs} are left"
    console.note(f"{when}; {record.how}.")
    if cost := cost_sentence(plan):
        console.note(cost)


def _measured(plan: Plan, pool: Executor, slots: int) -> tuple[Rates | None, str]:
    """The mean of a probe that runs in all processes at once, as the jobs will."""
    from cli.forecast import PROBLEMS, REPLIES, Rates, probe, probed

    given = probed(plan)
    if given is None:
        return None, "the first of them will tell how long they take, as a probe would be paid for"
    found = [future.result() for future in [pool.submit(probe, *given) for _ in range(slots)]]
    sampled = fmean(rates.sampled for rates in found)
    stepped = fmean(rates.stepped for rates in found)
    how = f"measured on {PROBLEMS} problems x up to {REPLIES} replies: {1000 * sampled:.1f} ms each"
    if stepped:
        how += f", {1000 * stepped:.1f} ms in a training step"
    return Rates(sampled, stepped), f"{how}, in {slots} processes at once"


def _run(record: Record, plan: Plan, pool: Executor, slots: int) -> None:
    from cli.forecast import remaining_seconds, spoken
    from cli.schedule import State, drive, raise_failures
    from cli.stage_runs import run_job

    started, before = time.monotonic(), record.actual_s
    state = State(over=record.over)
    record.write()
    with console.progress() as progress:
        bar = progress.add_task("Bench", total=len(plan.jobs), completed=len(state.over), note="")

        def told(job: Job) -> None:
            now = time.monotonic()
            record.actual_s = before + now - started
            record.write()
            elapsed = {name: now - began for name, began in state.began.items()}
            left = remaining_seconds(plan.jobs, record.expected, state.over, elapsed, slots)
            note = f"about {spoken(left)} left"
            progress.update(bar, completed=len(state.over), note=note)
            took = f"{state.over[job.name]:.0f} s" if job.name in state.over else "failed"
            progress.console.print(console.safe(f"{job.label}: {took}, {note}"))

        drive(
            plan.jobs,
            state,
            record.expected,
            lambda job: pool.submit(run_job, record.root, job),
            slots,
            told,
        )
    raise_failures(plan.jobs, state, record.root)


def _farewell(record: Record, suite: str) -> None:
    from cli.forecast import spoken

    expected = "" if record.expected_s is None else f" (expected: {spoken(record.expected_s)})"
    root = record.root
    console.note(f"Took {spoken(record.actual_s)}{expected}. Everything is in {root}.")
    console.note(
        f"Next: tfgrpo compare {root} --report {root}/report"
        if suite == "full"
        else f"Next: tfgrpo experiences history {root / 'learn-0'}    "
        f"tfgrpo eval --policy {root / 'learn-0'} --split dev"
    )
