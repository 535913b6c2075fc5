"""From a learning run, or a library file, to the page of its experience library."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby, zip_longest
from pathlib import Path
from statistics import fmean
from typing import Any

from tfgrpo.experience.edits import targets_of, to_row
from tfgrpo.experience.effects import effects
from tfgrpo.experience.files import load_library
from tfgrpo.experience.library import ExperienceLibrary
from tfgrpo.experience.oplog import Experience, Outcome, Source, fold, shown
from tfgrpo.experience.record import GROUPS, LESSONS, STEPS
from tfgrpo.report.pages.library import render_library
from tfgrpo.report.pages.library_records import (
    Attempt,
    Fate,
    Lesson,
    Library,
    LibraryEdit,
    LibraryStep,
    TaughtBy,
)
from tfgrpo.report.pages.parts import State
from tfgrpo.runs import RunDir

MOST_ATTEMPTS = 2_000
UNCHANGED = ("kept", "duplicate")
Row = Mapping[str, Any]


def library_page(source: Path) -> str:
    """The page as one HTML file; `source` is whatever `load_library` takes.

    Only a learning run tells of rollouts, and of those only `groups_that_taught` are kept.
    """
    library = load_library(source)
    run = RunDir.open(source) if source.is_dir() else None
    rows = {_key(row): _known(row, library) for row in run.read_rows(GROUPS)} if run else {}
    lessons = {_key(row): row for row in run.read_rows(LESSONS)} if run else {}
    kept = groups_that_taught(library, rows)
    note = f"{len(kept):,} of {len(rows):,} groups: those that taught something."
    return render_library(
        Library(
            title=f"What {source.name} has learned",
            fingerprint=library.fingerprint,
            prompt=library.render(),
            tokens=library.tokens,
            lessons=tuple(_lessons(library, list(rows.values()))),
            edits=tuple(_edit(n, outcome) for n, outcome in enumerate(library.log, 1)),
            states=tuple(_states(library)),
            steps=tuple(_steps(run.read_rows(STEPS))) if run else (),
            groups=tuple(_group(key, rows[key], lessons.get(key, {})) for key in kept),
            attempts=tuple(_attempts(kept, rows, lessons)),
            note=note,
        )
    )


def _key(row: Row) -> str:
    return f"{row['step']}/{row['task_id']}"


def _known(row: Row, library: ExperienceLibrary) -> Row:
    """The group with only experiences under `shown`, where cases may stand too."""
    rollouts = [
        {**r, "shown": [e for e in r["shown"] if e in library.entries]} for r in row["rollouts"]
    ]
    return {**row, "rollouts": rollouts}


def _source_key(source: Source) -> str:
    return f"{source.step}/{source.task_id}"


def groups_that_taught(library: ExperienceLibrary, rows: Mapping[str, Row]) -> list[str]:
    """Keys of `rows` that experiences, or at least edits, rest on, up to MOST_ATTEMPTS rollouts.

    Every experience takes its turn, with its latest group first.
    """
    latest = [[_source_key(s) for s in reversed(e.sources)] for e in library.entries.values()]
    turns = (key for turn in zip_longest(*latest) for key in turn if key in rows)
    evidence = (key for outcome in library.log for key in _evidence(outcome) if key in rows)
    kept: dict[str, None] = {}
    attempts = 0
    for key in dict.fromkeys([*turns, *evidence]):
        attempts += len(rows[key]["rollouts"])
        if attempts > MOST_ATTEMPTS:
            break
        kept[key] = None
    return [key for key in rows if key in kept]


def _evidence(outcome: Outcome) -> tuple[str, ...]:
    return tuple(f"{outcome.step}/{task}" for task in outcome.operation.evidence)


def _lessons(library: ExperienceLibrary, rows: Sequence[Row]) -> Iterator[Lesson]:
    measured = {e.experience_id: e.estimate for e in effects(rows, 0)}
    seen = Counter(entry for row in rows for r in row["rollouts"] for entry in r["shown"])
    for entry in library.entries.values():
        yield Lesson(
            id=entry.id,
            text=entry.text,
            status=entry.status,
            support=entry.support,
            version=entry.version,
            created_step=entry.created_step,
            shown=seen[entry.id] if rows else None,
            effect=measured.get(entry.id),
            sources=tuple((_source_key(s), f"{len(s.attempts)} attempts") for s in entry.sources),
            parents=entry.parents,
            model=entry.model,
            prompt_version=entry.prompt_version,
        )


def _edit(number: int, outcome: Outcome) -> LibraryEdit:
    said = to_row(outcome.operation)
    named = (*targets_of(outcome.operation), *(entry.id for entry in outcome.changes))
    return LibraryEdit(
        number=number,
        step=outcome.step,
        origin=outcome.origin,
        op=said["op"],
        fate=_fate(outcome),
        code=outcome.code,
        entries=tuple(dict.fromkeys(filter(None, named))),
        text=said["text"],
        detail=outcome.detail,
        reason=outcome.operation.reason,
        evidence=_evidence(outcome),
        support=outcome.operation.support,
    )


def _fate(outcome: Outcome) -> Fate:
    if not outcome.accepted:
        return "refused"
    return "no change" if outcome.code in UNCHANGED else "accepted"


def _states(library: ExperienceLibrary) -> Iterator[State]:
    """What prompts showed after each step, and after a person's edits; from nothing on."""
    yield State("at the start", ())
    end = 0
    for (step, by_hand), outcomes in groupby(library.log, lambda o: (o.step, o.origin == "user")):
        end += len(list(outcomes))
        after = "before step 0" if step < 0 else f"after step {step}"
        entries: Iterable[Experience] = shown(fold(library.log[:end]))
        label = f"{after}, by hand" if by_hand else after
        yield State(label, tuple((entry.id, entry.text) for entry in entries))


