"""From the runs of `tfgrpo claims` to findings: each claim's inputs, read and handed over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from baselines.claims import breadth, confidence, coverage, law, likelihood, tokens, weights
from baselines.claims.confidence import Statements
from baselines.claims.finding import Finding, Runs
from baselines.claims.law import Trajectory
from baselines.claims.likelihood import Scored
from baselines.claims.registry import RunName
from baselines.claims.tokens import Probe
from baselines.rewards import read_confidence
from cli.claims_lab import BASE_TRAIN, EVAL, EVAL_TRAIN, PROBE, SCORES, Lab, training
from cli.training import STEPS
from cli.wiring import weights_of
from tfgrpo.runs import RunDir
from tfgrpo.verdict.own import SAMPLES, read_outcomes


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads the runs of `seeds` training seeds, each as the claims take it."""

    lab: Lab
    seeds: int

    def outcomes(self, name: RunName, evaluation: str = EVAL) -> Runs:
        """One evaluation for each seed; the base's held-out one is the same for all."""
        seeds = 1 if name == "base" else self.seeds
        places = [self.lab.place(name, seed) / evaluation for seed in range(seeds)]
        return [read_outcomes(RunDir.open(place)) for place in places]

    def trajectories(self, name: RunName) -> list[Trajectory]:
        found = []
        for seed in range(self.seeds):
            rows = RunDir.open(self.lab.place(name, seed)).read_rows(STEPS)
            kept = [m for m in (row["metrics"] for row in rows) if "entropy_response" in m]
            accuracy = tuple(m["accuracy"] for m in kept)
            found.append(Trajectory(accuracy, tuple(m["entropy_response"] for m in kept)))
        return found

    def probes(self) -> list[Probe]:
        places = [self.lab.place("probe", seed) for seed in range(self.seeds)]
        return [tokens.unpack((place / PROBE).read_bytes()) for place in places]

    def scored(self) -> tuple[Scored, list[Scored]]:
        """The base's own replies, and those of GRPO for each seed."""
        own: dict[str, Any] = {}
        tuned: list[Scored] = []
        for seed in range(self.seeds):
            rows = list(RunDir.open(self.lab.place("likelihood", seed)).read_rows(SCORES))
            arms = {
                arm: {row["task_id"]: row["scored"] for row in rows if row["arm"] == arm}
                for arm in ("base", "grpo")
            }
            own = arms["base"]
            tuned.append(arms["grpo"])
        return own, tuned

    def statements(self, name: RunName) -> list[Statements]:
        """What each reply states, beside whether it was right."""
        found: list[Statements] = []
        for seed in range(self.seeds):
            rows = RunDir.open(self.lab.place(name, seed) / EVAL).read_rows(SAMPLES)
            found.append(
                {
                    row["task_id"]: [
                        (read_confidence(text), right)
                        for text, right in zip(row["texts"], row["correct"], strict=True)
                    ]
                    for row in rows
                    if row["texts"]
                }
            )
        return found

    def sparse_updates(self) -> Finding:
        base = weights_of(training(self.lab, "grpo", 0).model)
        places = [self.lab.place("grpo", seed) / "weights" for seed in range(self.seeds)]
        return weights.sparse_updates(
            _state(base), [_state(str(place)) for place in places], _stored_type(base)
        )


def _state(path: str) -> Mapping[str, Any]:
    """All weights by name; those that the head shares with the embeddings once."""
    from tfgrpo.llm.transformers_local import load

    return dict(load(path, "cpu", "float32")[0].named_parameters())


def _stored_type(path: str) -> Any:
    """The precision in which the weights at `path` were published."""
    import torch
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(path).dtype or torch.float32


def find(name: str, reader: Reader) -> Finding:
    """The finding on a claim. Raises ValueError where the runs cannot tell."""
    return _COMPUTE[name](reader)


_COMPUTE: Mapping[str, Callable[[Reader], Finding]] = {
    "entropy-law": lambda r: law.entropy_law(r.trajectories("grpo")),
    "crossover": lambda r: coverage.crossover(r.outcomes("base"), r.outcomes("grpo")),
    "pass-at-k-tradeoff": lambda r: coverage.pass_at_k_tradeoff(
        r.outcomes("base"), r.outcomes("grpo")
    ),
    "covariance-identity": lambda r: tokens.covariance_identity(r.probes()),
    "covariance-advantage": lambda r: tokens.covariance_advantage(r.probes()),
    "clip-asymmetry": lambda r: tokens.clip_asymmetry(r.probes()),
    "on-policy": lambda r: coverage.on_policy(r.outcomes("rloo"), r.outcomes("grpo")),
    "precision-bias": lambda r: tokens.precision_bias(r.probes()),
    "precision-spread": lambda r: tokens.precision_spread(r.probes()),
    "high-entropy-tokens": lambda r: coverage.high_entropy_tokens(
        r.outcomes("base"), r.outcomes("high-entropy"), r.outcomes("low-entropy")
    ),
    "format-collapse": lambda r: breadth.format_collapse(r.outcomes("base"), r.outcomes("grpo")),
    "overconfidence": lambda r: confidence.overconfidence(r.outcomes("base"), r.outcomes("grpo")),
    "brier-reward": lambda r: confidence.brier_reward(
        r.statements("binary"), r.statements("brier")
    ),
    "within-base": lambda r: likelihood.within_base(*r.scored()),
    "sparse-updates": lambda r: r.sparse_updates(),
    "diverse-sft": lambda r: breadth.diverse_sft(r.outcomes("base"), r.outcomes("diverse")),
    "memorisation": lambda r: coverage.memorisation(
        r.outcomes("few", BASE_TRAIN),
        r.outcomes("few", EVAL_TRAIN),
        r.outcomes("base"),
        r.outcomes("few"),
    ),
    "library-on-curve": lambda r: law.library_on_curve(
        r.outcomes("base"), r.outcomes("library"), r.trajectories("grpo")
    ),
}
