"""Where the runs of `tfgrpo claims` lie, and the settings under which each is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from baselines.claims.registry import RunName
from cli import options
from cli.sweep import training_spec

if TYPE_CHECKING:
    from baselines.config import TrainSpec
    from baselines.imitation_config import ImitateSpec
    from tfgrpo.config import EvalSpec, LearnSpec, Spec

EVAL, EVAL_TRAIN, BASE_TRAIN = "eval-test", "eval-train", "base-train"
PROBE, SCORES = "probe.npz", "scores.jsonl"

TRAINED: Mapping[RunName, tuple[str, str]] = {
    "grpo": ("grpo", ""),
    "rloo": ("rloo", ""),
    "high-entropy": ("high-entropy", ""),
    "low-entropy": ("low-entropy", ""),
    "few": ("grpo", "few"),
    "binary": ("rlcr", "binary"),
    "brier": ("rlcr", "brier"),
}
"""Runs of RL: their method, and the folder of those that no sweep makes."""

TEACHING: Mapping[str, Any] = {
    "source": {"kind": "diverse", "samples": 4, "keep": 4},
    "optimiser": {"lr": 1e-3},
    "epochs": 4,
}
"""How the form of stating a confidence is taught: on four replies of the base to each problem."""
DIVERSE: Mapping[str, Any] = {
    "source": {"kind": "diverse", "samples": 16, "keep": 4},
    "loss": {"kind": "gem"},
}


@dataclass(frozen=True, slots=True)
class Lab:
    """Where runs lie and how they are made.

    `given` is the folder of a finished sweep, which is only read. `flags` are settings of the
    training runs; `limit` held-out problems get `n` samples each.
    """

    root: Path
    given: Path | None
    flags: tuple[str, ...]
    limit: int
    n: int

    @property
    def shape(self) -> tuple[int, int, str]:
        return self.limit, self.n, "test"

    def place(self, name: RunName, seed: int) -> Path:
        """The run's folder: that of the sweep if it is finished there."""
        method, inner = TRAINED.get(name, (name, ""))
        folder = "base" if name == "base" else f"{method}-{seed}"
        swept = name == "base" or (name in TRAINED and not inner)
        if self.given is not None and swept and finished(self.given / folder, name):
            return self.given / folder
        return self.root / inner / folder

    def done(self, name: RunName, seed: int) -> bool:
        """Whether the run is over. Raises RunError if it was made under other settings."""
        folder = self.place(name, seed)
        if not finished(folder, name):
            return False
        must_agree(self, name, seed, folder)
        return True


def finished(folder: Path, name: RunName) -> bool:
    weights, outcomes = "weights/config.json", f"{EVAL}/outcomes.jsonl"
    files = {
        "base": (outcomes,),
        "probe": (PROBE,),
        "likelihood": (SCORES,),
        "few": (weights, outcomes, *(f"{e}/outcomes.jsonl" for e in (EVAL_TRAIN, BASE_TRAIN))),
        "taught": (weights,),
        "library": (outcomes,),
    }.get(name, (weights, outcomes))
    return all((folder / file).is_file() for file in files)


def must_agree(lab: Lab, name: RunName, seed: int, folder: Path) -> None:
    """Raise RunError unless the run in `folder` is the one that would be made."""
    from tfgrpo.canonical import differences
    from tfgrpo.errors import RunError
    from tfgrpo.runs import RunDir
    from tfgrpo.settings import dump

    if name != "base":
        RunDir.open(folder).check_config(dump(settings(lab, name, seed)))
    if not (folder / EVAL).is_dir():
        return
    wanted = dump(evaluation(lab, training_spec("grpo", seed, lab.flags)))
    # Weights may have been moved with their folder, and what is recorded beside the outcomes
    # changes none of them.
    free = {"detail", "memory", "budget", "price", "policy"}
    free |= set() if name == "base" else {"model"}
    own = RunDir.open(folder / EVAL).config
    found = differences(
        {k: own.get(k) for k in wanted if k not in free},
        {k: v for k, v in wanted.items() if k not in free},
    )
    if found:
        raise RunError(
            f"{folder / EVAL} was made with other settings ({'; '.join(found)}); give the same "
            "options, or another folder."
        )


# settings -----------------------------------------------------------------------------------------


def settings(lab: Lab, name: RunName, seed: int) -> Spec:
    """The settings that the run's folder records."""
    match name:
        case "base":
            return evaluation(lab, training_spec("grpo", seed, lab.flags))
        case "diverse":
            return imitation(lab, seed, DIVERSE)
        case "taught":
            return imitation(lab, seed, TEACHING)
        case "library":
            return learning(lab, seed)
    return training(lab, name, seed)


def training(lab: Lab, name: RunName, seed: int) -> TrainSpec:
    """Those of a run of RL; those of GRPO for what is measured on its ingredients."""
    spec: TrainSpec = training_spec(
        TRAINED.get(name, ("grpo", ""))[0], seed, own_flags(lab, name, seed)
    )
    return spec


def own_flags(lab: Lab, name: RunName, seed: int) -> list[str]:
    """The flags of all runs with those of this one."""
    taught = options.overrides({"model": str(lab.place("taught", seed))}, None)
    own = {
        "few": [f"train_limit={few_size(lab)}"],
        "binary": [*taught, "rewards=[]"],
        "brier": taught,
    }
    return [*lab.flags, *own.get(name, [])]


def few_size(lab: Lab) -> int:
    """As many problems as a step takes, so that every step sees all of them."""
    return int(training_spec("grpo", 0, lab.flags).prompts)


def imitation(lab: Lab, seed: int, own: Mapping[str, Any]) -> ImitateSpec:
    from baselines.imitation_config import POCKET, ImitateSpec
    from tfgrpo.settings import load, merged

    keys = ("tasks", "model", "pack", "reward", "sampling", "micro_tokens", "train_limit")
    flags = _common(lab.flags, keys)
    return load(ImitateSpec, None, [*flags, f"seed={seed}"], merged(POCKET, own))


def learning(lab: Lab, seed: int) -> LearnSpec:
    from tfgrpo.config import LearnSpec
    from tfgrpo.presets import preset
    from tfgrpo.settings import load

    flags = _common(lab.flags, ("tasks", "model", "pack", "reward"))
    return load(LearnSpec, None, [*flags, f"seed={seed}"], preset("abacus"))


def _common(flags: Sequence[str], keys: Sequence[str]) -> list[str]:
    return [flag for flag in flags if flag.split("=")[0].split(".")[0] in keys]


def evaluation(lab: Lab, spec: TrainSpec, **own: Any) -> EvalSpec:
    """What a sweep evaluates under, with changes."""
    from tfgrpo.config import EvalSpec
    from tfgrpo.settings import dump, load

    shared = {k: v for k, v in dump(spec).items() if k in ("tasks", "model", "pack", "reward")}
    shared |= {"sampling": dump(spec.sampling), "detail": True}
    given = {"limit": lab.limit, "n": lab.n, "split": "test", "seed": 0} | own
    return load(EvalSpec, None, (), shared | given)
