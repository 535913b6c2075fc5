"""What the field claims, as entries that can be run; rules are declared here, before any look.

Loads neither torch nor numpy, so that listing is instant.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tfgrpo.errors import ConfigError

RunName = Literal[
    "base", "grpo", "rloo", "high-entropy", "low-entropy", "probe", "likelihood", "diverse",
    "few", "taught", "binary", "brier", "library",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class RunEntry:
    """A run that claims rest on; `after` are runs of the same seed that must stand before it.

    `seeded` runs are made once for each training seed, the others once.
    """

    about: str
    after: tuple[RunName, ...] = ()
    seeded: bool = True


RUNS: Mapping[RunName, RunEntry] = {
    "base": RunEntry("the untrained model on held-out problems", seeded=False),
    "grpo": RunEntry("GRPO, several updates a rollout batch, trained and evaluated"),
    "rloo": RunEntry("RLOO, one update a rollout batch, trained and evaluated"),
    "high-entropy": RunEntry("the fifth of the tokens with most entropy, trained and evaluated"),
    "low-entropy": RunEntry("the other four fifths, trained and evaluated"),
    "probe": RunEntry("one rollout batch: three precisions, a small update, updates to the clip"),
    "likelihood": RunEntry("the base's and GRPO's replies, scored by the base", ("base", "grpo")),
    "diverse": RunEntry("fine-tuned on diverse right replies, evaluated"),
    "few": RunEntry("GRPO on as many problems as a step takes, evaluated on them and held out"),
    "taught": RunEntry("fine-tuned to state a confidence that knows nothing"),
    "binary": RunEntry("then RL with the reward of being right, evaluated", ("taught",)),
    "brier": RunEntry("then RL with the Brier reward, evaluated", ("taught",)),
    "library": RunEntry("an experience library, learned and evaluated"),
}


@dataclass(frozen=True, slots=True)
class Rule:
    """`quantity` is claimed to lie between `low` and `high`, inside by `smallest` or more.

    Supported: the 95% interval lies inside, the value inside by `smallest`, and with three seeds
    or more every seed's own value inside. Not supported: the interval lies outside, or inside by
    less than `smallest`, the smallest effect of interest. Otherwise inconclusive. `also` is a
    further condition that the verdict waits for.
    """

    quantity: str
    unit: str
    low: float = -math.inf
    high: float = math.inf
    smallest: float = 0.0
    also: str = ""

    @property
    def text(self) -> str:
        """The claimed region in words."""
        if math.isinf(self.high):
            region = f"above {self.low:g}"
        elif math.isinf(self.low):
            region = f"below {self.high:g}"
        else:
            region = f"between {self.low:g} and {self.high:g}"
        least = f", by at least {self.smallest:g}" if self.smallest else ""
        more = f"; {self.also}" if self.also else ""
        return f"{self.quantity}, {self.unit}: {region}{least}{more}"


@dataclass(frozen=True, slots=True)
class ClaimEntry:
    """One claim: what is said, by whom, the runs that it is measured on, and the rule."""

    id: str
    statement: str
    source: str
    needs: tuple[RunName, ...]
    rule: Rule


_ALL = (
    ClaimEntry(
        "entropy-law",
        "Accuracy follows R = -a exp(H) + b, so the first fifth of a run predicts the rest.",
        "arXiv 2505.22617, eq. 4",
        ("grpo",),
        Rule(
            "error of the law of the first fifth on later steps, minus that of the law of all",
            "accuracy", high=0.02,
        ),
    ),
    ClaimEntry(
        "crossover",
        "At large k the base overtakes the policy that RL has tuned.",
        "arXiv 2504.13837, section 3",
        ("base", "grpo"),
        Rule(
            "smallest k at which the base leads by 0.005, after GRPO led at k = 1",
            "k", high=math.inf, low=1, also="it must exist up to the number of samples",
        ),
    ),
    ClaimEntry(
        "pass-at-k-tradeoff",
        "RL raises pass@1 while pass@k at the largest k falls.",
        "arXiv 2504.13837, section 4.3",
        ("base", "grpo"),
        Rule(
            "pass@k of GRPO minus the base's, k the number of samples", "share",
            high=0.0, smallest=0.005, also="and pass@1 must rise, by at least 0.02",
        ),
    ),
    ClaimEntry(
        "covariance-identity",
        "Entropy changes by minus the covariance of log-probability and change of logit.",
        "arXiv 2505.22617, lemma 1",
        ("probe",),
        Rule("slope of the measured change on the predicted one", "ratio", 0.9, 1.1),
    ),
    ClaimEntry(
        "covariance-advantage",
        "A token's covariance of log-probability and advantage tells where entropy falls.",
        "arXiv 2505.22617, theorems 1 and 2, eq. 10",
        ("probe",),
        Rule(
            "correlation of a token's entropy change with minus its covariance", "r",
            low=0.0, smallest=0.1,
        ),
    ),
    ClaimEntry(
        "clip-asymmetry",
        "The upper clip binds on tokens of low probability, the lower one does not.",
        "arXiv 2503.14476, section 3.1, figure 3a",
        ("probe",),
        Rule(
            "mean probability of tokens at the upper clip minus that at the lower", "probability",
            high=0.0, smallest=0.05,
        ),
    ),
    ClaimEntry(
        "on-policy",
        "At equal rollouts strictly on-policy RLOO beats GRPO with several updates.",
        "arXiv 2603.11682",
        ("rloo", "grpo"),
        Rule("pass@1 of RLOO minus GRPO's", "share", low=0.0, smallest=0.01),
    ),
    ClaimEntry(
        "precision-bias",
        "At equal weights a bfloat16 trainer's ratio to a float32 sampler is biased upwards.",
        "arXiv 2603.11682, theorem 3",
        ("probe",),
        Rule("mean ratio minus 1", "ratio", low=0.0, smallest=1e-4),
    ),
    ClaimEntry(
        "precision-spread",
        "float16 takes most of bfloat16's mismatch between sampler and trainer away.",
        "arXiv 2510.26788",
        ("probe",),
        Rule(
            "standard deviation of the log-ratio in bfloat16 over that in float16", "ratio",
            low=1.0, smallest=1.0,
        ),
    ),
    ClaimEntry(
        "high-entropy-tokens",
        "The fifth of the tokens with the highest entropy carries the learning.",
        "arXiv 2506.01939",
        ("base", "high-entropy", "low-entropy"),
        Rule(
            "pass@1 trained on the fifth of highest entropy minus that on the other four", "share",
            low=0.0, smallest=0.02,
        ),
    ),
    ClaimEntry(
        "format-collapse",
        "RL lets one format take over: the entropy of strategies falls.",
        "arXiv 2504.07912",
        ("base", "grpo"),
        Rule(
            "a problem's entropy of strategies under GRPO minus the base's", "nats",
            high=0.0, smallest=0.1,
        ),
    ),
    ClaimEntry(
        "overconfidence",
        "A binary reward makes a policy overconfident: it agrees with itself more than is right.",
        "arXiv 2507.16806",
        ("base", "grpo"),
        Rule(
            "share of the most frequent answer minus its being right, GRPO minus base", "share",
            low=0.0, smallest=0.02, also="and GRPO's own must be above 0",
        ),
    ),
    ClaimEntry(
        "brier-reward",
        "With the Brier reward stated confidence is calibrated better than with a binary reward.",
        "arXiv 2507.16806, eq. 2",
        ("binary", "brier"),
        Rule(
            "Brier score after binary reward minus that after the Brier reward", "score",
            low=0.0, smallest=0.01,
        ),
    ),
    ClaimEntry(
        "within-base",
        "Tuned answers lie inside the base's likely set, no less likely than its own.",
        "arXiv 2504.13837, section 4.1",
        ("likelihood",),
        Rule(
            "log-perplexity under the base, GRPO's replies minus its own", "nats a token",
            high=0.02,
        ),
    ),
    ClaimEntry(
        "sparse-updates",
        "RL moves a small part of the weights: more than half stay where they were stored.",
        "arXiv 2505.11711",
        ("grpo",),
        Rule(
            "share of weights within 1e-5 of the base, in its stored precision", "share", low=0.5
        ),
    ),
    ClaimEntry(
        "diverse-sft",
        "Fine-tuning on diverse right replies keeps the base's breadth.",
        "arXiv 2408.16673; arXiv 2502.07154",
        ("base", "diverse"),
        Rule(
            "entropy of strategies among right replies, fine-tuned minus base", "nats", low=-0.1
        ),
    ),
    ClaimEntry(
        "memorisation",
        "On a small fixed set of problems RL gains more on these than on unseen ones.",
        "arXiv 2507.10532; against it arXiv 2504.20571",
        ("base", "few"),
        Rule(
            "gain in pass@1 on the trained problems minus that on held-out ones", "share",
            low=0.0, smallest=0.02,
        ),
    ),
    ClaimEntry(
        "library-on-curve",
        "A learned library stays on or above the entropy-performance curve of the trained arm.",
        "arXiv 2510.08191 beside arXiv 2505.22617, eq. 4",
        ("base", "grpo", "library"),
        Rule(
            "accuracy that the library gains minus what its entropy buys on GRPO's curve",
            "accuracy", low=-0.02, also="and the curve must explain half of its run's variance",
        ),
    ),
)  # fmt: skip

CLAIMS: Mapping[str, ClaimEntry] = {entry.id: entry for entry in _ALL}


def claim(name: str) -> ClaimEntry:
    """Raises ConfigError, with the nearest name, if there is no such claim."""
    from difflib import get_close_matches

    if name not in CLAIMS:
        near = get_close_matches(name, CLAIMS, 1)
        hint = f"did you mean {near[0]}?" if near else "run `tfgrpo claims --list` for all."
        raise ConfigError(f"There is no claim {name!r}; {hint}")
    return CLAIMS[name]


def needed(claims: Sequence[ClaimEntry]) -> tuple[RunName, ...]:
    """The runs that `claims` rest on, each once, none before those that it comes after."""
    wanted: dict[RunName, None] = {}

    def add(name: RunName) -> None:
        for before in RUNS[name].after:
            add(before)
        wanted.setdefault(name)

    for entry in claims:
        for name in entry.needs:
            add(name)
    return tuple(wanted)
