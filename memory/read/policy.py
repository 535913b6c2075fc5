"""How a read scores, draws and limits cases: one frozen record for each variant."""

from __future__ import annotations

from dataclasses import dataclass

from memory.credit import PRIOR_STRENGTH, PRIOR_VARIANCE


@dataclass(frozen=True, slots=True)
class BySimilarity:
    """score = cosine (the non-parametric read of Memento, arXiv 2508.16153 eq. 13)."""


@dataclass(frozen=True, slots=True)
class ByValue:
    """score = (1 - w) z(cosine) + w z(U) + c sqrt(ln(1 + N) / (1 + n)).

    The blend is MemRL's (arXiv 2601.03192); U is the shrunk utility, n the credits of the case and
    N those of all eligible ones. z is over the eligible candidates and 0 where they are all equal.

    Attributes:
        weight: w in [0, 1].
        exploration: c >= 0, the bonus of what was rarely tried; 0 in an evaluation.
        strength: n0, how many credits the prior counts for.
    """

    weight: float = 0.5
    exploration: float = 0.0
    strength: float = PRIOR_STRENGTH


@dataclass(frozen=True, slots=True)
class ByModel:
    """score = Q(s, c), the parametric read of Memento (arXiv 2508.16153 eq. 16).

    Q comes with the candidates, see `memory.read.neural`. With `Softmax` the cases are drawn as in
    eq. 7, p(c) ∝ exp(Q(s, c) / tau); the paper itself takes the top k.
    """


Score = BySimilarity | ByValue | ByModel


@dataclass(frozen=True, slots=True)
class TopK:
    """The best scores: every rollout of an item sees the same cases."""


@dataclass(frozen=True, slots=True)
class Softmax:
    """Draw without replacement with probability ∝ exp(score / tau), by Gumbel-top-k.

    Adding tau times Gumbel noise and taking the best k is this draw (arXiv 1903.06059).
    """

    tau: float = 0.5


@dataclass(frozen=True, slots=True)
class Thompson:
    """Replace U by a draw from its posterior, about N(shrunk mean, standard error squared).

    Works with `ByValue` only; the less a case was tried, the wider its draw.
    """

    variance: float = PRIOR_VARIANCE


Draw = TopK | Softmax | Thompson


@dataclass(frozen=True, slots=True)
class ReadPolicy:
    """How cases are scored, drawn and limited.

    Attributes:
        k: most cases shown; 0 switches memory off.
        score: what makes a case good.
        draw: how chance enters.
        floor: least cosine, e.g. the chance level of the embedder; nothing is shown below it.
        max_positive: most successes shown; None for no limit.
        max_negative: most failures shown; None for no limit.
        per_source: most cases of one item; None for no limit.
        diversity: d >= 0 subtracts d * (largest cosine to a case already shown) from the score:
            maximal marginal relevance (Carbonell & Goldstein 1998) divided by its lambda.
        token_budget: most tokens of all shown cases together; None for no limit.

    Raises:
        ValueError: on construction, for limits below 0 and for Thompson without `ByValue`.
    """

    k: int = 4
    score: Score = ByValue()
    draw: Draw = TopK()
    floor: float = -1.0
    max_positive: int | None = None
    max_negative: int | None = 2
    per_source: int | None = None
    diversity: float = 0.0
    token_budget: int | None = None

    def __post_init__(self) -> None:
        limits = (self.k, self.max_positive, self.max_negative, self.per_source, self.token_budget)
        if any(limit is not None and limit < 0 for limit in limits) or self.diversity < 0:
            raise ValueError("limits and diversity are 0 or above; None stands for no limit.")
        if isinstance(self.draw, Thompson) and not isinstance(self.score, ByValue):
            raise ValueError("Thompson draws utilities; use it with the value score.")
        if isinstance(self.draw, Softmax) and not self.draw.tau > 0:
            raise ValueError("tau is above 0; for tau = 0 use the top k.")
        if isinstance(self.score, ByValue) and not (
            0 <= self.score.weight <= 1 and self.score.exploration >= 0 and self.score.strength > 0
        ):
            raise ValueError("weight is in [0, 1], exploration 0 or above, strength above 0.")
