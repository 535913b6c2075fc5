"""What an evaluated policy was shown that would give its problems away."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tfgrpo import config
from tfgrpo.errors import ConfigError
from tfgrpo.experience.files import load_library
from tfgrpo.experience.guard import leaks, normalise
from tfgrpo.policy import fewshot_block
from tfgrpo.seeding import derive_seed
from tfgrpo.types import Task
from tfgrpo.verdict.audit import EXAMPLES, Check

if TYPE_CHECKING:
    from cli.wiring import Bench
    from tfgrpo.runs import RunDir

NAME = "leaks"
NEAR_WORDS = 8
"""Words of a question in a row that are no chance; see `tfgrpo.experience.guard.leaks`."""


@dataclass(frozen=True, slots=True)
class Given:
    """A text that was shown, and what it tells of a problem: its question, or only its gold."""

    text: str
    task: Task
    what: Literal["question", "gold"]


def shown_check(
    run: RunDir, spec: config.EvalSpec, bench: Bench, training: Sequence[Task]
) -> Check:
    """Test questions in the lessons or examples that were shown, or in the cases of a bank.

    A question is bad. A gold by itself is a number that may stand there by chance, so somebody
    should look.
    """
    tasks = bench.tasks.tasks(spec.split, spec.limit, derive_seed(spec.seed, "tasks"))
    try:
        texts = shown_texts(spec, bench)
        seen = seen_cases(run)
        asked = guarded(spec.memory, seen, tasks) if spec.memory and seen else []
    except ConfigError as error:
        advice = "put back what was shown, so that it can be read"
        return Check(NAME, "look", None, f"not looked at: {error}", advice)
    given = [found for text in texts for found in given_away(text, tasks, training)]
    asked += [f"asks {g.task.task_id}: {g.text}" for g in given if g.what == "question"]
    stated = [f"states the gold of {g.task.task_id}: {g.text}" for g in given if g.what == "gold"]
    value, cases = float(len(asked)), len({case_id for case_id, _ in seen})
    finding = (
        f"texts shown {len(texts)}, cases shown {cases}; problems given away {len(asked)}, gold "
        f"answers that stand alone {len(stated)}"
    )
    if asked:
        advice = "remove what gives the problems away and evaluate again"
        return Check(NAME, "bad", value, finding, advice, tuple(asked[:EXAMPLES]))
    if stated:
        advice = "read the examples: numbers may agree by chance"
        return Check(NAME, "look", value, finding, advice, tuple(stated[:EXAMPLES]))
    return Check(NAME, "ok", value, finding)


def shown_texts(spec: config.EvalSpec, bench: Bench) -> list[str]:
    """Lessons, or solved examples, that stood before every question.

    Raises:
        ConfigError: if the library is gone, or what was shown was never kept.
    """
    match spec.policy:
        case config.Learned(path=path):
            return [entry.text for entry in load_library(path).active]
        case config.FewShot(shots=shots):
            seed = derive_seed(spec.seed, "fewshot")
            return [fewshot_block([task]) for task in bench.tasks.tasks("train", shots, seed)]
        case config.Direct():
            raise ConfigError("lessons written on sight are not kept; learn them as a run.")
    return []


def given_away(text: str, tasks: Sequence[Task], training: Sequence[Task]) -> Iterator[Given]:
    """Problems that a text asks, wholly or by `NEAR_WORDS` words in a row, or whose gold it states.

    Words in a row that training questions share are a template, and give nothing away.
    """
    template: bool | None = None
    for task in tasks:
        blind, words = task.without_gold(), len(normalise(task.prompt).split())
        whole = leaks(text, [blind], min_ngram=max(1, words)) is not None
        if not whole and leaks(text, [blind], min_ngram=NEAR_WORDS):
            if template is None:
                blank = [other.without_gold() for other in training]
                template = leaks(text, blank, min_ngram=NEAR_WORDS) is not None
            whole = not template
        if whole:
            yield Given(text, task, "question")
        elif leaks(text, [task], min_ngram=len(text) + 1):
            yield Given(text, task, "gold")


def seen_cases(run: RunDir) -> set[tuple[int, str]]:
    """(case, problem) for every case that a rollout was shown."""
    from cli.sessions import READS

    return {
        (case_id, row["task_id"])
        for row in run.read_rows(READS)
        for shown in row["shown"]
        for case_id in shown or ()
    }


def guarded(
    memory: config.MemorySpec, seen: set[tuple[int, str]], tasks: Sequence[Task]
) -> list[str]:
    """What a strict guard would have withheld of the cases that rollouts did see.

    Raises:
        ConfigError: if the bank or its embedder is gone.
    """
    from cli.banks import make_embedder
    from memory.care.leaks import scan
    from memory.errors import StoreError
    from memory.store import CaseStore
    from memory.types import STATES, CaseFilter
    from tfgrpo.experience.casebook import item_of

    try:
        with CaseStore(memory.path, mode="ro") as store:
            bank = store.cases(CaseFilter(states=STATES))
    except StoreError as error:
        raise ConfigError(str(error)) from error
    items = [item_of(task) for task in tasks]
    report = scan(bank, items, embedder=make_embedder(memory.embedder))
    return [
        f"{leak.rule} ({leak.detail}) in case {leak.case_id} for {leak.item_id}"
        for leak in report.leaks
        if (leak.case_id, leak.item_id) in seen
    ]
