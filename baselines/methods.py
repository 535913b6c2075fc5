"""Named methods: each a table of settings over the defaults of `TrainSpec`. Loads no torch.

Equations, sources and needs are told by the parts that a method is made of (`objective.spec`).
Methods that act through the ratio take four updates per rollout batch, because with one update
they would all be plain policy gradient; the strictly on-policy ones take one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from baselines.objective.spec import ObjectiveSpec, Part
from tfgrpo.errors import ConfigError
from tfgrpo.settings import merged

Table = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Method:
    """`settings` are what the method sets; `note` is what to know before using it."""

    name: str
    title: str
    source: str
    settings: Table
    note: str = ""

    @property
    def objective(self) -> ObjectiveSpec:
        return ObjectiveSpec.model_validate(self.settings["objective"])

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts in which the method differs from GRPO; GRPO's own for GRPO."""
        own, plain = self.objective.parts, _BASE.parts
        return tuple(part for part in own if part not in plain) or own


_BASE = ObjectiveSpec()
OFF_POLICY: Table = {"minibatches": 4}
CLIP: Table = {"kind": "ppo_clip"}
HIGHER: Table = {"kind": "ppo_clip", "low": 0.2, "high": 0.28}
PLAIN: Table = {"kind": "policy_gradient"}


def _off(
    name: str, title: str, source: str, note: str = "", more: Table | None = None, **stages: Any
) -> Method:
    """A method of several updates per rollout batch: GRPO's advantages and clip by default."""
    objective = {"estimator": {"kind": "grpo"}, "surrogate": CLIP} | stages
    return Method(name, title, source, {**OFF_POLICY, "objective": objective, **(more or {})}, note)


def _on(
    name: str, title: str, source: str, note: str = "", more: Table | None = None, **stages: Any
) -> Method:
    """A strictly on-policy method: one update, plain policy gradient."""
    objective = {"estimator": {"kind": "grpo"}, "surrogate": PLAIN} | stages
    return Method(name, title, source, {"objective": objective, **(more or {})}, note)


