"""The page of an experience library: each lesson, its history, and the rollouts that taught it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tfgrpo.report.pages.library_records import (
    Attempt,
    Fate,
    Lesson,
    Library,
    LibraryEdit,
    LibraryStep,
    TaughtBy,
)
from tfgrpo.report.pages.parts import (
    Bars,
    Block,
    Column,
    Compare,
    Fact,
    Facts,
    Link,
    Listing,
    Page,
    Prose,
    Tone,
    View,
    table,
)
from tfgrpo.report.pages.shell import render

FATES: dict[str, Tone] = {"accepted": "good", "no change": "plain", "refused": "bad"}
STATUSES: dict[str, Tone] = {"active": "good", "pinned": "good"}
MARKS: dict[str, Tone] = {"right": "good", "wrong": "bad"}


_LESSONS: tuple[Column[Lesson], ...] = (
    Column(label="text", of=lambda e: e.text, kind="text"),
    Column(label="status", of=lambda e: e.status, kind="tag", choice=True, tones=STATUSES),
    Column(
        label="effect", of=lambda e: e.effect, kind="estimate", signed=True, absent="untested",
        hint="Mean reward with it minus without it, over problems in which some rollouts saw it "
        "and others did not; n counts the problems.",
    ),
    Column(label="support", of=lambda e: e.support, kind="number", hint="Groups that back it."),
    Column(label="shown", of=lambda e: e.shown, kind="number", hint="Rollouts that saw it."),
    Column(label="version", of=lambda e: e.version, kind="number", hint="Counts its texts."),
    Column(label="since step", of=lambda e: e.created_step, kind="number"),
    Column(label="written by", of=lambda e: e.model or None, where="page"),
    Column(label="prompts", of=lambda e: e.prompt_version or None, where="page"),
    Column(
        label="taught by", kind="links", to="groups", back="What it taught", where="page",
        of=lambda e: tuple(Link(key, note) for key, note in e.sources),
    ),
    Column(
        label="made from", of=lambda e: _links(e.parents), kind="links", where="page",
        to="lessons", back="Made into",
    ),
)  # fmt: skip

_EDITS: tuple[Column[LibraryEdit], ...] = (
    Column(label="step", of=lambda e: e.step, kind="number"),
    Column(label="operation", of=lambda e: e.op, kind="tag", choice=True),
    Column(label="fate", of=lambda e: e.fate, kind="tag", choice=True, tones=FATES),
    Column(label="code", of=lambda e: e.code, kind="tag", choice=True),
    Column(
        label="experiences", of=lambda e: _links(e.entries), kind="links", to="lessons",
        back="History",
    ),
    Column(label="text", of=lambda e: e.text, kind="text"),
    Column(label="why so", of=lambda e: e.detail or None, hint="What the judge says of it."),
    Column(label="reason given", of=lambda e: e.reason or None, kind="text", where="page"),
    Column(label="by", of=lambda e: e.origin, kind="tag", choice=True, where="table"),
    Column(label="support", of=lambda e: e.support, kind="number", where="page"),
    Column(
        label="evidence", of=lambda e: _links(e.evidence), kind="links", where="page",
        to="groups", back="Edits that rest on it",
    ),
)  # fmt: skip

_STEPS: tuple[Column[LibraryStep], ...] = (
    Column(label="epoch", of=lambda s: s.epoch, kind="number"),
    Column(label="mean reward", of=lambda s: s.reward_mean, kind="number"),
    Column(label="groups", of=lambda s: s.groups),
    Column(label="failures", of=lambda s: s.failures, kind="number", hint="Not graded: no reward."),
    Column(label="experiences", of=lambda s: s.entries, kind="number", hint="After the step."),
    Column(label="problems", of=lambda s: "\n".join(s.problems) or None, kind="text"),
)

_GROUPS: tuple[Column[TaughtBy], ...] = (
    Column(label="step", of=lambda g: g.step, kind="number"),
    Column(label="problem", of=lambda g: g.prompt, kind="text"),
    Column(label="proposed", of=lambda g: g.proposed or None, kind="text"),
    Column(label="dataset", of=lambda g: g.dataset, kind="tag", choice=True),
    Column(label="mean reward", of=lambda g: g.reward_mean, kind="number"),
    Column(label="right", of=lambda g: f"{g.right} of {g.size}"),
    Column(label="failures", of=lambda g: g.failures, kind="number", where="page"),
    Column(label="went wrong", of=lambda g: g.problems or None, kind="text", where="page"),
)

_ATTEMPTS: tuple[Column[Attempt], ...] = (
    Column(
        label="group", of=lambda a: _links([a.group]), kind="links", to="groups", back="Rollouts",
    ),
    Column(
        label="mark", of=lambda a: "right" if a.correct else "wrong", kind="tag", choice=True,
        tones=MARKS,
    ),
    Column(label="reward", of=lambda a: a.reward, kind="number"),
    Column(label="answer", of=lambda a: a.answer, absent="none"),
    Column(label="summary", of=lambda a: a.summary or None, kind="text"),
    Column(label="text", of=lambda a: a.text, kind="text"),
    Column(label="way", of=lambda a: a.mode, where="page"),
    Column(label="tokens", of=lambda a: a.tokens, kind="number", where="page"),
    Column(label="ended by", of=lambda a: a.finish or None, where="page"),
    Column(label="saw", of=lambda a: _links(a.shown), kind="links", to="lessons", where="page"),
)  # fmt: skip


def render_library(library: Library) -> str:
    """The page as one HTML file, see `shell.render`."""
    tables = (
        table("attempts", "rollout", _ATTEMPTS, library.attempts, lambda a: a.key, title="text"),
        table("lessons", "experience", _LESSONS, library.lessons, lambda e: e.id, title="text"),
        table("edits", "edit", _EDITS, library.edits[::-1], lambda e: str(e.number), title="text"),
        table("steps", "step", _STEPS, library.steps, lambda s: str(s.step), title="groups"),
        table("groups", "group", _GROUPS, library.groups, lambda g: g.key, title="problem"),
    )
    views = [
        View("overview", "Overview", _overview(library)),
        View("lessons", "Experiences", (Listing("lessons"),)),
        View("edits", "Edits", (Listing("edits"),)),
    ]
    if len(library.states) > 1:
        views.append(View("changes", "Changes", (Compare("lessons", library.states),)))
    if library.steps:
        views.append(View("steps", "Steps", (Listing("steps"),)))
    if library.groups:
        views.append(View("groups", "Groups", (Listing("groups", library.note),)))
    note = f"Experience library {library.fingerprint[:12]}."
    return render(Page(library.title, note, tables, tuple(views)))


def _overview(library: Library) -> tuple[Block, ...]:
    fates = Counter(edit.fate for edit in library.edits)
    statuses = Counter(lesson.status for lesson in library.lessons)
    active = statuses["active"] + statuses["pinned"]
    told = ", ".join(f"{status} {n:,}" for status, n in sorted(statuses.items()))
    blocks: list[Block] = [
        Facts(
            (
                Fact("in the prompt", f"{active:,}", "experiences"),
                Fact("length", f"{library.tokens:,}", "tokens in every call"),
                Fact("ever made", f"{len(library.lessons):,}", told),
                Fact("edits", f"{len(library.edits):,}", _told(fates)),
            )
        )
    ]
    if library.prompt:
        blocks.append(Prose("As prompts show it", library.prompt, exact=True))
    if library.edits:
        blocks.append(_fates(library.edits))
    if len(library.steps) > 1:
        blocks.append(_rewards(library.steps))
    return tuple(blocks)


def _told(fates: Counter[Fate]) -> str:
    return ", ".join(f"{fates[fate]:,} {fate}" for fate in ("accepted", "refused") if fates[fate])


def _fates(edits: Sequence[LibraryEdit]) -> Bars:
    steps = range(min(e.step for e in edits), max(e.step for e in edits) + 1)
    counts = Counter[tuple[str, int]]((e.fate, e.step) for e in edits)
    series = {fate: tuple(float(counts[fate, s]) for s in steps) for fate in FATES}
    labels = tuple("before" if step < 0 else f"step {step}" for step in steps)
    return Bars("Edits by step, and what became of them", labels, series, FATES)


def _rewards(steps: Sequence[LibraryStep]) -> Bars:
    return Bars(
        "Mean reward of the rollouts by step",
        tuple(f"step {s.step}" for s in steps),
        {"mean reward": tuple(s.reward_mean for s in steps)},
        most=1.0 if all(0 <= s.reward_mean <= 1 for s in steps) else None,
        note="Each step has problems of its own, so that steps differ in difficulty too: "
        "progress is measured by an evaluation on the same problems.",
    )


def _links(keys: Sequence[str]) -> tuple[Link, ...]:
    return tuple(map(Link, keys))
