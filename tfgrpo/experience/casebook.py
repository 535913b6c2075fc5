"""What a policy shows of a case memory, and what a step of learning puts back into it.

The only file of the context arm that knows `memory`. Each rollout draws its own cases, so that the
rewards of a group tell which cases helped (leave-one-out, see `memory.credit`), and a share of the
rollouts sees none, which tells what the memory as a whole does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from memory.credit import leave_one_out, memory_off
from memory.ingest import CreditedRead, Insight, StepMemory
from memory.read.guard import GuardedItem
from memory.read.reader import Query, Read, Reader, told
from memory.types import Case, CaseIn, Retrieval, Verdict
from tfgrpo.experience.oplog import Experience
from tfgrpo.experience.reflect import Summary
from tfgrpo.prompts import PromptPack
from tfgrpo.seeding import derive_seed, stable_hash
from tfgrpo.types import RolloutGroup, Score, Task

__all__ = ["Casebook", "Practice", "StepMemory", "harvest", "reads_row", "tell"]

CASE = "case:"
"""Marks the ids of cases among those of experiences in what a rollout was shown."""

OUTCOMES: Mapping[bool, Verdict] = {True: "success", False: "failure"}


@dataclass(frozen=True, slots=True)
class Practice:
    """How a learning run uses a bank.

    Attributes:
        run_id: names the run in the bank, for ever.
        ns: namespace of what it adds.
        open: the casebook of a step, read from the bank as it then stands; None shows no cases.
    """

    run_id: str
    ns: str
    open: Callable[[], Casebook | None]


@dataclass(frozen=True, slots=True)
class Casebook:
    """Cases for each rollout of a task: a pure function of (bank, task, index).

    Attributes:
        reader: one state of the bank, with the policy and the guard.
        pack: how cases are told to the model.
        digest: of the state that is read; enters the policy's id.
        seed: of the draws.
        group_size: rollouts of a group; with `off_share`, that share of them sees no case.
        run_id: who reads, for the log.
    """

    reader: Reader
    pack: PromptPack
    digest: str
    seed: int = 0
    group_size: int = 0
    off_share: float = 0.0
    run_id: str | None = None

    @property
    def casebook_id(self) -> str:
        rules = self.reader.rules
        return stable_hash(self.digest, told(rules.policy), rules.guard.mode, self.seed, digits=8)

    def read(self, task: Task, index: int) -> Read | None:
        """What rollout `index` is shown; None where it is to see no memory."""
        if index in self._off(task):
            return None
        return self.reader.read(
            Query(
                item_of(task),
                derive_seed(self.seed, task.task_id, index),
                self.run_id,
                group_id=task.task_id,
                rollout_id=f"{task.task_id}/{index}",
            )
        )

    def block(self, shown: Sequence[Case]) -> str:
        """The cases as they stand in a prompt; empty for none."""
        return self.pack.cases_block([tell(c, i, self.pack) for i, c in enumerate(shown, 1)])

    def _off(self, task: Task) -> frozenset[int]:
        if not self.off_share:
            return frozenset()
        return memory_off(
            self.group_size, self.off_share, derive_seed(self.seed, "off", task.task_id)
        )


def tell(case: Case, number: int, pack: PromptPack) -> str:
    """One case in the words of the pack; a text in it cannot close the case and speak on."""
    outcome = {"success": "right", "failure": "wrong"}.get(case.outcome, "unknown")
    question, plan, reason = map(_quoted, (case.question, case.plan, case.reason))
    return pack.case(number, question, plan, outcome, reason)


def _quoted(text: str) -> str:
    return text.replace("</case", "<\\/case")


def item_of(task: Task) -> GuardedItem:
    answers = () if task.answer is None else (task.answer,)
    return GuardedItem(task.task_id, task.prompt, answers)


def case_of(
    group: RolloutGroup, score: Score, summary: Summary, origin: Mapping[str, Any]
) -> CaseIn:
    """A rollout as a case: the problem, how it was tried, and what came of it; no answer.

    The reward decides what counts as a success, as it does in the group's comparison.
    """
    task = group.task
    return CaseIn(
        question=task.prompt,
        plan=summary.text,
        reward=score.reward,
        outcome=OUTCOMES[score.correct],
        item_id=task.task_id,
        dataset=task.dataset,
        split=task.split,
        rollout_id=f"{task.task_id}/{summary.index}",
        group_id=task.task_id,
        **origin,
    )


def harvest(
    casebook: Casebook | None,
    position: tuple[Practice, int],
    groups: Sequence[RolloutGroup],
    summaries: Mapping[str, Sequence[Summary]],
    library: Sequence[Experience],
    model: str,
) -> StepMemory:
    """All that a step teaches a bank.

    Args:
        casebook: what the rollouts were shown; None if they were shown nothing.
        position: the run and its step.
        groups: the step's groups.
        summaries: by task, of the groups that were compared; others leave no case.
        library: the lessons that hold after the step.
        model: who made the attempts.
    """
    practice, step = position
    run_id, ns = practice.run_id, practice.ns
    cases: list[CaseIn] = []
    reads: list[CreditedRead] = []
    for group in groups:
        scores = {r.index: r.score for r in group.rollouts}
        origin = {"ns": ns, "run_id": run_id, "step": step, "model": model}
        cases += [
            case_of(group, scores[s.index], s, origin)
            for s in summaries.get(group.task.task_id, ())
            if s.text.strip()
        ]
        if casebook is not None:
            reads += credited(casebook, group)
    insights = tuple(
        Insight(e.id, e.text, tuple(sorted({s.task_id for s in e.sources})), e.model)
        for e in library
    )
    return StepMemory(run_id, step, ns, tuple(cases), tuple(reads), insights)


def credited(casebook: Casebook, group: RolloutGroup) -> list[CreditedRead]:
    """Every rollout's read with its leave-one-out advantage; a failed rollout credits nothing."""
    rewards = list(group.rewards)
    informative = len(set(rewards)) > 1
    found = []
    for rollout, advantage in zip(group.rollouts, leave_one_out(rewards), strict=True):
        reward = rollout.score.reward
        found.append(
            CreditedRead(
                _logged(casebook, group.task, rollout.index),
                reward,
                advantage if informative else None,
                reward - advantage if len(rewards) > 1 else None,
            )
        )
    found += [
        CreditedRead(_logged(casebook, group.task, failed.index), None) for failed in group.failures
    ]
    return found


def _logged(casebook: Casebook, task: Task, index: int) -> Retrieval:
    read = casebook.read(task, index)
    if read is not None:
        return read.retrieval
    seen = casebook.reader.read(Query(item_of(task))).retrieval
    policy = told(replace(casebook.reader.rules.policy, k=0))
    return replace(
        seen,
        hits=(),
        policy=policy,
        run_id=casebook.run_id,
        group_id=task.task_id,
        rollout_id=f"{task.task_id}/{index}",
    )


def reads_row(casebook: Casebook, task: Task, n: int) -> dict[str, Any]:
    """What the rollouts of an evaluated task were shown, and what the guard withheld."""
    reads = [casebook.read(task, index) for index in range(n)]
    found = [read for read in reads if read is not None]
    verdicts = found[0].verdicts if found else {}
    return {
        "task_id": task.task_id,
        "shown": [[case.id for case in read.shown] if read else None for read in reads],
        "candidates": {
            str(decision.case_id): [decision.similarity, decision.utility, decision.score]
            for decision in (found[0].ranking.decisions if found else ())
        },
        "blocked": {str(i): v.blocked_by for i, v in verdicts.items() if v.blocked_by},
    }
