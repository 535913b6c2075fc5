"""What a bench leaves in its folder besides its runs: arms.json and forecast.json."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cli.forecast import Rates
from cli.stages import Plan
from cli.suites import Suite
from tfgrpo.canonical import canonical_json
from tfgrpo.errors import RunError
from tfgrpo.settings import dump
from tfgrpo.storage import write_atomic

ARMS, FORECAST = "arms.json", "forecast.json"


def write_arms(root: Path, name: str, suite: Suite, plan: Plan) -> None:
    """Which evaluation is which arm, who paid for it, and what is compared with what."""
    document = {
        "schema": 1,
        "suite": name,
        "base": suite.base,
        "arms": plan.arms,
        "duels": suite.duels,
        "square": suite.square,
    }
    write_atomic(root / ARMS, canonical_json(document).encode())


@dataclass(slots=True)
class Record:
    """forecast.json: what was expected of a bench and what it took, over all its sessions.

    `expected_s` is the first forecast, None for a model that cannot be probed; `over` holds the
    seconds of the finished jobs. `actual_s` are those of the whole, without what a session that
    was killed spent after its last finished job.
    """

    root: Path
    expected_s: float | None = None
    rates: Rates | None = None
    how: str = ""
    actual_s: float = 0.0
    expected: dict[str, float] = field(default_factory=dict)
    over: dict[str, float] = field(default_factory=dict)

    def write(self) -> None:
        document = {"schema": 1, **asdict(self)}
        del document["root"]
        write_atomic(self.root / FORECAST, canonical_json(document).encode())


def read_record(root: Path, plan: Plan) -> Record:
    """The record of earlier sessions, or a new one.

    A job is over if it is noted as such and its folder is still there. Raises RunError if a folder
    was made with other settings than the plan's.
    """
    from tfgrpo.runs import RunDir

    standing = [job for job in plan.jobs if (root / job.name / "config.json").is_file()]
    for job in standing:
        RunDir.open(root / job.name).check_config(dump(job.spec))
    path = root / FORECAST
    if not path.is_file():
        return Record(root)
    try:
        found = json.loads(path.read_bytes())
        rates = Rates(**found["rates"]) if found["rates"] else None
        names = {job.name for job in standing}
        return Record(
            root,
            found["expected_s"],
            rates,
            found["how"],
            found["actual_s"],
            found["expected"],
            {name: seconds for name, seconds in found["over"].items() if name in names},
        )
    except (ValueError, KeyError, TypeError):
        raise RunError(f"{path} is damaged; delete it and give the command again.") from None
