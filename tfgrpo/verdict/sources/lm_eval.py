"""Samples of lm-evaluation-harness: `samples_TASK_DATE.jsonl`, which --log_samples writes.

A line holds one document under one filter: `resps` are the raw replies, `filtered_resps` what the
filter made of them, and each metric is a key. A filter that keeps one of several replies (the
first, or their majority) makes one sample, one that keeps k makes k. Every filter is a verifier of
its own, and so an arm. Further files of a task and model are further draws.

A document is known by its own `task_id` where it has one, else by its number in the task. What
`verdict.export` writes carries the rest of each sample under the key "tfgrpo".
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfgrpo.errors import ConfigError
from tfgrpo.verdict.sources.collect import ArmKey, Collector
from tfgrpo.verdict.sources.grading import Grading
from tfgrpo.verdict.sources.lm_eval_facts import Companion, companion_of, sampling_of, task_of
from tfgrpo.verdict.sources.lm_eval_own import INVALID, OWN, add_own, own_part
from tfgrpo.verdict.sources.rows import Notice, json_lines

METRICS = ("exact_match", "acc")
"""The metrics that say what is right where there are several; the first that is there."""

MAX_ANSWER = 200
"""Characters of an answer; of longer ones (a filter may keep all of a reply) a hash is kept."""

_STANDARD = (
    "doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics",
    "doc_hash", "prompt_hash", "target_hash", OWN,
)  # fmt: skip
_RUN = 1 << 32  # each file of a task has as many numbers for its samples

Sample = tuple[bool | None, str | None]


def is_lm_eval(names: Sequence[str]) -> bool:
    return {"doc_id", "resps", "filtered_resps"} <= set(names)


class LmEvalReader:
    """Reads the files of one source into `collector`, and knows which it has read."""

    def __init__(self, collector: Collector, grading: Grading, notice: Notice) -> None:
        self._collector = collector
        self._grading = grading
        self._notice = notice
        self._wanted, _, self._filter = (grading.score or "").partition(",")
        self._drawn: dict[tuple[str, str], dict[bytes, Path]] = {}

    def read(self, path: Path) -> None:
        """Feed all samples of one file to the collector.

        Raises:
            ConfigError: for a line that cannot be read, a metric or filter that is not there, or
                replies that another file holds already.
        """
        self._collector.begin(path)
        companion = companion_of(path, self._notice)
        drawn = self._drawn.setdefault((companion.model, task_of(path)), {})
        digest = hashlib.sha256()
        filters: dict[str, ArmKey | None] = {}
        for line, row in json_lines(path, self._notice):
            try:
                # Our own export numbers its samples, so that one which is there twice is found.
                said = path if OWN in row else (row["doc_id"], row["resps"])
                digest.update(repr(said).encode("utf-8", "backslashreplace"))
                name = str(row.get("filter", "none"))
                if self._filter in ("", name):
                    arm = filters.get(name) or self._arm(path, name, row, companion)
                    self._add(arm, path, line, row, len(drawn) * _RUN)
                    filters[name] = arm
                else:
                    filters.setdefault(name, None)
            except ValueError as error:
                raise ConfigError(f"{path}, line {line}: {error}.") from None
            except (TypeError, LookupError, AttributeError, OverflowError, RecursionError):
                raise ConfigError(
                    f"{path}, line {line}, is no sample of lm-eval; correct or remove it."
                ) from None
        if not any(filters.values()):
            known = ", ".join(sorted(filters)) or "none"
            raise ConfigError(f"{path} has no filter {self._filter!r}; choose from {known}.")
        other = drawn.setdefault(digest.digest(), path)
        if other != path:
            raise ConfigError(
                f"{path} holds the very replies of {other}, which are no new draws; remove one."
            )

    def _arm(self, path: Path, name: str, row: Mapping[str, Any], companion: Companion) -> ArmKey:
        seed = own_part(row).seed if OWN in row else None
        arm, task = ArmKey((companion.model, name), seed), task_of(path)
        facts = dict(companion.facts(task))
        facts["reward"] = self._grading.verifier(f"{self._metric(row)},{name}")
        if sampling := sampling_of(row):
            facts["sampling"] = sampling
        if OWN in row and companion.protocol is not None:
            facts = dict(companion.protocol)
        self._collector.declare(arm, task, facts)
        return arm

    def _add(self, arm: ArmKey, path: Path, line: int, row: Mapping[str, Any], first: int) -> None:
        task, doc = task_of(path), row["doc"]
        known = doc.get("task_id") if isinstance(doc, dict) else None
        problem = known if isinstance(known, str) else f"{task}:{row['doc_id']}"
        if OWN in row:
            add_own(self._collector, arm, problem, line, row)
            return
        metric = self._metric(row)
        for i, (correct, answer) in enumerate(_samples(row, metric, self._grading)):
            self._collector.add(arm, task, problem, line, correct, first + i, answer)

    def _metric(self, row: Mapping[str, Any]) -> str:
        found = row.get("metrics")
        if not isinstance(found, list):
            found = [k for k in row if k not in _STANDARD and isinstance(row[k], int | float)]
        if self._wanted and self._wanted in row:
            return self._wanted
        if not found:
            raise TypeError
        known = [name for name in METRICS if name in found]
        if self._wanted or not (known or len(found) == 1):
            raise ValueError(
                "it is not told which metric says what is right; name one of "
                f"{', '.join(map(str, found))} (tfgrpo samples convert --score)"
            )
        return str((known or found)[0])


def _samples(row: Mapping[str, Any], metric: str, grading: Grading) -> Iterator[Sample]:
    """Each filtered reply with its grade."""
    kept, value = row["filtered_resps"], row.get(metric)
    if _is_choice(row):
        # Only `acc` takes the likeliest choice; other metrics weigh likelihoods by length.
        known = metric == "acc" and len(kept) > 1
        yield grading.verdict(value), _likeliest(kept) if known else None
        return
    replies = kept[0] if len(kept) == 1 and isinstance(kept[0], list) else kept[:1]
    values = value if isinstance(value, list) else [value]
    if len(values) != len(replies):
        raise ValueError(
            f"{metric} has one value for {len(replies)} replies, which does not tell the right "
            "ones; log samples under a filter that keeps one (take_first)"
        )
    for reply, own in zip(replies, values, strict=True):
        yield grading.verdict(own), _answer(reply)


def _is_choice(row: Mapping[str, Any]) -> bool:
    """Whether the replies are likelihoods of choices: pairs of a number and "is greedy"."""
    kept = row["filtered_resps"]
    return all(isinstance(r, list) and len(r) == 2 and r[1] in ("True", "False") for r in kept)


def _likeliest(kept: Sequence[Sequence[str]]) -> str:
    try:
        return str(max(range(len(kept)), key=lambda i: float(kept[i][0])))
    except ValueError:
        raise TypeError from None


def _answer(reply: object) -> str | None:
    text = str(reply)
    if text in ("", INVALID):
        return None
    if len(text) <= MAX_ANSWER:
        return text
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()