def _steps(rows: Iterable[Row]) -> Iterator[LibraryStep]:
    for row in rows:
        yield LibraryStep(
            step=row["step"],
            epoch=row["epoch"],
            reward_mean=row["reward_mean"],
            groups=", ".join(f"{kind} {n}" for kind, n in sorted(row["groups"].items())),
            failures=row["failures"],
            entries=row["metrics"].get("entries"),
            problems=tuple(row.get("consolidation_problems", ())),
        )


def _group(key: str, row: Row, lesson: Row) -> TaughtBy:
    rewards = [r["reward"] for r in row["rollouts"]]
    proposed = (
        " ".join(filter(None, [e["op"], *e["targets"], e["text"]])) for e in lesson.get("edits", ())
    )
    return TaughtBy(
        key=key,
        step=row["step"],
        dataset=row["dataset"],
        prompt=row["prompt"],
        reward_mean=fmean(rewards) if rewards else None,
        right=sum(r["correct"] for r in row["rollouts"]),
        size=len(rewards),
        failures=len(row["failures"]),
        proposed="\n".join(proposed),
        problems="\n".join(lesson.get("problems", ())),
    )


def _attempts(
    kept: Sequence[str], rows: Mapping[str, Row], lessons: Mapping[str, Row]
) -> Iterator[Attempt]:
    for key in kept:
        told = {s["index"]: s["text"] for s in lessons.get(key, {}).get("summaries", ())}
        for rollout in rows[key]["rollouts"]:
            yield Attempt(
                key=f"{key}/{rollout['index']}",
                group=key,
                correct=rollout["correct"],
                reward=rollout["reward"],
                answer=rollout["answer"],
                text=rollout["text"],
                summary=told.get(rollout["index"], ""),
                mode=rollout.get("mode"),
                tokens=rollout.get("tokens"),
                finish=rollout.get("finish", ""),
                shown=tuple(rollout["shown"]),
            )
