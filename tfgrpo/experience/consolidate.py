"""From the candidates of a step to one list of edits on the library."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tfgrpo.experience.edits import Add, Delete, Edit, Keep, Merge, Modify, targets_of
from tfgrpo.experience.guard import normalise
from tfgrpo.experience.library import ExperienceLibrary
from tfgrpo.experience.reflect import Reflector, ask_for_edits

CHUNK = 12  # candidates in one call; more make lists that models cut short


@dataclass(frozen=True, slots=True)
class Candidate:
    """An edit that one group proposed. `id` is its name in the prompt, C1, C2, ..."""

    id: str
    edit: Edit
    task_id: str
    dataset: str


@dataclass(frozen=True, slots=True)
class Consolidation:
    """`degraded` counts chunks of candidates from which no edit could be read."""

    edits: tuple[Edit, ...]
    problems: tuple[str, ...] = ()
    degraded: int = 0


def candidate_line(candidate: Candidate) -> str:
    edit = candidate.edit
    match edit:
        case Add():
            said = edit.text
        case Modify():
            said = f"change {edit.target} to: {edit.text}"
        case Merge():
            said = f"merge {', '.join(edit.targets)} into: {edit.text}"
        case Delete():
            said = f"delete {edit.target}: {edit.reason or 'it misled'}"
        case Keep():
            said = f"keep {edit.target}"
    return f"[{candidate.id}] {said}"


def chunks(candidates: Sequence[Candidate]) -> list[tuple[Candidate, ...]]:
    """Candidates from one dataset together, as these may speak of the same thing."""
    by_dataset: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        by_dataset.setdefault(candidate.dataset, []).append(candidate)
    return [
        tuple(group[i : i + CHUNK])
        for group in by_dataset.values()
        for i in range(0, len(group), CHUNK)
    ]


async def consolidate(
    library: ExperienceLibrary, candidates: Sequence[Candidate], editor: Reflector
) -> Consolidation:
    """One reviewed edit list. Without candidates nobody is asked, so nothing can be invented.

    A chunk whose reply stays unreadable changes nothing and is counted as degraded.
    """
    if not candidates:
        return Consolidation(())
    if len(candidates) == 1 and not library.active and isinstance(candidates[0].edit, Add):
        return Consolidation((_credited(candidates[0].edit, candidates),))
    parts = await asyncio.gather(*(_chunk(library, c, editor) for c in chunks(candidates)))
    return Consolidation(
        tuple(e for p in parts for e in p.edits),
        tuple(x for p in parts for x in p.problems),
        sum(p.degraded for p in parts),
    )


async def _chunk(
    library: ExperienceLibrary, candidates: tuple[Candidate, ...], editor: Reflector
) -> Consolidation:
    messages = editor.pack.render(
        "consolidate",
        library=library.render() or "none",
        candidates="\n".join(candidate_line(c) for c in candidates),
        capacity=str(max(0, library.limits.max_entries - len(library.active))),
        max_words=str(library.limits.max_words),
    )
    reply = await ask_for_edits(editor.model, messages, editor, "consolidate")
    edits = tuple(_credited(e, candidates) for e in reply.parsed.edits)
    return Consolidation(edits, reply.problems, int(not reply.readable))


def _credited(edit: Edit, candidates: Sequence[Candidate]) -> Edit:
    """The edit with the tasks behind it: of candidates that it cites, equals, or was shown."""
    by_id: Mapping[str, Candidate] = {c.id: c for c in candidates}
    cited = {c.task_id for e in edit.evidence if (c := by_id.get(e)) is not None}
    if isinstance(edit, Add | Modify | Merge):
        cited |= {c.task_id for c in candidates if _same(c.edit, edit.text)}
    else:
        targets = set(targets_of(edit))
        cited |= {c.task_id for c in candidates if targets & set(targets_of(c.edit))}
    tasks = sorted(cited) or sorted({c.task_id for c in candidates})
    return replace(edit, evidence=tuple(tasks), support=max(1, len(cited)))


def _same(edit: Edit, text: str) -> bool:
    return isinstance(edit, Add | Modify | Merge) and normalise(edit.text) == normalise(text)
