"""What an objective is made of: one frozen variant per published idea, in the order of the stages.

    estimator -> transforms -> masks -> ratio -> surrogate (-> dropping) -> correction -> terms
    -> aggregation

Each variant carries its equation, its source, and what it needs. Loads no torch, so that
`tfgrpo methods` and every check of a configuration are instant. Symbols: r reward, G group size,
A advantage, lp the token's log-probability now, lp_old at the start of the update, lp_ref under
the reference, rho = exp(lp - lp_old), H token entropy in nats, sg stops the gradient.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tfgrpo.config import Positive, Share, Spec

Need = Literal["entropy", "entropy_gradient", "reference", "rollout_logp", "planning", "critic"]
NonNegative = Annotated[float, Field(ge=0)]
Above0 = Annotated[float, Field(gt=0)]


class Part(Spec):
    """Base of all parts of an objective.

    `inert_on_policy`: with one update per rollout batch, where rho = 1, the gradient is that of
    plain policy gradient. `scans`: selects by statistics of the whole mini-batch.
    """

    equation: ClassVar[str] = ""
    source: ClassVar[str] = ""
    needs: ClassVar[frozenset[Need]] = frozenset()
    binary: ClassVar[bool] = False
    inert_on_policy: ClassVar[bool] = False
    scans: ClassVar[bool] = False


# estimators: one advantage for each reply ------------------------------------------------------


class Grpo(Part):
    """Group mean and standard deviation; `ddof` 1 is what code does, 0 what pass@1 implies."""

    equation = "A_i = (r_i - mean_g) / (std_g + epsilon)"
    source = "arXiv 2402.03300, eq. 3"
    kind: Literal["grpo"] = "grpo"
    ddof: Literal[0, 1] = 1
    epsilon: NonNegative = 1e-6


class DrGrpo(Part):
    equation = "A_i = r_i - mean_g"
    source = "arXiv 2503.20783"
    kind: Literal["dr_grpo"] = "dr_grpo"


class Rloo(Part):
    equation = "A_i = r_i - mean of the other replies = G/(G-1) (r_i - mean_g)"
    source = "arXiv 2402.14740"
    kind: Literal["rloo"] = "rloo"


class Reinforce(Part):
    equation = "A_i = r_i - baseline"
    source = "Williams 1992"
    kind: Literal["reinforce"] = "reinforce"
    baseline: float = 0.0


class Opo(Part):
    equation = "A_i = r_i - sum_g(l r) / sum_g(l), l the reply's length"
    source = "arXiv 2505.23585"
    kind: Literal["opo"] = "opo"


class PassAtK(Part):
    """The analytic pass@k advantage; k = 1 is GRPO with the population's standard deviation."""

    equation = "A+ = (1-R)/s, A- = (1 - R - C(F-1,k-1)/C(G-1,k-1))/s, R = pass@k, s^2 = R(1-R)"
    source = "arXiv 2508.10751"
    binary = True
    kind: Literal["pass_at_k"] = "pass_at_k"
    k: Positive = 4


class MaxRl(Part):
    """`centred` is the published code: exactly unbiased for the series cut at T = G - 1."""

    equation = "A_i = (r_i - mean_g) / mean_g; plain: r_i / mean_g"
    source = "arXiv 2602.02710"
    binary = True
    kind: Literal["maxrl"] = "maxrl"
    centred: bool = True


class Signed(Part):
    """PSR is (1, 0), NSR (0, 1), W-REINFORCE (0.1, 1)."""

    equation = "A_i = +positive if right, -negative if wrong"
    source = "arXiv 2506.01347"
    binary = True
    kind: Literal["signed"] = "signed"
    positive: NonNegative = 1.0
    negative: NonNegative = 1.0


class Gae(Part):
    """A critic's generalised advantages, whitened over the mini-batch (PPO)."""

    equation = "A_t = sum_k (gamma lam)^k (r_t+k + gamma V_t+k+1 - V_t+k)"
    source = "arXiv 1506.02438, arXiv 1707.06347"
    needs = frozenset({"critic"})
    kind: Literal["gae"] = "gae"
    gamma: Share = 1.0
    lam: Share = 0.95
    critic_lr: Above0 = 1e-3
    value_clip: Above0 = 0.5


