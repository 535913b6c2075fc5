"""Measure what Abacus can do, each skill on problems and wordings that pretraining never saw."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean
from typing import Any

from baselines.abacus import corpus, lessons
from baselines.abacus.solvers import SOLVERS
from tfgrpo.metrics.pass_at_k import pass_at_k
from tfgrpo.protocols import ChatModel
from tfgrpo.seeding import derive_rng, derive_seed
from tfgrpo.tasks.families import FAMILIES
from tfgrpo.tasks.procedural import FamilyReward, ProceduralTasks
from tfgrpo.types import (
    ChatRequest,
    Completion,
    Failure,
    Message,
    SamplingParams,
    Score,
    Split,
    Task,
)

MAX_TOKENS = 192


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured: problems a family, and samples a problem."""

    problems: int = 64
    samples: int = 64


@dataclass(frozen=True, slots=True)
class FamilyCard:
    """Shares in [0, 1]. `styles` maps a style to (share of samples, accuracy)."""

    pass_at_1: float
    pass_at_8: float
    pass_at_64: float
    styles: Mapping[str, tuple[float, float]]
    gap: float


@dataclass(frozen=True, slots=True)
class Card:
    """Everything that the model card states; see `markdown` for what each line means."""

    families: Mapping[str, FamilyCard]
    pass_at_1: float
    pass_at_64: float
    follows: Mapping[str, float]
    follows_new_sentence: float
    follows_new_frame: float
    follows_held_out_combination: float
    irrelevant_shift: float
    summarises: float
    compares: float
    edits_valid: float
    edits_right: float


async def _ask(
    model: ChatModel, prompts: Sequence[tuple[Message, ...]], seed: int, n: int = 1
) -> list[list[str]]:
    params = SamplingParams(1.0, 1.0, MAX_TOKENS, (), seed)
    replies = await asyncio.gather(
        *(model.complete(ChatRequest(p, params, n, i * n)) for i, p in enumerate(prompts))
    )
    return [[o.text if isinstance(o, Completion) else "" for o in reply] for reply in replies]


def _graded(task: Task, text: str) -> Score:
    score = FamilyReward().score(task, text)
    assert not isinstance(score, Failure)
    return score


async def _solving(
    model: ChatModel, tasks: Sequence[Task], notes: bool, samples: int, rng: Random
) -> dict[str, list[list[Score]]]:
    """Scores by family and problem, with no lesson or with lessons on other things only."""
    prompts = [
        corpus.solve_messages(
            t.prompt, corpus.other_lessons(t.dataset, 3, rng) if notes else [], rng
        )
        for t in tasks
    ]
    texts = await _ask(model, prompts, rng.getrandbits(62), samples)
    found: dict[str, list[list[Score]]] = defaultdict(list)
    for task, replies in zip(tasks, texts, strict=True):
        found[task.dataset].append([_graded(task, text) for text in replies])
    return found


def _shares(groups: Sequence[Sequence[Score]]) -> dict[str, float]:
    modes = Counter(s.mode for group in groups for s in group)
    return {str(mode): n / modes.total() for mode, n in modes.items()}


def family_card(name: str, groups: Sequence[Sequence[Score]]) -> FamilyCard:
    def at(k: int) -> float:
        return fmean(pass_at_k(len(g), sum(s.correct for s in g), k) for g in groups)

    flat = [s for g in groups for s in g]
    styles = {}
    for style in FAMILIES[name].modes:
        own = [s.correct for s in flat if s.mode == style]
        styles[style] = (len(own) / len(flat), fmean(own) if own else 0.0)
    accuracies = [accuracy for _, accuracy in styles.values()]
    n = len(groups[0])
    return FamilyCard(
        at(1), at(min(8, n)), at(min(64, n)), styles, max(accuracies) - min(accuracies)
    )


