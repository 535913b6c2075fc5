"""What this program's own export adds to a line of lm-eval: the rest of each sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tfgrpo.verdict.sources.collect import ArmKey, Collector

OWN = "tfgrpo"
"""The key under which it stands."""

INVALID = "[invalid]"
"""What a filter gives for a reply in which it finds no answer."""

Count = Annotated[int, Field(ge=0, le=1 << 53)]


class OwnPart(BaseModel):
    """One entry of each list for each graded reply; `failures` came on top."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    dataset: str
    correct: list[bool]
    modes: list[str | None]
    entropies: list[float | None]
    lengths: list[Count]
    truncated: Count
    failures: Annotated[int, Field(ge=0, le=1_000_000)]
    seed: int | None


def own_part(row: Mapping[str, Any]) -> OwnPart:
    """Raises ValueError, with the reason, if it is not what the export writes."""
    try:
        return OwnPart.model_validate(row[OWN])
    except ValidationError:
        raise ValueError(f"its part {OWN!r} is damaged; export it again") from None


def add_own(
    collector: Collector, arm: ArmKey, problem: str, line: int, row: Mapping[str, Any]
) -> None:
    """Feed one problem's samples to `collector`. Raises ValueError if the columns do not fit."""
    own, answers = own_part(row), row["filtered_resps"][0]
    columns = (answers, own.correct, own.lengths, own.modes, own.entropies)
    if {len(column) for column in columns} != {len(answers)} or not _texts(answers):
        raise ValueError(f"its part {OWN!r} does not fit its replies; export it again")
    for i, (answer, correct, length, mode, entropy) in enumerate(zip(*columns, strict=True)):
        collector.add(
            arm,
            own.dataset,
            problem,
            line,
            correct,
            i,
            None if answer == INVALID else answer,
            length,
            mode,
            entropy,
            cut_of_all=own.truncated,
        )
    for i in range(own.failures):
        collector.add(arm, own.dataset, problem, line, None, len(answers) + i)


def _texts(answers: object) -> bool:
    return isinstance(answers, list) and all(isinstance(answer, str) for answer in answers)
