"""What a comparison finds, as frozen records: everything that a table, a figure or a page shows.

Shares are in [0, 1], entropies in nats. Values of an arm with several training seeds are averaged
over the seeds within each problem; every interval is over problems unless it says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tfgrpo.errors import ConfigError
from tfgrpo.metrics.claims import Claim
from tfgrpo.metrics.crossover import CrossoverLaw
from tfgrpo.metrics.seeds import SeededDifference
from tfgrpo.metrics.solved import SolvedSets
from tfgrpo.types import Estimate
from tfgrpo.verdict.arms import Cost, Family
from tfgrpo.verdict.details import Fate, PanelDifference, ProblemShares


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked before anyone looks at the data.

    `base` names the arm that the others are compared with. `endpoints` are the comparisons that
    are judged, Holm-adjusted together over all arms; all others are exploratory. `margin` is how
    much pass@k_max may fall while "coverage is kept" (non-inferiority), in [0, 1].
    """

    base: str
    k_max: int
    k_mid: int = 8
    margin: float = 0.02
    seed: int = 0
    resamples: int = 10_000
    level: float = 0.95

    def __post_init__(self) -> None:
        if not 1 <= self.k_mid <= self.k_max or self.margin <= 0 or self.resamples < 1:
            raise ConfigError(
                f"A comparison needs 1 <= k {self.k_mid} <= {self.k_max}, a positive margin and at "
                "least one resample; correct them."
            )

    @property
    def endpoints(self) -> tuple[str, ...]:
        """pass@1, pass@K and the number of different correct answers."""
        last = (f"pass@{self.k_max}",) if self.k_max > 1 else ()
        return ("pass@1", *last, f"distinct_correct@{self.k_mid}")


@dataclass(frozen=True, slots=True)
class Reading:
    """How an arm's replies were read: what format alone would change looks like a gain otherwise.

    Shares are of graded samples: `truncated` were cut at the token limit, `unread` held no answer.
    `failures` came on top of the graded samples.
    """

    samples: int
    truncated: float
    unread: float
    failures: int
    mean_length: float


@dataclass(frozen=True, slots=True)
class ArmFigures:
    """One arm by itself.

    `curve` is pass@k for k = 1, 2, 4, ... `by_seed` holds each seed's pass@1, in the order of
    `seeds`. `figures` are named by `metric` or `metric@k`: distinct_correct, distinct_modes,
    answer_entropy, token_entropy (nats per token, every token alike), reply_entropy (the same,
    every reply alike), maj@k, pass^k, cover@0.5, auc@k, length; missing where undefined.
    `panel` and `panel_correct` are the views of diversity, on all and on correct samples.
    `modes` is the share of each strategy by dataset.
    """

    name: str
    family: Family
    seeds: tuple[int | None, ...]
    curve: Mapping[int, Estimate]
    by_seed: tuple[float, ...]
    figures: Mapping[str, Estimate]
    reading: Reading
    cost: Cost | None = None
    panel: Mapping[str, Estimate] = field(default_factory=dict)
    panel_correct: Mapping[str, Estimate] = field(default_factory=dict)
    modes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Judgement:
    """Arm `b` against arm `a`, paired by problem and seed: every difference is b - a.

    `curve` is the difference of pass@k with a pointwise band. `differences` are keyed as
    `ArmFigures.figures` and by `pass@k`. `claims` judge the declared endpoints. `crossover` says
    where a catches up with b, None if k_max is 1. `solved` and `solved_twice` are of the first
    seeds. `sentence` is what may be said, no stronger than the intervals.
    """

    a: str
    b: str
    curve: Mapping[int, Estimate]
    differences: Mapping[str, SeededDifference]
    claims: tuple[Claim, ...]
    crossover: CrossoverLaw | None
    solved: SolvedSets
    solved_twice: SolvedSets
    sentence: str


@dataclass(frozen=True, slots=True)
class Interaction:
    """The 2x2 of context and weights: (both - weights) - (context - base), paired by problem.

    Negative where the two give the same gain, positive where each makes the other worth more.
    """

    base: str
    context: str
    weights: str
    both: str
    effects: Mapping[str, Estimate]


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A training run, one entry for each step: accuracy of its rollouts, reply entropy, tokens.

    `entropy` is what `reply_entropy` is of an arm. `tokens` are generated so far.
    `law` is (a, b, R^2) of R = -a exp(H) + b (arXiv 2505.22617), None without a fit.
    """

    name: str
    seed: int | None
    accuracy: tuple[float, ...]
    entropy: tuple[float, ...]
    tokens: tuple[int, ...]
    law: tuple[float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """One sampled text, right or wrong."""

    arm: str
    text: str
    correct: bool


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A problem on which two arms differ most: shares right, and a reply of each."""

    task_id: str
    dataset: str
    prompt: str
    gold: str | None
    shares: Mapping[str, float]
    replies: tuple[Reply, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Everything that one comparison found.

    `judgements` compare each other arm with the base, `duels` further pairs. `floor` is the pass@k
    of guessing frequent training answers, empty where unknown. `stamps` are sentences that must
    stand wherever the numbers stand: forced mismatches, small samples, dropped problems, few seeds.
    `budgets` say which arms of a comparison were not made at the same cost. `settings` is the
    shared protocol. `diversity` compares the panels of all arms with the base's,
    `problems_by_arm` are those that all arms share, `fates` tell of the samples of each arm.
    """

    question: Question
    problems: int
    samples: int
    datasets: Mapping[str, int]
    arms: tuple[ArmFigures, ...]
    judgements: tuple[Judgement, ...]
    duels: tuple[Judgement, ...] = ()
    interaction: Interaction | None = None
    floor: Mapping[int, float] = field(default_factory=dict)
    trajectories: tuple[Trajectory, ...] = ()
    disagreements: tuple[Disagreement, ...] = ()
    stamps: tuple[str, ...] = ()
    budgets: tuple[str, ...] = ()
    settings: Mapping[str, object] = field(default_factory=dict)
    diversity: tuple[PanelDifference, ...] = ()
    problems_by_arm: tuple[ProblemShares, ...] = ()
    fates: tuple[Fate, ...] = ()

    def arm(self, name: str) -> ArmFigures:
        return next(arm for arm in self.arms if arm.name == name)
