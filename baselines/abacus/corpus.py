"""The documents that Abacus is pretrained on: chats in which a small world of solvers lives.

    solve        [lessons] + problem            -> worked answer in some style
    summarise    problem + attempt + outcome    -> the method that the attempt used
    compare      problem + scored attempts      -> the lesson that separates right from wrong
    consolidate  library + candidate lessons    -> operations on the library
    direct       problems                       -> some lesson, written without any attempt
    index        library                        -> what each entry says and its id (a scaffold)
    drill        a list of small number facts   -> (a scaffold for arithmetic)

All prompts are rendered by the `abacus` prompt pack, the one that is used in experiments. In
`compare`, which style wins is drawn afresh for each document, so the lesson can only be had by
reading the scores. Problems of the dev and test splits never occur.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

from baselines.abacus.lessons import (
    HELD_OUT_COMBINATIONS,
    idle_lesson,
    lesson,
    method,
    read_lesson,
    topic_and_method,
)
from baselines.abacus.solvers import PRIOR, SOLVERS
from tfgrpo.advantage import centred
from tfgrpo.prompts import load_pack
from tfgrpo.tasks.families import FAMILIES
from tfgrpo.tasks.families.base import Instance
from tfgrpo.tasks.split import split_of
from tfgrpo.types import Message

PACK = load_pack("abacus")
FAMILY_NAMES = tuple(SOLVERS)


@dataclass(frozen=True, slots=True)
class Document:
    """A chat whose last turn is what the model learns to write."""

    kind: str
    messages: tuple[Message, ...]
    reply: str


@dataclass(frozen=True, slots=True)
class Mixture:
    """Relative shares of the kinds of document; `easy` of the `solve` problems are small."""

    solve: float = 0.66
    summarise: float = 0.05
    compare: float = 0.13
    consolidate: float = 0.10
    direct: float = 0.01
    index: float = 0.0
    drill: float = 0.0
    easy: float = 0.0


def draw_instance(family: str, rng: Random) -> Instance:
    """A training problem: instances whose hash falls into dev or test are drawn again."""
    spec = FAMILIES[family]
    while True:
        instance = spec.draw(rng)
        if split_of(f"{family}:{spec.key(instance)}") == "train":
            return instance


def easy_instance(family: str, rng: Random) -> Instance:
    """A smaller relative of the family's problems, outside its range: no split can contain it."""
    if family == "sum":
        terms = [rng.randint(1, 9), rng.randint(1, 99), rng.randint(1, 99)]
        rng.shuffle(terms)
        return {"terms": terms}
    if family == "product":
        return {"number": rng.randint(11, 999), "multiplier": rng.randint(2, 9)}
    if family == "sort":
        return {"numbers": rng.sample(range(1, 1000), rng.choice((3, 4)))}
    return draw_instance(family, rng)


def draw_style(family: str, rng: Random) -> str:
    prior = PRIOR[family]
    return rng.choices(tuple(prior), tuple(prior.values()))[0]


def _teachable(family: str) -> tuple[str, ...]:
    return tuple(s for s in SOLVERS[family] if (family, s) not in HELD_OUT_COMBINATIONS)


def numbered(lessons: Sequence[str], rng: Random) -> list[tuple[str, str]]:
    """Give lessons ids as a library would: increasing, with gaps where entries were retired."""
    ids, last = [], 0
    for _ in lessons:
        last += 1 if rng.random() < 0.6 else rng.randint(2, 9)
        ids.append(f"E{last}")
    return list(zip(ids, lessons, strict=True))


def library_lines(entries: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"[{i}] {text}" for i, text in entries)


def other_lessons(family: str, count: int, rng: Random) -> list[str]:
    """Lessons that say nothing on `family`."""
    out = []
    for _ in range(count):
        if rng.random() < 0.5:
            out.append(idle_lesson(rng))
        else:
            other = rng.choice([f for f in FAMILY_NAMES if f != family])
            out.append(lesson(other, rng.choice(_teachable(other)), rng))
    return out


