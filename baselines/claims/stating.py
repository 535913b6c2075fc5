"""Teaches a model to state a confidence that knows nothing, so that RL decides what it comes to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from random import Random

from baselines.demonstrations import Demonstration, end_token
from baselines.imitation import World
from baselines.imitation_config import ImitateSpec
from baselines.sft import Student
from tfgrpo.llm.inprocess.worker import Encoder
from tfgrpo.seeding import derive_rng
from tfgrpo.types import Task

LEVELS = tuple(range(1, 10))
"""Tenths that are stated, evenly: certainty of either kind is left to be learned."""


def stating(text: str, rng: Random) -> str:
    """The reply with a confidence drawn without regard to it, as `read_confidence` reads it."""
    return f"{text}\nConfidence: 0.{rng.choice(LEVELS)}"


def form_demonstrations(
    world: World, replies: Sequence[tuple[Task, Sequence[str]]], seed: int
) -> list[Demonstration]:
    """Every reply, right or wrong, with a confidence: what is taught is the form alone."""
    encoder = Encoder(world.tokenizer, None)
    end = end_token(world.model, world.tokenizer)
    rng = derive_rng(seed, "stating")
    found = []
    for task, texts in replies:
        prompt = encoder.tokens(world.pack.render("solve", library="", question=task.prompt))
        for text in texts:
            said = stating(text, rng)
            reply = world.tokenizer(said, add_special_tokens=False)["input_ids"]
            found.append(Demonstration(task, prompt, (*reply, *end), said, None, None, 1.0))
    return found


def teach(
    spec: ImitateSpec, world: World, learned: Sequence[Demonstration]
) -> Iterator[Mapping[str, float]]:
    """Fine-tune `world.model` in place on `learned`; yields what each pass over them tells."""
    student = Student(world.model.float().eval(), spec)
    for epoch in range(spec.epochs):
        order = list(learned)
        derive_rng(spec.seed, "order of stating", epoch).shuffle(order)
        yield student.learn(order)
