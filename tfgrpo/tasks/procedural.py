"""Problems that are generated, not stored: unlimited, exactly graded, split by content hash."""

from __future__ import annotations

from collections.abc import Sequence

from tfgrpo.errors import ConfigError, GradingError
from tfgrpo.rewards.extract import TAIL
from tfgrpo.seeding import derive_rng
from tfgrpo.tasks.families import FAMILIES, Family
from tfgrpo.tasks.split import split_of, task_id_of
from tfgrpo.types import Failure, Score, Split, Task

_PATIENCE = 1000  # draws per wanted task before a family counts as exhausted


def make_task(family: Family, instance: dict[str, object]) -> Task:
    key = family.key(instance)
    return Task(
        task_id=task_id_of(family.name, key),
        prompt=family.prompt(instance),
        answer=family.answer(instance),
        dataset=family.name,
        split=split_of(f"{family.name}:{key}"),
        metadata={"instance": instance},
    )


class ProceduralTasks:
    """Tasks of one or more families in equal shares, interleaved.

    The split hashes the canonical instance, so no seed can carry a problem across splits.
    """

    def __init__(self, families: Sequence[str]) -> None:
        unknown = [name for name in families if name not in FAMILIES]
        if unknown:
            raise ConfigError(
                f"There is no task family {', '.join(unknown)}; choose from {', '.join(FAMILIES)}."
            )
        self._families = [FAMILIES[name] for name in dict.fromkeys(families)]

    @property
    def name(self) -> str:
        return ",".join(f.name for f in self._families)

    def tasks(self, split: Split, limit: int, seed: int) -> Sequence[Task]:
        """Draws depend on (seed, family) alone: a larger limit extends a smaller one."""
        streams = [
            self._stream(f, split, -(-limit // len(self._families)), seed) for f in self._families
        ]
        mixed = [task for row in zip(*streams, strict=True) for task in row]
        return tuple(mixed[:limit])

    def _stream(self, family: Family, split: Split, count: int, seed: int) -> list[Task]:
        rng = derive_rng(seed, "tasks", family.name)
        found: dict[str, Task] = {}
        for _ in range(count * _PATIENCE):
            if len(found) >= count:
                break
            task = make_task(family, dict(family.draw(rng)))
            if task.split == split:
                found.setdefault(task.task_id, task)
        else:
            raise ConfigError(
                f"The family {family.name} has fewer than {count} {split} problems; ask for fewer."
            )
        return list(found.values())


class FamilyReward:
    """Grades by the family of the task."""

    def read(self, task: Task, text: str) -> str | None:
        """The canonical final answer of a reply; needs neither gold nor instance."""
        return FAMILIES[task.dataset].read(text)

    def score(self, task: Task, text: str) -> Score | Failure:
        if "instance" not in task.metadata:
            raise GradingError(
                f"Task {task.task_id} carries no instance, as its gold is withheld; "
                "grade it by vote."
            )
        # The strategy of a reply that runs on is read where its answer is, at its end.
        return FAMILIES[task.dataset].grade(task.metadata["instance"], text[-TAIL:])