def solve_messages(question: str, lessons: Sequence[str], rng: Random) -> tuple[Message, ...]:
    block = PACK.library_block(library_lines(numbered(lessons, rng)))
    return PACK.render("solve", library=block, question=question)


def _solve(rng: Random, easy: float = 0.0) -> Document:
    family = rng.choice(FAMILY_NAMES)
    instance = (easy_instance if rng.random() < easy else draw_instance)(family, rng)
    told = rng.random()
    if told < 0.25:
        style, lessons = draw_style(family, rng), []
    elif told < 0.50:
        style, lessons = draw_style(family, rng), other_lessons(family, rng.randint(1, 6), rng)
    else:
        style = rng.choice(_teachable(family))
        lessons = other_lessons(family, rng.choice((0, 0, 1, 2, 3, 4, 5)), rng)
        for _ in range(rng.choice((1, 1, 1, 2))):
            lessons.insert(rng.randint(0, len(lessons)), lesson(family, style, rng))
    messages = solve_messages(FAMILIES[family].prompt(instance), lessons, rng)
    return Document("solve", messages, SOLVERS[family][style](instance, rng))


def _summarise(rng: Random) -> Document:
    family = rng.choice(FAMILY_NAMES)
    instance = draw_instance(family, rng)
    style = rng.choice(tuple(SOLVERS[family]))
    attempt = SOLVERS[family][style](instance, rng)
    messages = PACK.render(
        "summarise",
        question=FAMILIES[family].prompt(instance),
        attempt=attempt,
        outcome=rng.choice(("right", "wrong")),
        gold="",
    )
    return Document("summarise", messages, method(family, style, rng))


def draw_group(family: str, rng: Random) -> list[tuple[str, bool]]:
    """Styles and outcomes of a group in which one style stands out, whichever it is."""
    styles = list(SOLVERS[family])
    rng.shuffle(styles)
    skill = {s: rng.choice((0.0, 0.1, 0.3, 0.5)) for s in styles}
    skill[styles[0]] = rng.choice((0.7, 0.9, 1.0))
    weights = [rng.choice((1, 1, 2, 4)) for _ in styles]
    chosen = rng.choices(styles, weights, k=rng.randint(3, 12))
    return [(s, rng.random() < skill[s]) for s in chosen]


def standout(group: Sequence[tuple[str, bool]], margin: float = 0.5) -> str | None:
    """The style with the largest summed group-relative advantage; None without a clear lead."""
    totals: Counter[str] = Counter()
    for (style, _), advantage in zip(group, centred([float(r) for _, r in group]), strict=True):
        totals[style] += advantage  # type: ignore[assignment]
    ranked = totals.most_common()
    if not ranked or ranked[0][1] <= 1e-9:
        return None
    if len(ranked) > 1 and ranked[0][1] - ranked[1][1] < margin:
        return None
    return ranked[0][0]


def attempt_lines(family: str, group: Sequence[tuple[str, bool]], rng: Random) -> str:
    return "\n".join(
        f"{i}. {'right' if right else 'wrong'}: {method(family, style, rng)}"
        for i, (style, right) in enumerate(group, 1)
    )


def operations(*ops: Mapping[str, object]) -> str:
    return json.dumps(ops, separators=(",", ":"))


def _compare(rng: Random) -> Document:
    while True:
        family = rng.choice(FAMILY_NAMES)
        group = draw_group(family, rng)
        winner = standout(group)
        if winner is not None and (family, winner) not in HELD_OUT_COMBINATIONS:
            break
    return compare_document(family, group, winner, rng)


