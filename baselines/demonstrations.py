"""Which replies are learned, and how much each counts: from sampled groups to demonstrations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from baselines.imitation_config import Distil, Diverse, ImitateSpec, Rejection, SourceSpec
from tfgrpo.llm.transformers_local import end_tokens
from tfgrpo.types import Rollout, RolloutGroup, Score, Task


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A reply to learn, as tokens: the prompt, and the reply with its end token.

    `weight` multiplies the loss of each of its tokens.
    """

    task: Task
    prompt: tuple[int, ...]
    reply: tuple[int, ...]
    text: str
    answer: str | None
    mode: str | None
    weight: float

    @property
    def size(self) -> int:
        return len(self.prompt) + len(self.reply)


def graded(source: SourceSpec) -> bool:
    """Whether gold decides what is learned."""
    return not isinstance(source, Distil) or source.correct_only


def take_all(task: Task, texts: Sequence[str]) -> list[Score]:
    """The grader that asks nobody: every reply is taken, and none is rewarded."""
    return [Score(0.0, True, None) for _ in texts]


def demonstrations(
    spec: ImitateSpec,
    groups: Sequence[RolloutGroup],
    prompt: Callable[[Task], tuple[int, ...]],
    reply: Callable[[Rollout], tuple[int, ...]],
) -> list[Demonstration]:
    """What `groups` give to learn, by problem; a problem may have several groups.

    With `spec.balance` the weights of a problem's replies sum to 1.
    """
    tasks = {group.task.task_id: group.task for group in groups}
    rollouts: dict[str, list[Rollout]] = {task_id: [] for task_id in tasks}
    for group in groups:
        rollouts[group.task.task_id] += group.rollouts
    found: list[Demonstration] = []
    for task_id, task in tasks.items():
        chosen = select(spec.source, rollouts[task_id])
        total = sum(count for _, count in chosen) if spec.balance else 1
        asked = prompt(task)
        found += [
            Demonstration(
                task=task,
                prompt=asked,
                reply=reply(rollout),
                text=rollout.completion.text,
                answer=rollout.score.answer,
                mode=rollout.score.mode,
                weight=count / total,
            )
            for rollout, count in chosen
        ]
    return found


def select(source: SourceSpec, rollouts: Sequence[Rollout]) -> list[tuple[Rollout, int]]:
    """The replies to one problem that are learned, no text twice, and how much each counts.

    A reply that was cut off is never learned: it would teach not to end.
    """
    kept = [r for r in rollouts if r.score.correct and r.completion.finish_reason == "stop"]
    texts = Counter(r.completion.text for r in kept)
    first: dict[str, Rollout] = {}
    for rollout in kept:
        first.setdefault(rollout.completion.text, rollout)
    distinct = list(first.values())
    match source:
        case Distil():
            return [(r, texts[r.completion.text]) for r in distinct]
        case Diverse(keep=keep):
            return [(r, 1) for r in spread(distinct, keep)]
    return [(r, 1) for r in distinct]


def spread(rollouts: Sequence[Rollout], keep: int) -> list[Rollout]:
    """At most `keep` of them: new strategies first, then new answers, then the rarest strategy."""
    left, chosen = list(rollouts), list[Rollout]()
    modes, answers = Counter[str | None](), Counter[str | None]()
    while left and len(chosen) < keep:
        best = min(
            left,
            key=lambda r: (
                modes[r.score.mode] > 0,
                answers[r.score.answer] > 0,
                modes[r.score.mode],
            ),
        )
        left.remove(best)
        chosen.append(best)
        modes[best.score.mode] += 1
        answers[best.score.answer] += 1
    return chosen


def end_token(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """The token that ends a reply, or none: the tokenizer's own among those that the model knows.

    A model that ends at several tokens lists the end of a document beside the end of a turn.
    """
    ends = end_tokens(model, tokenizer)
    return (tokenizer.eos_token_id,) if tokenizer.eos_token_id in ends else ends[:1]


def nothing_to_learn(source: SourceSpec, groups: Sequence[RolloutGroup]) -> str:
    replies = sum(group.n for group in groups)
    failures = [failed.failure.reason for group in groups for failed in group.failures]
    more = f" ({len(failures)} failed, the first because: {failures[0]})" if failures else ""
    wanted = "correct and complete" if graded(source) else "complete"
    advice = "give easier problems, more samples or a larger sampling.max_tokens."
    if isinstance(source, Rejection):
        advice = "give a learning run that solved some problems."
    return f"None of {replies} replies is {wanted}{more}, so there is nothing to learn; {advice}"