def _told(family: str, style: str, kind: str, rng: Random) -> list[str]:
    """One lesson on the family among lessons on other things, worded as `kind` says."""
    if kind == "frame":
        own = lessons.lesson_in_new_frame(family, style, rng)
    else:
        own = lessons.lesson(family, style, rng, held_out=kind == "sentence")
    others = corpus.other_lessons(family, rng.choice((0, 1, 2, 3)), rng)
    others.insert(rng.randint(0, len(others)), own)
    return others


async def _following(
    model: ChatModel, tasks: Sequence[Task], kind: str, rng: Random
) -> dict[tuple[str, str], float]:
    """The share of samples in the style that a lesson names, by family and style."""
    cells, prompts = [], []
    for task in tasks:
        for style in SOLVERS[task.dataset]:
            cells.append((task, style))
            told = _told(task.dataset, style, kind, rng)
            prompts.append(corpus.solve_messages(task.prompt, told, rng))
    texts = await _ask(model, prompts, rng.getrandbits(62), 4)
    hits: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for (task, style), replies in zip(cells, texts, strict=True):
        hits[task.dataset, style] += [_graded(task, t).mode == style for t in replies]
    return {cell: fmean(values) for cell, values in hits.items()}


async def _comparing(model: ChatModel, count: int, rng: Random) -> float:
    """Share of groups whose standout style is named, over all styles, none of them preferred."""
    prompts: list[tuple[Message, ...]] = []
    truth: list[tuple[str, str]] = []
    while len(prompts) < count:
        family = rng.choice(corpus.FAMILY_NAMES)
        group = corpus.draw_group(family, rng)
        winner = corpus.standout(group)
        if winner is not None:
            prompts.append(corpus.compare_document(family, group, winner, rng).messages)
            truth.append((family, winner))
    texts = await _ask(model, prompts, rng.getrandbits(62))
    return fmean(
        _operations(t[0]) == [{"op": "add", "text": w}] for t, w in zip(texts, truth, strict=True)
    )


def _operations(text: str) -> list[dict[str, Any]] | None:
    """Operations, each text replaced by what it says, reasons left out; None if unreadable."""
    try:
        return [
            {k: lessons.read_lesson(str(v)) if k == "text" else v
             for k, v in row.items() if k not in ("from", "reason")}
            for row in json.loads(text)
        ]  # fmt: skip
    except (ValueError, AttributeError, TypeError):
        return None


def _is_valid(said: list[dict[str, Any]] | None, ids: set[str]) -> bool:
    """Whether all operations have a known verb and speak of entries that exist."""
    named = {i for op in said or [] for i in op.get("ids") or ([op["id"]] if "id" in op else [])}
    verbs = {"add", "modify", "merge", "delete", "keep"}
    return bool(said) and {op.get("op") for op in said or []} <= verbs and named <= ids


async def _editing(model: ChatModel, count: int, rng: Random) -> tuple[float, float]:
    """Shares of replies that are valid operations on existing entries, and the right ones."""
    cases = [corpus.draw_edit_case(rng) for _ in range(count)]
    prompts = [corpus.consolidate_messages(case) for case in cases]
    texts = await _ask(model, prompts, rng.getrandbits(62))
    valid, right = [], []
    for case, (text,) in zip(cases, texts, strict=True):
        said = _operations(text)
        valid.append(_is_valid(said, {i for i, _ in case.library}))
        right.append(said == _operations(json.dumps(list(case.operations))))
    return fmean(valid), fmean(right)


async def _summarising(model: ChatModel, tasks: Sequence[Task], rng: Random) -> float:
    """Share of attempts, all styles alike, whose method is named in any of its wordings."""
    prompts, truth = [], []
    for task in tasks:
        for style, solver in SOLVERS[task.dataset].items():
            attempt = solver(task.metadata["instance"], rng)
            outcome = "right" if _graded(task, attempt).correct else "wrong"
            prompts.append(
                corpus.PACK.render(
                    "summarise", question=task.prompt, attempt=attempt, outcome=outcome, gold=""
                )
            )
            truth.append((task.dataset, style))
    texts = await _ask(model, prompts, rng.getrandbits(62))
    return fmean(
        lessons.read_method(t[0], family) == style
        for t, (family, style) in zip(texts, truth, strict=True)
    )


