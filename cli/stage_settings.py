"""Settings of the jobs of a bench: which flag is for which kind of job. Loads no torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from cli.suites import Kind
from tfgrpo.settings import dump, load, merged

Table = Mapping[str, Any]
SHARED = ("tasks", "model", "pack", "reward", "sampling", "price")


class Settings:
    """Settings of every kind of job: a preset, the user's flags over it, the job's own on top."""

    def __init__(self, kinds: Collection[Kind], flags: Sequence[str], preset_name: str) -> None:
        from tfgrpo.presets import preset

        self._flags = flags
        self._preset = preset(preset_name)
        self._models = _specs(kinds)
        self._model = self._load("eval", {}, {}).model

    def of(self, kind: str, own: Table) -> Any:
        """The spec of a job, `own` on top. Raises ConfigError if anything in it is wrong."""
        if kind == "match":
            own = {**own, **{side: dump(self.of("eval", own[side])) for side in ("arm", "like")}}
        trained = own.get("model")
        if trained and self._model.kind == "abacus":  # as the base is run
            rows = self._model.max_batch_rows
            own = {**own, "model": {**trained, "device": "cpu", "max_batch_rows": rows}}
        spec = self._load(kind, self._defaults(kind, own), own)
        _check(kind, spec)
        return spec

    def _load(self, kind: str, defaults: Table, own: Table) -> Any:
        model = self._models[kind]
        below = {k: v for k, v in self._preset.items() if k in model.model_fields}
        if kind != "learn":
            below = {k: v for k, v in below.items() if k in SHARED}
        first = load(model, None, self._given(kind, own), merged(merged(below, defaults), own))
        return load(model, None, (), merged(dump(first), own))

    def _defaults(self, kind: str, own: Table) -> Table:
        from baselines.imitation_config import POCKET
        from baselines.methods import method, pocket

        small = self._model.kind == "abacus"
        if kind == "train":
            name = own["method"]
            # As in the table of the weights arm in the docs.
            return {**pocket(name), "precision": "bfloat16"} if small else method(name).settings
        return POCKET if kind == "imitate" and small else {}

    def _given(self, kind: str, own: Table) -> list[str]:
        """The flags that are meant for jobs of a kind; learning tells of those that none knows."""
        # Whom a search asks, and how often, is its own: its settings are given by its name alone.
        open_to_all = {k: v for k, v in self._models.items() if k != "match"}
        known = {key for model in open_to_all.values() for key in model.model_fields}
        kept = []
        for flag in self._flags:
            scope, dot, rest = flag.partition(".")
            if dot and scope in self._models:
                kept += [rest] if scope == kind else []
                continue
            key = flag.partition("=")[0].partition(".")[0].strip()
            named = kind in open_to_all and key in self._models[kind].model_fields
            mine = named or (kind == "learn" and key not in known)
            if mine and (key != "memory" or "memory" in own):
                kept.append(flag)
        return kept


def _specs(kinds: Collection[Kind]) -> dict[str, Any]:
    from baselines.config import TrainSpec
    from baselines.imitation_config import ImitateSpec
    from cli.match_runs import MatchSpec
    from tfgrpo.config import EvalSpec, LearnSpec

    every = {
        "learn": LearnSpec, "train": TrainSpec, "imitate": ImitateSpec, "match": MatchSpec,
        "eval": EvalSpec,
    }  # fmt: skip
    return {kind: spec for kind, spec in every.items() if kind in {*kinds, "eval"}}


def _check(kind: str, spec: Any) -> None:
    from baselines import config, imitation_config
    from cli import match_runs

    if kind == "train":
        config.check(spec)
    elif kind == "imitate":
        imitation_config.check(spec)
    elif kind == "match":
        match_runs.check(spec)
