"""A little world for the loop: sums that are right half of the time, until a lesson is shown."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tfgrpo.experience.edits import Add, Edit
from tfgrpo.experience.learn import Learner, Step, learn
from tfgrpo.experience.library import ExperienceLibrary
from tfgrpo.experience.reflect import Reflector
from tfgrpo.experience.replies import render_operations
from tfgrpo.llm.scripted import Reply, ScriptedModel
from tfgrpo.prompts import load_pack
from tfgrpo.protocols import ChatModel
from tfgrpo.rewards.table import make_reward
from tfgrpo.rollout import Sampling, gold_grader
from tfgrpo.types import ChatRequest, Failure, Phase, SamplingParams, Score, Task

PACK = load_pack("default")
PARAMS = SamplingParams(seed=5)
LESSON = "When a column passes nine, carry before you go on."
GROUP = 4


def task(number: int, dataset: str = "sums") -> Task:
    prompt = f"What is {number} + {number}?"
    return Task(f"t{number}", prompt, str(2 * number), dataset, "train")


def tasks(count: int) -> tuple[Task, ...]:
    return tuple(task(number) for number in range(101, 101 + count))


def text_of(request: ChatRequest) -> str:
    return "\n".join(message.content for message in request.messages)


def cited(request: ChatRequest) -> tuple[str, ...]:
    """The candidates that a request for consolidation lists."""
    return tuple(re.findall(r"^\[(C\d+)\]", text_of(request), re.MULTILINE))


@dataclass
class World:
    """A script that plays every part. `right(number, taught, index)` is the policy's skill."""

    right: Callable[[int, bool, int], bool | Failure] = lambda number, taught, index: (
        taught or index % 2 == 0
    )
    lessons: Sequence[Edit] = (Add(LESSON),)
    editor: Callable[[ChatRequest], Reply] = lambda request: render_operations(
        [Add(LESSON, evidence=cited(request))]
    )
    model: ScriptedModel = field(init=False)

    def __post_init__(self) -> None:
        self.model = ScriptedModel(self.reply)

    def reply(self, request: ChatRequest, index: int) -> Reply:
        match request.phase:
            case "rollout":
                number = int(request.messages[-1].content.split()[2])
                right = self.right(number, LESSON in text_of(request), index)
                if isinstance(right, Failure):
                    return right
                return f"Attempt {index}.\nAnswer: {2 * number if right else 2 * number - 10}"
            case "summarise":
                return f"Summary {index}: columns were added."
            case "compare":
                return render_operations(self.lessons)
            case _:
                return self.editor(request)

    def asked(self, phase: Phase) -> list[ChatRequest]:
        return [request for request in self.model.calls if request.phase == phase]


def learner_of(model: ChatModel, **changes: Any) -> Learner:
    reflector = Reflector(model, PACK, SamplingParams(seed=6), summarise="always")
    base = Learner(
        model=model,
        pack=PACK,
        reflector=reflector,
        editor=reflector,
        grader=gold_grader(make_reward("exact")),
        sampling=Sampling(GROUP, PARAMS),
        epochs=2,
        batch_size=4,
        seed=3,
    )
    return replace(base, **changes)


def run(
    learner: Learner,
    problems: Sequence[Task],
    library: ExperienceLibrary | None = None,
    first: int = 0,
) -> list[Step]:
    async def go() -> list[Step]:
        start = library or ExperienceLibrary.empty()
        return [step async for step in learn(learner, problems, start, first=first)]

    return asyncio.run(go())


def memory_folder() -> Path | None:
    """Where a folder is made without a disk, if the system has such a place.

    Flushing every row and call to a busy disk takes most of the time of a small run, and only a
    power cut could tell the difference.
    """
    place = Path("/dev/shm")
    return place if os.access(place, os.W_OK) else None


def number_grader(task: Task, texts: Sequence[str]) -> list[Score | Failure]:
    """The reward of a reply is the number that it is."""
    return [Score(float(text), float(text) == 1, text) for text in texts]
