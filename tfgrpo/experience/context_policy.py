"""A frozen model plus what it has learned in words: a library of experiences, cases, or both."""

from __future__ import annotations

from dataclasses import dataclass

from tfgrpo.experience.casebook import CASE, Casebook
from tfgrpo.experience.library import ExperienceLibrary
from tfgrpo.experience.oplog import Experience, render
from tfgrpo.prompts import PromptPack
from tfgrpo.protocols import ChatModel
from tfgrpo.seeding import derive_rng
from tfgrpo.types import Prompt, Task


@dataclass(frozen=True, slots=True)
class ContextPolicy:
    """Shows the active entries, then cases, then the question; the same in learning and evaluation.

    With `dropout` p > 0 each pair of rollouts sees its own random subset, every entry left out
    with probability p, so that its effect can be estimated from rollouts that are paid anyway.
    """

    model: ChatModel
    pack: PromptPack
    library: ExperienceLibrary
    dropout: float = 0.0
    seed: int = 0
    casebook: Casebook | None = None

    @property
    def policy_id(self) -> str:
        cases = f"+{self.casebook.casebook_id}" if self.casebook else ""
        return f"{self.model.model_id}/{self.pack.version}+{self.library.fingerprint[:8]}{cases}"

    def render(self, task: Task, index: int) -> Prompt:
        entries = self._shown(task, index)
        blocks = [self.pack.library_block(render(entries))]
        ids = [entry.id for entry in entries]
        read = self.casebook.read(task, index) if self.casebook else None
        if self.casebook and read:
            blocks.append(self.casebook.block(read.shown))
            ids += [f"{CASE}{case.id}" for case in read.shown]
        block = "\n\n".join(filter(None, blocks))
        messages = self.pack.render("solve", library=block, question=task.prompt)
        return Prompt(messages, tuple(ids))

    def _shown(self, task: Task, index: int) -> tuple[Experience, ...]:
        if not self.dropout:
            return self.library.active
        rng = derive_rng(self.seed, "dropout", task.task_id, self.library.step, index // 2)
        return tuple(e for e in self.library.active if rng.random() >= self.dropout)