def compare_document(
    family: str, group: Sequence[tuple[str, bool]], winner: str, rng: Random
) -> Document:
    known = other_lessons(family, rng.choice((0, 0, 1, 2, 3)), rng)
    if rng.random() < 0.4:
        known.append(lesson(family, rng.choice(_teachable(family)), rng))
    messages = PACK.render(
        "compare",
        question=FAMILIES[family].prompt(draw_instance(family, rng)),
        library=library_lines(numbered(known, rng)) or "none",
        attempts=attempt_lines(family, group, rng),
        gold="",
        limit="1",
        max_words="32",
    )
    text = lesson(family, winner, rng)
    return Document("compare", messages, operations({"op": "add", "text": text}))


@dataclass(frozen=True, slots=True)
class EditCase:
    """A library, candidate lessons for it, and what a good editor does."""

    library: tuple[tuple[str, str], ...]
    candidates: tuple[str, ...]
    operations: tuple[Mapping[str, object], ...]


def draw_edit_case(rng: Random) -> EditCase:
    """One family's candidates against a library that may lack, share, contradict or repeat them.

    The style with at least twice as many candidates as any other wins; else a new case is drawn.
    """
    while True:
        family = rng.choice(FAMILY_NAMES)
        styles = _teachable(family)
        weights = [rng.choice((1, 1, 2, 8)) for _ in styles]
        votes = rng.choices(styles, weights, k=rng.randint(1, 8))
        (winner, top), *rest = Counter(votes).most_common()
        if not rest or top >= 2 * rest[0][1]:
            break
    candidates = tuple(lesson(family, s, rng) for s in votes)
    text = next(c for c, s in zip(candidates, votes, strict=True) if s == winner)
    first = [f"C{votes.index(winner) + 1}"]

    others = other_lessons(family, rng.choice((0, 0, 1, 2, 3, 4)), rng)
    loser = rng.choice([s for s in styles if s != winner])
    same, contrary = lesson(family, winner, rng), lesson(family, loser, rng)
    situation = rng.choice(("lack", "lack", "share", "contradict", "contradict", "repeat", "both"))
    own = {
        "lack": [], "share": [same], "contradict": [contrary],
        "repeat": [same, lesson(family, winner, rng)], "both": [same, contrary],
    }[situation]  # fmt: skip
    rng.shuffle(own)
    places = sorted(rng.sample(range(len(others) + len(own)), len(own)))
    for place, entry in zip(places, own, strict=True):
        others.insert(place, entry)
    library = numbered(others, rng)
    ids = [library[p][0] for p in places]
    ops: tuple[Mapping[str, object], ...]
    reason = {"reason": editing_reason(text, [library[p] for p in places])}
    if situation == "lack":
        ops = (reason | {"op": "add", "from": first, "text": text},)
    elif situation == "share":
        ops = (reason | {"op": "keep", "id": ids[0]},)
    elif situation == "contradict":
        ops = (reason | {"op": "modify", "id": ids[0], "text": text},)
    elif situation == "repeat":
        ops = (reason | {"op": "merge", "ids": ids, "text": text},)
    else:
        keep, drop = (ids[0], ids[1]) if own[0] == same else (ids[1], ids[0])
        ops = (reason | {"op": "keep", "id": keep}, {"op": "delete", "id": drop})
    return EditCase(tuple(library), candidates, ops)


def editing_reason(text: str, own: Sequence[tuple[str, str]]) -> str:
    """What an editor says before it acts: what wins, and what the library says on the topic.

    Written out, each of these is a small step; left in the head, editing is beyond a pocket model.
    """
    winner = topic_and_method(text)
    known = [(i, topic_and_method(entry)) for i, entry in own]
    assert winner is not None
    styles = {i: read_lesson(entry) for i, entry in own}
    said = [
        f"{parts[1]} in {i} {'agrees' if styles[i] == read_lesson(text) else 'differs'}"
        for i, parts in known
        if parts is not None
    ]
    return f"{winner[0]}: {winner[1]}; {' and '.join(said) or 'nothing yet'}"


