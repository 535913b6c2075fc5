"""Policies whose prompt block is fixed: the bare model and every control."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tfgrpo.errors import ConfigError
from tfgrpo.prompts import PromptPack
from tfgrpo.protocols import ChatModel
from tfgrpo.seeding import derive_rng, stable_hash
from tfgrpo.types import Prompt, Task

TokenCounter = Callable[[str], int]


@dataclass(frozen=True, slots=True)
class BlockPolicy:
    """A model that sees the same block of text before every question.

    With an empty block it is the base policy, whose prompt no arm's template may change by a byte.
    """

    model: ChatModel
    pack: PromptPack
    block: str = ""

    @property
    def policy_id(self) -> str:
        suffix = f"+{stable_hash(self.block, digits=8)}" if self.block else ""
        return f"{self.model.model_id}/{self.pack.version}{suffix}"

    def render(self, task: Task, index: int) -> Prompt:
        return Prompt(self.pack.render("solve", library=self.block, question=task.prompt))


def empty_block(pack: PromptPack) -> str:
    """The library's heading with no lesson under it: what the template alone does."""
    return pack.render("library", lines="")[0].content


def placebo_block(pack: PromptPack, tokens: int, count: TokenCounter, seed: int) -> str:
    """Lines that teach nothing, as many tokens of them as the library has, within half a line.

    Raises ConfigError if the pack has no placebo sentences.
    """
    if not pack.placebo:
        raise ConfigError(
            f"The prompt pack {pack.name!r} has no placebo.txt; add one sentence a line."
        )
    rng = derive_rng(seed, "placebo")
    lines: list[str] = []
    while count("\n".join(lines)) < tokens:
        lines.append(f"[E{len(lines) + 1}] {rng.choice(pack.placebo)}")
    if len(lines) > 1:
        over = count("\n".join(lines)) - tokens
        under = tokens - count("\n".join(lines[:-1]))
        lines = lines[:-1] if under < over else lines
    return pack.library_block("\n".join(lines))


def fewshot_block(tasks: Sequence[Task]) -> str:
    """Solved problems in the library's place: the same gold answers, but no reflection on them."""
    shots = [f"{task.prompt}\nAnswer: {task.answer}" for task in tasks if task.answer is not None]
    if not shots:
        raise ConfigError("Few-shot needs problems with gold answers; choose another control.")
    return "\n\n".join(shots)