EstimatorSpec = Annotated[
    Grpo | DrGrpo | Rloo | Reinforce | Opo | PassAtK | MaxRl | Signed | Gae,
    Field(discriminator="kind"),
]


# transforms: A (B,) or (B, T) to A' (B, T), always detached ------------------------------------


class EntropyShaped(Part):
    """Keeps every sign, leaves A = 0 alone, and fades as the entropy falls."""

    equation = "A' = A + min(alpha sg(H), |A| / kappa)"
    source = "arXiv 2506.14758, eq. 5"
    needs = frozenset({"entropy"})
    kind: Literal["entropy_shaped"] = "entropy_shaped"
    alpha: NonNegative = 0.4
    kappa: Annotated[float, Field(gt=1)] = 2.0


class EntropyUncapped(Part):
    """An ablation, not the paper's method: it flips signs and moves groups without any signal."""

    equation = "A' = A + alpha max(sg(H) - threshold, 0)"
    source = "an uncapped variant of arXiv 2506.14758"
    needs = frozenset({"entropy"})
    kind: Literal["entropy_uncapped"] = "entropy_uncapped"
    alpha: NonNegative = 0.4
    threshold: NonNegative = 0.5


class Hicra(Part):
    equation = "A' = A + alpha |A| on planning tokens"
    source = "arXiv 2509.03646"
    needs = frozenset({"planning"})
    kind: Literal["hicra"] = "hicra"
    alpha: Share = 0.2


class RepoR(Part):
    """`zeta` starts as given and follows the entropy towards `target` (None: that of step 0)."""

    equation = "A>0: max(0, A (1 - zeta lp)); A<0: min(0, A (1 + zeta lp)); lp >= -20"
    source = "arXiv 2603.11682"
    kind: Literal["repo_r"] = "repo_r"
    zeta: float = 1e-3
    low: Above0 = 1e-4
    high: Above0 = 0.05
    target: NonNegative | None = None


class RepoD(Part):
    """As `repo_r`, but with the centred log-probability, which needs the entropy."""

    equation = "A' = A - zeta (lp + H)"
    source = "arXiv 2603.11682"
    needs = frozenset({"entropy"})
    kind: Literal["repo_d"] = "repo_d"
    zeta: float = 1e-3
    low: Above0 = 1e-3
    high: Above0 = 10.0
    target: NonNegative | None = None


class Delightful(Part):
    """Delight is advantage times surprisal: rare successes count more, rare failures less."""

    equation = "A' = sigmoid(A s / eta) A, s = -sg(lp)"
    source = "arXiv 2603.14608"
    kind: Literal["delightful"] = "delightful"
    eta: Above0 = 1.0


TransformSpec = Annotated[
    EntropyShaped | EntropyUncapped | Hicra | RepoR | RepoD | Delightful,
    Field(discriminator="kind"),
]


# masks: which tokens are learned from; several are and-ed --------------------------------------


class HighEntropy(Part):
    """`norm` kept divides by the tokens kept (the paper), all by all of them (TRL)."""

    equation = "keep the tokens with H in the top `share` of the mini-batch"
    source = "arXiv 2506.01939"
    needs = frozenset({"entropy"})
    scans = True
    kind: Literal["high_entropy"] = "high_entropy"
    share: Share = 0.2
    norm: Literal["kept", "all"] = "kept"


class LowEntropy(Part):
    """The complement of `high_entropy` with 1 - share: the paper's control."""

    equation = "keep the tokens with H in the bottom `share` of the mini-batch"
    source = "arXiv 2506.01939"
    needs = frozenset({"entropy"})
    scans = True
    kind: Literal["low_entropy"] = "low_entropy"
    share: Share = 0.8
    norm: Literal["kept", "all"] = "kept"


class RandomTokens(Part):
    equation = "keep each token with probability `share`"
    source = "control of arXiv 2506.01939"
    scans = True
    kind: Literal["random_tokens"] = "random_tokens"
    share: Share = 0.2
    norm: Literal["kept", "all"] = "kept"


