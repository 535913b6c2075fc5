"""The control without rollouts: lessons written on sight of the problems alone.

Training-Free GRPO's own ablation ("directly generated experiences", arXiv 2510.08191): whatever a
learned library gains over this one is owed to comparing attempts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tfgrpo.experience.edits import Edit
from tfgrpo.experience.library import EditContext, ExperienceLibrary
from tfgrpo.experience.reflect import Reflector, ask_for_edits
from tfgrpo.types import Task

TOGETHER = 2  # problems of one dataset that a question shows


async def write_directly(
    writer: Reflector, tasks: Sequence[Task], library: ExperienceLibrary
) -> ExperienceLibrary:
    """The library after one question for every few problems of a dataset; gold is never shown."""
    by_dataset: dict[str, list[Task]] = {}
    for task in tasks:
        by_dataset.setdefault(task.dataset, []).append(task)
    shown = [
        group[i : i + TOGETHER]
        for group in by_dataset.values()
        for i in range(0, len(group), TOGETHER)
    ]

    async def ask(group: Sequence[Task]) -> tuple[Edit, ...]:
        messages = writer.pack.render(
            "direct",
            questions="\n".join(task.prompt for task in group),
            limit=str(writer.max_operations),
            max_words=str(writer.max_words),
        )
        reply = await ask_for_edits(writer.model, messages, writer, "other")
        return reply.parsed.edits[: writer.max_operations]

    replies = await asyncio.gather(*(ask(group) for group in shown))
    context = EditContext(0, writer.model.model_id, writer.pack.version)
    return library.apply([edit for edits in replies for edit in edits], context).library
