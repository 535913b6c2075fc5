"""A frozen model plus an experience library: the policy that Training-Free GRPO moves."""

from __future__ import annotations

from dataclasses import dataclass

from tfgrpo.experience.library import ExperienceLibrary
from tfgrpo.experience.oplog import Experience, render
from tfgrpo.prompts import PromptPack
from tfgrpo.protocols import ChatModel
from tfgrpo.seeding import derive_rng
from tfgrpo.types import Prompt, Task


@dataclass(frozen=True, slots=True)
class ContextPolicy:
    """Shows the active entries before the question; the same in learning and in evaluation.

    With `dropout` p > 0 each pair of rollouts sees its own random subset, every entry left out
    with probability p, so that its effect can be estimated from rollouts that are paid anyway.
    """

    model: ChatModel
    pack: PromptPack
    library: ExperienceLibrary
    dropout: float = 0.0
    seed: int = 0

    @property
    def policy_id(self) -> str:
        return f"{self.model.model_id}/{self.pack.version}+{self.library.fingerprint[:8]}"

    def render(self, task: Task, index: int) -> Prompt:
        entries = self._shown(task, index)
        block = self.pack.library_block(render(entries))
        messages = self.pack.render("solve", library=block, question=task.prompt)
        return Prompt(messages, tuple(entry.id for entry in entries))

    def _shown(self, task: Task, index: int) -> tuple[Experience, ...]:
        if not self.dropout:
            return self.library.active
        rng = derive_rng(self.seed, "dropout", task.task_id, self.library.step, index // 2)
        return tuple(e for e in self.library.active if rng.random() >= self.dropout)
