"""What a learning step leaves in its run directory, and how it is read back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from memory.ingest import to_row as memory_row
from tfgrpo.canonical import canonical_json
from tfgrpo.experience.edits import to_row
from tfgrpo.experience.files import OPS
from tfgrpo.experience.learn import Step
from tfgrpo.runs import RunDir, step_row
from tfgrpo.types import RolloutGroup

STEPS, GROUPS, LESSONS, MEMORY = "steps.jsonl", "groups.jsonl", "lessons.jsonl", "memory.jsonl"


class StepWriter:
    """Appends steps to a run. `finished` counts the steps that stand in it already.

    A step that a kill cut short is made again. Its rows are dropped rather than compared: a call
    that failed then may succeed now, and so may a verifier.
    """

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self.finished = sum(1 for _ in run.read_rows(STEPS))
        self._next = {STEPS: self.finished} | {
            name: self._keep(name) for name in (GROUPS, LESSONS, MEMORY, OPS)
        }

    def _keep(self, name: str) -> int:
        """Drop the rows of unfinished steps; the number of rows that are left."""
        rows = list(self._run.read_rows(name))
        whole = [row for row in rows if row["step"] < self.finished]
        if len(whole) < len(rows):
            self._run.write_text(name, "".join(f"{canonical_json(row)}\n" for row in whole))
        return len(whole)

    def write(self, step: Step) -> None:
        """The step's own row comes last: a step without it is not over."""
        for group in step.groups:
            self._row(GROUPS, group_row(step.record.step, group))
        for advantage in step.advantages:
            row = {
                "step": step.record.step,
                "task_id": advantage.task_id,
                "edits": [to_row(edit) for edit in advantage.edits],
                "summaries": [asdict(summary) for summary in advantage.summaries],
                "problems": list(advantage.problems),
            }
            self._row(LESSONS, row)
        if step.memory is not None:
            self._row(MEMORY, memory_row(step.memory))
        for op in step.library.to_ops()[self._next[OPS] :]:
            self._row(OPS, op)
        snapshot = {
            "fingerprint": step.library.fingerprint,
            "entries": {e.id: e.text for e in step.library.active},
        }
        self._run.write_json(f"library/step_{step.record.step:04d}.json", snapshot)
        self._row(
            STEPS,
            {
                **step_row(step.record),
                "consolidation_problems": list(step.consolidation.problems),
                "fingerprint": step.library.fingerprint,
            },
        )

    def _row(self, name: str, row: object) -> None:
        self._run.ensure_row(name, self._next[name], row)
        self._next[name] += 1


def group_row(step: int, group: RolloutGroup) -> dict[str, Any]:
    """One group with its texts, as it was graded."""
    return {
        "step": step,
        "task_id": group.task.task_id,
        "dataset": group.task.dataset,
        "prompt": group.task.prompt,
        "rollouts": [
            {
                "index": r.index,
                "text": r.completion.text,
                "reward": r.score.reward,
                "correct": r.score.correct,
                "answer": r.score.answer,
                "mode": r.score.mode,
                "shown": list(r.shown),
                "tokens": r.completion.usage.completion_tokens,
                "finish": r.completion.finish_reason,
            }
            for r in group.rollouts
        ],
        "failures": [
            {"index": f.index, "stage": f.failure.stage, "reason": f.failure.reason}
            for f in group.failures
        ],
    }
