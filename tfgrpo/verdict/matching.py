"""Whether evaluations may be compared at all: the same problems, decoding, verifier and prompt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tfgrpo.canonical import canonical_json
from tfgrpo.errors import ConfigError
from tfgrpo.verdict.arms import Evaluation

NAMES: Mapping[str, str] = {
    "problems": "the problems and their gold answers",
    "split": "the split",
    "sampling": "the decoding settings",
    "reward": "the verifier",
    "pack": "the prompt templates",
    "base": "the base model",
}
"""What is compared, in words. Other names in a protocol are compared under their own."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One setting that differs: what most have, and who has something else."""

    name: str
    standard: str
    others: tuple[tuple[str, str], ...]

    @property
    def sentence(self) -> str:
        what = NAMES.get(self.name, self.name)
        told = "; ".join(f"{who} has {value}" for who, value in self.others[:3])
        more = f" and {len(self.others) - 3} more" if len(self.others) > 3 else ""
        return f"{what} differ: most have {self.standard}, but {told}{more}"


def mismatches(
    evaluations: Sequence[Evaluation], meant: Iterable[str] = ()
) -> tuple[Mismatch, ...]:
    """Who differs from the commonest value of a setting, the first of several, if it is known.

    `meant` names arms whose decoding is what they are about (a hotter base): their `sampling` may
    differ.
    """
    free = set(meant)
    found = []
    for name in sorted({name for e in evaluations for name in e.protocol}):
        knowing = [
            e
            for e in evaluations
            if name in e.protocol and (name != "sampling" or e.name not in free)
        ]
        values = [canonical_json(e.protocol[name]) for e in knowing]
        standard = max(values, key=values.count, default="")
        others = [e for e, value in zip(knowing, values, strict=True) if value != standard]
        if others:
            usual = knowing[values.index(standard)].protocol[name]
            odd = [(_who(e), _shown(e.protocol[name], usual)) for e in others]
            found.append(Mismatch(name, _shown(usual, others[0].protocol[name]), tuple(odd)))
    return tuple(found)


def check_matched(
    evaluations: Sequence[Evaluation], force: bool, meant: Iterable[str] = ()
) -> tuple[str, ...]:
    """Stamps for what differs; none if everything matches.

    Raises:
        ConfigError: if something differs and `force` is off.
    """
    found = mismatches(evaluations, meant)
    if found and not force:
        told = ". ".join(_capital(m.sentence) for m in found)
        raise ConfigError(
            f"These runs do not match. {told}. Evaluate them alike, or give --force, which stamps "
            "the result."
        )
    return tuple(f"Forced: {m.sentence}." for m in found)


def shared_settings(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """The settings that are the same in all evaluations that know them."""
    names = sorted({name for e in evaluations for name in e.protocol})
    values = {name: [e.protocol[name] for e in evaluations if name in e.protocol] for name in names}
    return {
        name: found[0]
        for name, found in values.items()
        if len({canonical_json(value) for value in found}) == 1
    }


def _who(evaluation: Evaluation) -> str:
    seed = "" if evaluation.seed is None else f", seed {evaluation.seed}"
    return f"{evaluation.name}{seed}"


def _shown(value: Any, other: Any) -> str:
    """A value beside another one; of two tables only what differs."""
    if isinstance(value, Mapping) and isinstance(other, Mapping):
        keys = sorted(k for k in value.keys() | other.keys() if value.get(k) != other.get(k))
        return ", ".join(f"{key} {_shown(value.get(key), None)}" for key in keys)
    return value if isinstance(value, str) else canonical_json(value)


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
