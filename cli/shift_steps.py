"""The shift along learning: the library after each step, on the axis of evaluated policies."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli import console, wiring
from cli.shift import own_folder, stacked, write
from tfgrpo import config
from tfgrpo.errors import ConfigError, RunError
from tfgrpo.protocols import Policy
from tfgrpo.runs import RunDir
from tfgrpo.seeding import derive_seed
from tfgrpo.types import RolloutGroup, Task, TaskOutcome

if TYPE_CHECKING:
    from baselines.shift.estimates import ReplyShift
    from cli.shift_runs import Choice, Scorer
    from tfgrpo.experience.library import ExperienceLibrary
    from tfgrpo.rollout import Sampling

PROBLEMS = 16
"""Problems that each library is tried on, unless the user says how many."""

BEFORE = -1
"""The step of the bare model, as a library counts that has not learned."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What a policy did on the fixed problems."""

    replies: tuple[ReplyShift, ...]
    outcomes: tuple[TaskOutcome, ...]


def report_steps(
    runs: Sequence[Path], choice: Choice, exact: bool, folder: Path | None, json: bool
) -> None:
    """One row for each step of a learning run, written and shown."""
    if len(runs) != 1:
        raise ConfigError("--steps follows one learning run; give one folder.")
    rows = step_rows(runs[0], choice, exact)
    written = write(rows, folder or own_folder(runs, {"steps": str(runs[0]), "seed": choice.seed}))
    if json:
        console.print_json(rows)
        return
    lines = [
        (
            "before" if r["step"] == BEFORE else r["step"],
            r["lessons"],
            f"{r['entropy'].value:.3f}",
            f"{r['kl_per_token'].value:.3f}",
            stacked(r["kl_per_reply"]),
            "" if r["gain"] is None else console.points(r["gain"]).replace(" ", "\n", 1),
        )
        for r in rows
    ]
    title = f"Shift of the library by step in nats, {rows[0]['problems']} dev problems"
    columns = ("step", "lessons", "entropy", "KL\na token", "KL\na reply", "gain in\npass@1")
    console.show(console.table(title, columns, lines))
    console.note(f"Wrote {console.safe(written)}.")


def step_rows(path: Path, choice: Choice, exact: bool) -> list[dict[str, Any]]:
    """The bare model, then the library after each step: KL(policy || base) on its own replies.

    Each library answers the same dev problems afresh at temperature 1, under the same random
    numbers, so that a step without edits changes nothing; equal libraries are tried once. What is
    measured is what `shift` measures of an evaluation. Cases of a memory are left out.

    Raises:
        ConfigError: if this is no learning run, its model is hosted, or no dev problems exist.
        RunError: if its log does not give the libraries that its steps name.
    """
    from baselines.shift.estimates import gain_of, shift_of
    from cli.shift_runs import scorer
    from tfgrpo.experience.context_policy import ContextPolicy
    from tfgrpo.policy import BlockPolicy
    from tfgrpo.prompts import load_pack
    from tfgrpo.settings import load

    run = RunDir.open(path)
    if run.kind != "learn":
        raise ConfigError(f"{path} is no learning run; --steps takes what `tfgrpo learn` wrote.")
    spec = load(config.LearnSpec, None, (), run.config)
    libraries, pack = libraries_of(run), load_pack(spec.pack)
    with scorer(spec.model) as own:
        trial = Trial(spec, own, BlockPolicy(own.chat, pack), choice, exact)
        tried = {"": trial.of(trial.bare)}
        rows: list[dict[str, Any]] = []
        for step, library in libraries.items():
            text = library.render()
            if text not in tried:
                tried[text] = trial.of(ContextPolicy(own.chat, pack, library))
            shift = shift_of(tried[text].replies, choice.seed)
            gain, rate = gain_of(
                tried[text].replies, tried[""].outcomes, tried[text].outcomes, choice.seed
            )
            rows.append(
                {
                    "step": step,
                    "lessons": len(library.active),
                    "estimator": "exact" if exact else "k3",
                    **shift.row(),
                    "gain": gain,
                    "points_per_nat": rate,
                }
            )
    return rows


def libraries_of(run: RunDir) -> dict[int, ExperienceLibrary]:
    """The library before learning and after each finished step."""
    from tfgrpo.experience.files import OPS
    from tfgrpo.experience.library import replay
    from tfgrpo.experience.record import STEPS

    whole = replay(run.read_rows(OPS))
    found = {BEFORE: whole.at(BEFORE)}
    for row in run.read_rows(STEPS):
        found[row["step"]] = whole.at(row["step"])
        if found[row["step"]].fingerprint != row["fingerprint"]:
            raise RunError(f"Step {row['step']} of {run.path} cannot be replayed; learn anew.")
    if len(found) == 1:
        raise RunError(f"{run.path} has no finished step; give its command again.")
    return found


class Trial:
    """Fixed problems, random numbers and base, on which one policy after the other is tried."""

    def __init__(
        self, spec: config.LearnSpec, own: Scorer, bare: Policy, choice: Choice, exact: bool
    ) -> None:
        from tfgrpo.rollout import Sampling, gold_grader
        from tfgrpo.types import SamplingParams

        bench = wiring.build_tasks(spec.tasks, spec.reward)
        seed = derive_seed(choice.seed, "shift", "steps")
        self.tasks: Sequence[Task] = bench.tasks.tasks("dev", choice.problems or PROBLEMS, seed)
        if len(self.tasks) < 2:
            raise ConfigError(
                f"--steps needs at least 2 dev problems, and the tasks {bench.tasks.name} have "
                f"{len(self.tasks)}; learn on tasks with a dev split."
            )
        params = SamplingParams(1.0, 1.0, spec.sampling.max_tokens, spec.sampling.stop, seed)
        self.sampling: Sampling = Sampling(choice.samples, params, "evaluate", detail=True)
        self.grade = gold_grader(bench.reward)
        self.own, self.bare, self.exact = own, bare, exact

    def of(self, policy: Policy) -> Tried:
        """Sample `policy` and score its replies beside the bare model."""
        from baselines.shift.estimates import ReplyShift
        from baselines.shift.forcing import Told, shifts
        from tfgrpo.evaluation import evaluate

        groups: list[RolloutGroup] = []
        outcomes = asyncio.run(
            evaluate(policy, self.tasks, self.grade, self.sampling, groups.append)
        )
        drawn = [(g.task, r) for g in groups for r in g.rollouts if r.completion.token_ids]
        if len({task.task_id for task, _ in drawn}) < 2:
            reasons = {f.failure.reason for g in groups for f in g.failures}
            raise RunError(
                f"Fewer than 2 problems got a reply ({'; '.join(sorted(reasons))}); try a model "
                "with a longer context."
            )
        told = [
            Told(
                self._prompt(policy, task, rollout.index),
                self._prompt(self.bare, task, rollout.index),
                rollout.completion.token_ids or (),
            )
            for task, rollout in drawn
        ]
        figures = shifts(self.own.model, self.own.model, told, self.exact)
        replies = [
            ReplyShift.of(task.task_id, f) for (task, _), f in zip(drawn, figures, strict=True)
        ]
        return Tried(tuple(replies), outcomes)

    def _prompt(self, policy: Policy, task: Task, index: int) -> tuple[int, ...]:
        return self.own.chat.prompt_tokens(policy.render(task, index).messages)