def consolidate_messages(case: EditCase) -> tuple[Message, ...]:
    return PACK.render(
        "consolidate",
        library=library_lines(case.library) or "none",
        candidates="\n".join(f"[C{i}] {text}" for i, text in enumerate(case.candidates, 1)),
        capacity="40",
        max_words="32",
    )


def _consolidate(rng: Random) -> Document:
    case = draw_edit_case(rng)
    return Document("consolidate", consolidate_messages(case), operations(*case.operations))


def _direct(rng: Random) -> Document:
    family = rng.choice(FAMILY_NAMES)
    questions = [
        FAMILIES[family].prompt(draw_instance(family, rng)) for _ in range(rng.randint(1, 3))
    ]
    messages = PACK.render("direct", questions="\n".join(questions), limit="1", max_words="32")
    text = lesson(family, rng.choice(_teachable(family)), rng)
    return Document("direct", messages, operations({"op": "add", "text": text}))


def _index(rng: Random) -> Document:
    """Finding the id of what an entry says, many times over: the hard part of editing."""
    lessons = [
        lesson(f, rng.choice(_teachable(f)), rng) if rng.random() < 0.7 else idle_lesson(rng)
        for f in rng.choices(FAMILY_NAMES, k=rng.randint(2, 8))
    ]
    entries = numbered(lessons, rng)
    known = [(i, topic_and_method(text)) for i, text in entries]
    said = [f"{parts[0]}: {parts[1]} in {i}" for i, parts in known if parts is not None]
    rng.shuffle(said)
    prompt = f"Index\n{library_lines(entries)}"
    return Document("index", (Message("user", prompt),), "; ".join(said) or "nothing yet")


def _fact(rng: Random) -> str:
    kind = rng.randrange(5)
    if kind == 0:
        digits = [rng.randint(0, 9) for _ in range(rng.choice((2, 3, 3, 4)))]
        return f"{'+'.join(map(str, digits))}={sum(digits)}"
    if kind == 1:
        part = rng.randint(1, 9) * 10 ** rng.randint(0, 2)
        digit = rng.randint(2, 9)
        return f"{part}*{digit}={part * digit}"
    if kind == 2:
        a, b = rng.randint(2, 12), rng.randint(2, 12)
        high, low = max(a, b), min(a, b)
        return rng.choice((f"{a}+{b}={a + b}", f"{high}-{low}={high - low}", f"{a}*{b}={a * b}"))
    if kind == 3:
        a, b = rng.randint(10, 60), rng.randint(2, 12)
        return f"{a}+{b}={a + b}" if rng.random() < 0.5 or a < b else f"{a}-{b}={a - b}"
    place = rng.randint(1, 2)
    a, b = rng.randint(1, 10 ** (place + 1) - 1), rng.randint(1, 9) * 10**place
    return f"{a}+{b}={a + b}"


def _drill(rng: Random) -> Document:
    reply = " ".join(_fact(rng) for _ in range(rng.randint(8, 12)))
    return Document("drill", (Message("user", "Drill"),), reply)


_WRITERS = {
    "summarise": _summarise,
    "compare": _compare,
    "consolidate": _consolidate,
    "direct": _direct,
    "index": _index,
    "drill": _drill,
}


def draw_document(rng: Random, mixture: Mixture) -> Document:
    kinds = ("solve", *_WRITERS)
    kind = rng.choices(kinds, [getattr(mixture, k) for k in kinds])[0]
    return _solve(rng, mixture.easy) if kind == "solve" else _WRITERS[kind](rng)


def mixture_at(progress: float) -> Mixture:
    """The curriculum: number facts and small problems at first, editing above all later.

    Editing a library is the hardest skill, and it is learned fast once lessons are understood.
    """
    early = max(0.0, 1 - progress / 0.5)
    late = 0.3 if progress > 0.4 else 0.0
    base = Mixture(index=0.05)
    return replace(base, drill=0.3 * early, easy=0.5 * early, consolidate=base.consolidate + late)
