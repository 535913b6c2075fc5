"""What could make an evaluation's numbers mean something else than skill, one check for each.

A check has one number, a verdict on it and what to do. `ok`: nothing found. `look`: a person should
see it before the number is used. `bad`: the number does not mean what it says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from tfgrpo.metrics.guessing import guess_floor
from tfgrpo.metrics.pass_at_k import mean_pass_at_k, powers_of_two
from tfgrpo.metrics.proportion import clopper_pearson
from tfgrpo.rewards.extract import extract_answer
from tfgrpo.seeding import derive_rng
from tfgrpo.types import Task, TaskOutcome

Level = Literal["ok", "look", "bad"]
Grade = Callable[[Task, str], bool | None]
"""Whether a verifier takes a reply for right; None if it fails."""

EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Limits:
    """Shares above which a check looks, and above which it is bad."""

    look: float
    bad: float

    def level(self, share: float) -> Level:
        return "bad" if share > self.bad else "look" if share > self.look else "ok"


GUESSED = Limits(0.5, 0.999)
SHUFFLED = Limits(0.02, 0.05)
CONSTANT = Limits(0.2, 0.4)
HEDGED = Limits(0.02, 1.0)
OTHER_VERIFIER = Limits(0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Check:
    """`value` is the number that the verdict rests on, None where it cannot be had.

    `examples` are texts of models, to be made harmless before they are shown.
    """

    name: str
    level: Level
    value: float | None
    finding: str
    advice: str = ""
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sampled:
    """One problem with all that was sampled; `texts` align with the outcome's graded samples.

    `gold` is the canonical gold answer, None where there is none. `failures` name what broke.
    """

    task: Task
    gold: str | None
    outcome: TaskOutcome
    texts: tuple[str, ...]
    failures: tuple[str, ...] = ()


def guessing(samples: Sequence[Sampled], train: Mapping[str, Sequence[str]]) -> Check:
    """pass@k of the k most frequent training answers, as a share of the policy's own pass@k.

    `train` holds canonical training answers by dataset.
    """
    known = [s for s in samples if s.gold is not None and train.get(s.task.dataset)]
    graded = [s for s in known if s.outcome.n]
    if not graded:
        return Check(
            "guessing", "look", None, "no training answers to guess from",
            "give the task set a train split, so that the floor can be drawn",
        )  # fmt: skip
    ks = powers_of_two(min(s.outcome.n for s in graded))
    floors = {k: floor(graded, train, k) for k in ks}
    passes = {k: mean_pass_at_k([s.outcome for s in graded], k) for k in ks}
    shares = {k: min(1.0, floors[k] / passes[k]) if passes[k] else float(floors[k] > 0) for k in ks}
    first = next((k for k, share in shares.items() if share > GUESSED.look), None)
    ends = dict.fromkeys((ks[0], ks[-1]))
    told = ", ".join(f"{percent(floors[k])} of {percent(passes[k])} at k = {k}" for k in ends)
    if first is None:
        return Check("guessing", "ok", shares[1], f"guessing reaches {told}")
    return Check(
        "guessing",
        "bad" if GUESSED.level(shares[1]) == "bad" else "look",
        shares[1],
        f"guessing reaches {told}; more than half of it from k = {first} on",
        f"draw no conclusion from k = {first} or more, or take problems with more answers",
    )


def floor(samples: Sequence[Sampled], train: Mapping[str, Sequence[str]], k: int) -> float:
    """The guess floor, mean over problems; a guesser knows the dataset of a problem.

    A problem without a gold or without training answers counts as never guessed.
    """
    total = 0.0
    for dataset in sorted({s.task.dataset for s in samples}):
        golds = [s.gold for s in samples if s.task.dataset == dataset and s.gold is not None]
        if golds and train.get(dataset):
            total += len(golds) * guess_floor(train[dataset], golds, k)
    return total / len(samples)


def shuffled_gold(
    samples: Sequence[Sampled], grade: Grade, train: Mapping[str, Sequence[str]], seed: int
) -> Check:
    """Replies graded against another problem of their dataset, which a guess floor bounds.

    Partners are a random cycle through each dataset, so that nobody meets itself. Partners with
    equal golds excuse as much. Bad only where the exact lower bound over problems is beyond it.
    """
    pairs = list(_partners([s for s in samples if s.texts], seed))
    if not pairs:
        return Check(
            "shuffled gold", "look", None, "no two problems of one dataset",
            "evaluate more problems",
        )  # fmt: skip
    right = [fmean(bool(grade(other.task, text)) for text in own.texts) for own, other in pairs]
    same = fmean(own.gold is not None and own.gold == other.gold for own, other in pairs)
    share, excused = fmean(right), max(same, floor([own for own, _ in pairs], train, 1))
    low = clopper_pearson(round(share * len(right)), len(right)).low
    level: Level = "ok"
    if share - excused > SHUFFLED.look:
        level = "bad" if low - excused > SHUFFLED.bad else "look"
    finding = (
        f"{percent(share)} right for another problem's gold; guessing explains {percent(excused)}"
    )
    advice = "" if level == "ok" else "read what the verifier accepts: it does not ask for the gold"
    return Check("shuffled gold", level, share, finding, advice)


def constant_answer(samples: Sequence[Sampled]) -> Check:
    """Whether one answer is the most frequent one of many problems, beyond those it is right for.

    Shares are of a dataset's other problems, so that a problem by itself counts for nothing.
    """
    found: list[tuple[float, str]] = []
    by_dataset: dict[str, list[Sampled]] = {}
    for s in samples:
        if any(answer is not None for answer in s.outcome.answers):
            by_dataset.setdefault(s.task.dataset, []).append(s)
    for dataset, group in sorted(by_dataset.items()):
        if len(group) < 2:
            continue
        counts = Counter(a for s in group for a in s.outcome.answers if a is not None)
        answer, times = min(counts.items(), key=lambda item: (-item[1], item[0]))
        ruled = sum(_most_frequent(s.outcome, answer) for s in group)
        right = sum(s.gold == answer for s in group)
        excess = (max(0, ruled - 1) - max(0, right - 1)) / (len(group) - 1)
        told = (
            f"{answer!r} is {percent(times / drawn(group))} of all samples of {dataset} and the "
            f"most frequent answer to {ruled} of {len(group)} problems; it is right for {right}"
        )
        found.append((max(0.0, excess), told))
    if not found:
        return Check("constant answer", "ok", None, "too few answers to repeat one")
    value, told = max(found)
    level = CONSTANT.level(value)
    advice = "" if level == "ok" else "read the replies: the policy answers without the problem"
    return Check("constant answer", level, value, told, advice)


def hedges(samples: Sequence[Sampled]) -> Check:
    """Replies with several different final answers; none of them may count as right."""
    found = [
        (s, text, right)
        for s in samples
        for text, right in zip(s.texts, s.outcome.correct, strict=True)
        if extract_answer(text).status == "conflicting"
    ]
    accepted = [(s, text) for s, text, right in found if right]
    share = share_of(len(found), drawn(samples))
    finding = (
        f"{percent(share)} of samples give several final answers; {len(accepted)} count as right"
    )
    if accepted:
        advice = "grade with a verifier that takes no reply with several final answers"
        examples = tuple(_quoted(s, text) for s, text in accepted[:EXAMPLES])
        return Check("several answers", "bad", share, finding, advice, examples)
    level = HEDGED.level(share)
    advice = "" if level == "ok" else "say in the prompt that one answer is wanted"
    return Check("several answers", level, share, finding, advice)


def graded_again(samples: Sequence[Sampled], grade: Grade, other: str | None = None) -> Check:
    """Samples that a verifier grades otherwise than the record says.

    The run's own verifier must agree with itself; `other` names a second one, with which a
    disagreement is for a person to judge.
    """
    name = "graded again" if other is None else f"graded by {other!r}"
    found: list[str] = []
    unable = 0
    for s in samples:
        for text, right in zip(s.texts, s.outcome.correct, strict=True):
            now = grade(s.task, text)
            unable += now is None
            if now is not None and now != right:
                found.append(f"{'right' if right else 'wrong'} became {_quoted(s, text)}")
    share = share_of(len(found), drawn(samples))
    level: Level = OTHER_VERIFIER.level(share)
    advice = "read the examples: one of the two verifiers errs"
    if other is None:
        level = "bad" if found else "ok"
        advice = "evaluate again: the verifier or the data have changed since, or it is not stable"
    finding = f"{len(found)} of {drawn(samples)} samples are graded otherwise"
    finding += f"; {unable} could not be graded" if unable else ""
    shown = tuple(found[:EXAMPLES])
    return Check(name, level, share, finding, "" if level == "ok" else advice, shown)


def drawn(samples: Sequence[Sampled]) -> int:
    return sum(s.outcome.n for s in samples)


def share_of(count: float, whole: int) -> float:
    return count / whole if whole else 0.0


def percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _partners(samples: Sequence[Sampled], seed: int) -> Iterable[tuple[Sampled, Sampled]]:
    for dataset in sorted({s.task.dataset for s in samples}):
        group = [s for s in samples if s.task.dataset == dataset]
        derive_rng(seed, "shuffled gold", dataset).shuffle(group)
        if len(group) > 1:
            yield from zip(group, [*group[1:], group[0]], strict=True)


def _most_frequent(outcome: TaskOutcome, answer: str) -> bool:
    counts = Counter(a for a in outcome.answers if a is not None)
    return bool(counts) and counts[answer] == max(counts.values())


def _quoted(sampled: Sampled, text: str) -> str:
    words = " ".join(text.split())
    end = words if len(words) <= 120 else f"...{words[-117:]}"
    return f"{sampled.task.task_id} (gold {sampled.task.answer}): {end}"
