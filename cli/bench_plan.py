"""The plan of a bench, for `--dry-run`: what would be made and measured, and how long it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cli import console

if TYPE_CHECKING:
    from cli.bench_record import Record
    from cli.stages import Job, Plan
    from cli.suites import Suite


def show_plan(suite: Suite, plan: Plan, record: Record, json: bool) -> None:
    if json:
        arms = {arm.path: arm for arm in plan.arms}
        console.print_json(
            {
                "expected_s": record.expected_s,
                "jobs": [_row(job, plan, record) for job in plan.jobs],
                "arms": list(arms.values()),
            }
        )
        return
    stages = [
        (job.label, job.kind, ", ".join(job.needs), *_told(job, plan, record))
        for job in plan.jobs
        if job.kind != "eval"
    ]
    made = ("stage", "kind", "after", "replies", "alone")
    console.show(console.table("What is made", made, stages))
    measured = []
    for arm in suite.arms:
        jobs = [plan.job(a.path) for a in plan.arms if a.name == arm.name]
        after = ", ".join(arm.needs)
        told = _told(jobs[0], plan, record)
        measured.append((arm.name, arm.family, after, len(jobs), *told))
    columns = ("arm", "family", "made by", "times", "samples", "each alone")
    console.show(console.table("\nWhat is measured", columns, measured))


def _row(job: Job, plan: Plan, record: Record) -> dict[str, Any]:
    from cli.forecast import work_of

    return {
        "name": job.name,
        "kind": job.kind,
        "needs": job.needs,
        "work": work_of(job, plan),
        "expected_s": record.expected.get(job.name) if record.rates else None,
        "over": job.name in record.over,
    }


def _told(job: Job, plan: Plan, record: Record) -> tuple[str, str]:
    """Replies, and the seconds of the job by itself or what is known of them."""
    from cli.forecast import spoken, work_of

    work = work_of(job, plan)
    replies = console.count(work.sampled + work.stepped)
    if job.name in record.over:
        return replies, "done"
    return replies, spoken(record.expected[job.name]) if record.rates else ""