class PlanningTokens(Part):
    equation = "keep the planning tokens"
    source = "arXiv 2509.03646"
    needs = frozenset({"planning"})
    kind: Literal["planning"] = "planning"
    norm: Literal["kept", "all"] = "kept"


MaskSpec = Annotated[
    HighEntropy | LowEntropy | RandomTokens | PlanningTokens, Field(discriminator="kind")
]


# surrogates: the loss of one token ---------------------------------------------------------------


class PolicyGradient(Part):
    equation = "loss = -A lp"
    source = "Williams 1992"
    kind: Literal["policy_gradient"] = "policy_gradient"


class PpoClip(Part):
    """high > low is Clip-Higher (DAPO); `dual` bounds the loss of negative advantages."""

    equation = "loss = max(-A rho, -A clip(rho, 1-low, 1+high)), for A<0 at most -A dual"
    source = "arXiv 1707.06347, eq. 7; arXiv 2503.14476, eq. 8; arXiv 1912.09729"
    inert_on_policy = True
    kind: Literal["ppo_clip"] = "ppo_clip"
    low: Share = 0.2
    high: NonNegative = 0.2
    dual: Annotated[float, Field(gt=1)] | None = None


class Adapo(Part):
    """Clip-Higher whose upper bound widens while the entropy is below `target` (None: step 0's)."""

    equation = "as ppo_clip; high += step if H < target else -= step, within [least, most]"
    source = "arXiv 2603.11682"
    inert_on_policy = True
    kind: Literal["adapo"] = "adapo"
    low: Share = 0.2
    high: NonNegative = 0.28
    step: Above0 = 0.02
    least: NonNegative = 0.2
    most: NonNegative = 1.0
    target: NonNegative | None = None


class Gppo(Part):
    """Clip-Higher whose clipped tokens keep a bounded gradient; CE-GPPO sets the two betas."""

    equation = "as ppo_clip, with the bound c replaced by beta (c / sg(rho)) rho in the gradient"
    source = "arXiv 2508.07629; arXiv 2509.20712"
    inert_on_policy = True
    kind: Literal["gppo"] = "gppo"
    low: Share = 0.2
    high: NonNegative = 0.28
    beta_low: NonNegative = 1.0
    beta_high: NonNegative = 1.0
    dual: Annotated[float, Field(gt=1)] | None = 10.0


class Cispo(Part):
    equation = "loss = -sg(min(rho, cap)) A lp"
    source = "arXiv 2506.13585, eq. 4"
    inert_on_policy = True
    kind: Literal["cispo"] = "cispo"
    cap: Above0 = 1.28


class KlCov(Part):
    """No clip at all; the tokens with the largest covariance pay for leaving the old policy."""

    equation = "loss = -A rho, plus coefficient |lp - lp_old| on the top `share` of the covariance"
    source = "arXiv 2505.22617, eq. 12"
    inert_on_policy = True
    scans = True
    kind: Literal["kl_cov"] = "kl_cov"
    share: Share = 2e-3
    coefficient: NonNegative = 1.0


class Nft(Part):
    """Negative-aware fine-tuning: likelihood of right replies, and of the implied positive policy.

    `weight` 1 makes its on-policy gradient that of Dr.GRPO, 2 that of GRPO.
    """

    equation = "right: -w log R; wrong: -w log((1 - q R) / (1 - q)), R = rho, q = share right"
    source = "arXiv 2505.18116, eq. 9"
    binary = True
    kind: Literal["nft"] = "nft"
    weight: Literal[0, 1, 2] = 1
    negative: NonNegative = 1.0


SurrogateSpec = Annotated[
    PolicyGradient | PpoClip | Adapo | Gppo | Cispo | KlCov | Nft, Field(discriminator="kind")
]