_ALL = (
    _off(
        "grpo",
        "GRPO",
        "arXiv 2402.03300",
        "Group-relative advantages, symmetric clip, token mean, no KL.",
    ),
    _off(
        "dr-grpo",
        "Dr.GRPO",
        "arXiv 2503.20783",
        estimator={"kind": "dr_grpo"},
        aggregation={"kind": "constant"},
    ),
    _on(
        "rloo",
        "RLOO, on-policy",
        "arXiv 2402.14740",
        "One update per rollout batch.",
        estimator={"kind": "rloo"},
    ),
    _on(
        "reinforce",
        "REINFORCE",
        "Williams 1992",
        "Rewards of 1 and -1, no baseline.",
        estimator={"kind": "signed", "positive": 1.0, "negative": 1.0},
    ),
    _on("opo", "OPO, optimal baseline", "arXiv 2505.23585", estimator={"kind": "opo"}),
    _on(
        "pass-at-k",
        "Pass@k training",
        "arXiv 2508.10751",
        "k = 4.",
        estimator={"kind": "pass_at_k", "k": 4},
    ),
    _on(
        "maxrl",
        "MaxRL",
        "arXiv 2602.02710",
        "Advantages reach G - 1: keep the gradient clip.",
        estimator={"kind": "maxrl"},
    ),
    _on(
        "psr",
        "PSR, right replies only",
        "arXiv 2506.01347",
        estimator={"kind": "signed", "positive": 1.0, "negative": 0.0},
    ),
    _on(
        "nsr",
        "NSR, wrong replies only",
        "arXiv 2506.01347",
        "Degrades after hundreds of steps, say its authors.",
        estimator={"kind": "signed", "positive": 0.0, "negative": 1.0},
    ),
    _on(
        "w-reinforce",
        "W-REINFORCE",
        "arXiv 2506.01347",
        estimator={"kind": "signed", "positive": 0.1, "negative": 1.0},
    ),
    _off(
        "ppo",
        "PPO with a critic",
        "arXiv 1707.06347",
        "A value head on a copy of the decoder, trained along.",
        estimator={"kind": "gae"},
    ),
    _off("clip-higher", "Clip-Higher", "arXiv 2503.14476", surrogate=HIGHER),
    _off("dual-clip", "Dual clip", "arXiv 1912.09729", surrogate={"kind": "ppo_clip", "dual": 3.0}),
    _off(
        "dapo",
        "DAPO",
        "arXiv 2503.14476",
        "Clip-Higher, refilled groups, overlong replies masked.",
        {"keep": "informative", "refill": 3, "mask_truncated": True},
        surrogate=HIGHER,
    ),
    _off("gppo", "GPPO", "arXiv 2508.07629", surrogate={"kind": "gppo"}),
    _off(
        "ce-gppo",
        "CE-GPPO",
        "arXiv 2509.20712",
        surrogate={"kind": "gppo", "beta_low": 0.5, "beta_high": 1.0},
    ),
    _off("cispo", "CISPO", "arXiv 2506.13585", surrogate={"kind": "cispo"}),
    _off(
        "gspo",
        "GSPO",
        "arXiv 2507.18071",
        "The ratio of whole replies.",
        ratio="sequence",
        surrogate={"kind": "ppo_clip", "low": 3e-4, "high": 4e-4},
        aggregation={"kind": "sequence_mean"},
    ),
    _off(
        "clip-cov",
        "Clip-Cov",
        "arXiv 2505.22617",
        "On batches below a million tokens the published share drops nothing: raise it.",
        surrogate={"kind": "ppo_clip", "low": 1.0, "high": 1.0},
        dropping={"kind": "clip_cov"},
    ),
    _off("kl-cov", "KL-Cov", "arXiv 2505.22617", surrogate={"kind": "kl_cov"}),
    _on(
        "delightful",
        "Delightful policy gradient",
        "arXiv 2603.14608",
        transforms=[{"kind": "delightful"}],
    ),
    _off(
        "high-entropy",
        "High-entropy tokens only (80/20)",
        "arXiv 2506.01939",
        surrogate=HIGHER,
        masks=[{"kind": "high_entropy", "share": 0.2}],
    ),
    _off(
        "low-entropy",
        "Low-entropy tokens only (control)",
        "arXiv 2506.01939",
        surrogate=HIGHER,
        masks=[{"kind": "low_entropy", "share": 0.8}],
    ),
    _off(
        "random-tokens",
        "A random fifth of the tokens (control)",
        "arXiv 2506.01939",
        surrogate=HIGHER,
        masks=[{"kind": "random_tokens", "share": 0.2}],
    ),
    _off(
        "entropy-shaped",
        "Entropy-shaped advantages",
        "arXiv 2506.14758",
        transforms=[{"kind": "entropy_shaped"}],
    ),
    _off(
        "entropy-uncapped",
        "Entropy-shaped without the cap (ablation)",
        "arXiv 2506.14758",
        "Flips signs where the entropy is high.",
        transforms=[{"kind": "entropy_uncapped"}],
    ),
    _off(
        "hicra",
        "HICRA",
        "arXiv 2509.03646",
        "Needs patterns of planning tokens: --set planning=[...].",
        surrogate=HIGHER,
        estimator={"kind": "dr_grpo"},
        transforms=[{"kind": "hicra"}],
    ),
    _off("repo-r", "REPO-R", "arXiv 2603.11682", transforms=[{"kind": "repo_r"}]),
    _off("repo-d", "REPO-D", "arXiv 2603.11682", transforms=[{"kind": "repo_d"}]),
    _off("adapo", "ADAPO", "arXiv 2603.11682", surrogate={"kind": "adapo"}),
    _off(
        "kl",
        "GRPO with KL to the base",
        "arXiv 2402.03300",
        terms=[{"kind": "kl", "coefficient": 1e-2}],
    ),
    _off(
        "entropy-bonus",
        "GRPO with an entropy bonus",
        "arXiv 1602.01783",
        terms=[{"kind": "entropy_bonus"}],
    ),
    _off(
        "adaptive-entropy",
        "GRPO with an adaptive entropy bonus",
        "arXiv 2505.22312",
        terms=[{"kind": "adaptive_entropy"}],
    ),
    _off(
        "nft",
        "NFT, negative-aware fine-tuning",
        "arXiv 2505.18116",
        "",
        {"keep": "informative"},
        surrogate={"kind": "nft"},
    ),
    _off(
        "tis",
        "GRPO with truncated importance sampling",
        "arXiv 2510.26788",
        "For rollouts of another precision.",
        correction={"kind": "truncated"},
    ),
    _off(
        "rlcr",
        "RLCR, calibrated confidence",
        "arXiv 2507.16806",
        "The prompt must ask for `Confidence: 0.0 to 1.0`.",
        {"rewards": [{"kind": "brier"}]},
        estimator={"kind": "dr_grpo"},
    ),
)

METHODS: Mapping[str, Method] = {method.name: method for method in _ALL}

POCKET: Table = {
    "tasks": {"kind": "procedural", "families": ["sum", "product", "sort", "countdown"]},
    "model": {"kind": "abacus", "max_batch_rows": 128},
    "pack": "abacus",
    "steps": 20,
    "prompts": 16,
    "group_size": 16,
    "sampling": {"temperature": 1.0, "top_p": 1.0, "max_tokens": 160},
    "optimiser": {"lr": 1e-3},
    "micro_tokens": 2048,
    "train_limit": 800,
}
"""Settings under which the pocket model trains for a few minutes on one core."""

_POCKET_OFF: Table = {"minibatches": 8, "optimiser": {"lr": 2e-4}}
_POCKET_OWN: Mapping[str, Table] = {
    "clip-cov": {"objective": {"dropping": {"share": 2e-3}}},
}


def pocket(name: str) -> Table:
    """A method's settings with those of the pocket model.

    Both kinds of method learn about as fast per rollout: eight small updates move the weights
    about as far as one large one, far enough that ratios reach the clip. A mini-batch has some
    1,600 tokens, of which Clip-Cov's published share is none.
    """
    table = merged(POCKET, method(name).settings)
    if "minibatches" in table:
        table = merged(table, _POCKET_OFF)
    return merged(table, _POCKET_OWN.get(name, {}))


def method(name: str) -> Method:
    """Raises ConfigError, with the nearest name, if there is no such method."""
    from difflib import get_close_matches

    if name not in METHODS:
        near = get_close_matches(name, METHODS, 1)
        hint = f"did you mean {near[0]}?" if near else "run `tfgrpo methods` for the list."
        raise ConfigError(f"There is no method {name!r}; {hint}")
    return METHODS[name]