async def measure(model: ChatModel, size: Size, seed: int, split: Split = "test") -> Card:
    """All figures of the card. Chance at comparing is one in four.

    Whoever changes the recipe looks at dev; the card that is published is of test.
    """
    tasks = ProceduralTasks(corpus.FAMILY_NAMES).tasks(
        split, size.problems * len(corpus.FAMILY_NAMES), derive_seed(seed, "card")
    )
    few = tasks[: max(16, len(tasks) // 4)]
    rng = derive_rng(seed, "card")
    alone = await _solving(model, tasks, False, size.samples, rng)
    noted = await _solving(model, tasks, True, size.samples, rng)
    families = {name: family_card(name, groups) for name, groups in alone.items()}
    shift = max(
        abs(_shares(alone[name]).get(style, 0.0) - _shares(noted[name]).get(style, 0.0))
        for name in alone
        for style in FAMILIES[name].modes
    )
    held = lessons.HELD_OUT_COMBINATIONS
    sentence = await _following(model, few, "sentence", rng)
    frame = await _following(model, few, "frame", rng)
    valid, right = await _editing(model, 4 * size.problems, rng)
    return Card(
        families=families,
        pass_at_1=fmean(f.pass_at_1 for f in families.values()),
        pass_at_64=fmean(f.pass_at_64 for f in families.values()),
        follows={f"{f}/{s}": v for (f, s), v in sentence.items()},
        follows_new_sentence=fmean(v for c, v in sentence.items() if c not in held),
        follows_new_frame=fmean(v for c, v in frame.items() if c not in held),
        follows_held_out_combination=fmean(v for c, v in sentence.items() if c in held),
        irrelevant_shift=shift,
        summarises=await _summarising(model, few, rng),
        compares=await _comparing(model, 4 * size.problems, rng),
        edits_valid=valid,
        edits_right=right,
    )


def markdown(card: Card) -> str:
    """The tables of the model card."""

    def p(share: float) -> str:
        return f"{100 * share:.1f}"

    lines = [
        "| family | pass@1 | pass@8 | pass@64 | styles: share of samples / accuracy | gap |",
        "|---|---|---|---|---|---|",
    ]
    for name, f in card.families.items():
        styles = ", ".join(f"{s} {p(share)} / {p(right)}" for s, (share, right) in f.styles.items())
        lines.append(
            f"| {name} | {p(f.pass_at_1)} | {p(f.pass_at_8)} | {p(f.pass_at_64)} | {styles} "
            f"| {p(f.gap)} |"
        )
    smallest = min(share for f in card.families.values() for share, _ in f.styles.values())
    lines += [
        "",
        "| skill | measured | aim |",
        "|---|---|---|",
        f"| pass@1, mean of families | {p(card.pass_at_1)} | 20 to 50 |",
        f"| pass@64, mean of families | {p(card.pass_at_64)} | at least 85 |",
        f"| smallest share of a style | {p(smallest)} | at least 5 |",
        f"| smallest gap between best and worst style | "
        f"{p(min(f.gap for f in card.families.values()))} | at least 20 |",
        f"| follows a lesson in an unseen sentence | {p(card.follows_new_sentence)} "
        "| at least 80 |",
        f"| follows a lesson in an unseen frame | {p(card.follows_new_frame)} | at least 80 |",
        f"| follows a lesson on an unseen (family, style) | "
        f"{p(card.follows_held_out_combination)} | reported |",
        f"| largest shift of a style's share by irrelevant lessons | "
        f"{p(card.irrelevant_shift)} | below 5 |",
        f"| names an attempt's method | {p(card.summarises)} | reported |",
        f"| names what separates right from wrong (chance 25) | {p(card.compares)} | at least 70 |",
        f"| valid library operations | {p(card.edits_valid)} | at least 95 |",
        f"| the right library operations | {p(card.edits_right)} | at least 80 |",
    ]
    return "\n".join(lines)