class ClipCov(Part):
    """Drops a few tokens of high covariance from the gradient; divisors stay as they were."""

    equation = "loss = 0 on `share` of the tokens, drawn among low < cov < high and not clipped"
    source = "arXiv 2505.22617, eq. 11"
    scans = True
    kind: Literal["clip_cov"] = "clip_cov"
    share: Share = 2e-4
    low: float = 1.0
    high: float = 5.0
    at_least_one: bool = False


# corrections, terms, aggregation -----------------------------------------------------------------


class Truncated(Part):
    """Truncated importance sampling (mode truncate) or masked (mode mask)."""

    equation = "w = min(exp(lp_old - lp_rollout), cap), or w 1[w <= cap]"
    source = "Yao et al. 2025, off-policy rollouts; arXiv 2510.26788"
    needs = frozenset({"rollout_logp"})
    kind: Literal["truncated"] = "truncated"
    cap: Above0 = 2.0
    level: Literal["token", "sequence"] = "token"
    mode: Literal["truncate", "mask"] = "truncate"


class Kl(Part):
    """As a loss, on-policy: k1 has no gradient, k2 and k3_is reverse KL's, k3 forward KL's."""

    equation = "x = lp - lp_ref; k1 = x, k2 = x^2/2, k3 = e^-x + x - 1, k3_is = rho k3"
    source = "Schulman 2020; arXiv 2510.01555"
    needs = frozenset({"reference"})
    kind: Literal["kl"] = "kl"
    estimator: Literal["k1", "k2", "k3", "k3_is"] = "k3"
    coefficient: NonNegative = 1e-2


class EntropyBonus(Part):
    equation = "loss -= coefficient mean(H), with the gradient through H"
    source = "arXiv 1602.01783"
    needs = frozenset({"entropy_gradient"})
    kind: Literal["entropy_bonus"] = "entropy_bonus"
    coefficient: float = 5e-3


class AdaptiveEntropy(Part):
    """The bonus acts while H <= target; its coefficient moves by `delta` after every update."""

    equation = "c += delta if H <= target else -delta, c in [low, high]; loss -= c mean(H)"
    source = "arXiv 2505.22312"
    needs = frozenset({"entropy_gradient"})
    kind: Literal["adaptive_entropy"] = "adaptive_entropy"
    target: NonNegative = 0.1
    delta: Above0 = 5e-3
    low: NonNegative = 0.0
    high: NonNegative = 1.0


TermSpec = Annotated[Kl | EntropyBonus | AdaptiveEntropy, Field(discriminator="kind")]


class TokenMean(Part):
    equation = "sum of token losses / number of tokens of the mini-batch"
    source = "arXiv 2503.14476"
    kind: Literal["token_mean"] = "token_mean"


class SequenceMean(Part):
    equation = "mean over replies of the mean over their tokens"
    source = "arXiv 2402.03300, eq. 1"
    kind: Literal["sequence_mean"] = "sequence_mean"


class Constant(Part):
    """`tokens` None: the budget max_tokens of the rollouts."""

    equation = "sum of token losses / (replies x tokens)"
    source = "arXiv 2503.20783"
    kind: Literal["constant"] = "constant"
    tokens: Positive | None = None


AggregationSpec = Annotated[TokenMean | SequenceMean | Constant, Field(discriminator="kind")]


class ObjectiveSpec(Spec):
    """One of each stage; see the module's first lines for their order."""

    estimator: EstimatorSpec = Grpo()
    transforms: tuple[TransformSpec, ...] = ()
    masks: tuple[MaskSpec, ...] = ()
    ratio: Literal["token", "sequence"] = "token"
    surrogate: SurrogateSpec = PpoClip()
    dropping: ClipCov | None = None
    correction: Truncated | None = None
    terms: tuple[TermSpec, ...] = ()
    aggregation: AggregationSpec = TokenMean()

    @property
    def parts(self) -> tuple[Part, ...]:
        """All parts that are there, in the order of the stages."""
        some = (self.dropping, self.correction)
        return (
            self.estimator, *self.transforms, *self.masks, self.surrogate,
            *(part for part in some if part is not None), *self.terms, self.aggregation,
        )  # fmt: skip

    def requires(self, need: Need) -> bool:
        return any(need in part.needs for part in self.parts)
