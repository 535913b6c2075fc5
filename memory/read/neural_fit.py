"""Training `NeuralQ` on logged reads, and what it is worth on queries it never saw.

The base rate is reported beside the model, because Q can do well by knowing which queries are easy;
and so is the cosine, which ranks cases without any training.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from memory.read.neural import F64, NeuralQ, features
from memory.read.neural_data import Example, Rows, rows_of, split
from memory.read.worth import Worth, with_spread, worth
from memory.search.embed import F32, Fingerprint

Weights = dict[str, F32]


@dataclass(frozen=True, slots=True)
class Training:
    """How to train.

    Attributes:
        hidden: width of the layer between.
        rate: of AdamW.
        decay: of AdamW, decoupled weight decay.
        batch: examples in a step.
        epochs: most passes over the data.
        patience: passes without a lower log-loss on the stopping queries after which it ends.
        held: share of the queries that decides when to stop, and again that is kept for the report.
        seed: of the split, the first weights and the order of the examples.

    Raises:
        ValueError: on construction, for numbers that train nothing.
    """

    hidden: int = 64
    rate: float = 1e-3
    decay: float = 1e-2
    batch: int = 64
    epochs: int = 100
    patience: int = 10
    held: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.hidden, self.batch, self.epochs, self.patience) < 1 or self.rate <= 0:
            raise ValueError("hidden, batch, epochs and patience are 1 or above, rate above 0.")
        if not 0 < self.held < 0.5 or self.decay < 0:
            raise ValueError("the held share is above 0 and below 1/2, decay 0 or above.")


@dataclass(frozen=True, slots=True)
class FitReport:
    """What came of the training, measured on queries that took no part in it.

    Attributes:
        model: the trained Q.
        base_rate: the share of successes (s + 1) / (n + 2) in training, for every case.
        cosine: the likeness of query and case, which needs no training.
        examples: numbers for training, stopping and report.
        queries: the same.
        with_spread: those of them whose examples have both outcomes; only these teach ranking.
        left_out: examples of which a vector was missing.
        epoch: the pass that was kept; 0 is the base rate itself.
    """

    model: Worth
    base_rate: Worth
    cosine: Worth
    examples: tuple[int, int, int]
    queries: tuple[int, int, int]
    with_spread: tuple[int, int, int]
    left_out: int
    epoch: int


def fit(
    examples: Iterable[Example],
    queries: Mapping[str, F32],
    cases: Mapping[int, F32],
    fingerprint: Fingerprint,
    training: Training = Training(),
) -> tuple[NeuralQ, FitReport]:
    """Train Q by binary cross-entropy (eq. 15, gradient eq. 26), and measure it.

    It starts as the base rate, and the pass with the lowest log-loss on the stopping queries is
    kept: where nothing can be learned, the base rate comes back. The same input gives the same
    model on one machine.

    Args:
        examples: in any order; those without vectors are left out and counted.
        queries: unit vector (dim,) of each query, by its name in the examples.
        cases: unit vector (dim,) of each case.
        fingerprint: of the embedder that made all of these vectors.
        training: how.

    Raises:
        StoreError: if fewer than three queries have examples with vectors.
    """
    given = sorted(examples, key=lambda e: (e.query, e.case_id, e.success))
    known = [e for e in given if e.query in queries and e.case_id in cases]
    rows = rows_of(known, queries, cases)
    parts = [rows.of(part) for part in split(rows.groups, training.held, training.seed)]
    learn, stop, judge = parts
    base = (float(learn.labels.sum()) + 1) / (len(learn) + 2)
    weights, epoch = _train(learn, stop, base, training)
    model = NeuralQ(fingerprint, **weights, notes={})
    report = FitReport(
        model=worth(_values(model, judge), judge.labels, judge.groups),
        base_rate=worth(np.full(len(judge), base), judge.labels, judge.groups),
        cosine=worth(_cosines(judge), judge.labels, judge.groups, probabilities=False),
        examples=_three(len(part) for part in parts),
        queries=_three(len(np.unique(part.groups)) for part in parts),
        with_spread=_three(len(with_spread(part.labels, part.groups)) for part in parts),
        left_out=len(given) - len(known),
        epoch=epoch,
    )
    told = json.dumps([(e.query, e.case_id, e.success) for e in known]).encode()
    notes = {
        "training": asdict(training),
        "report": asdict(report),
        "examples_sha256": hashlib.sha256(told).hexdigest(),
    }
    return NeuralQ(fingerprint, **weights, notes=notes), report


def _train(learn: Rows, stop: Rows, base: float, training: Training) -> tuple[Weights, int]:
    """The weights of the best pass, and its number."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

    rng = np.random.default_rng([training.seed, 1])
    start = _start(learn.queries.shape[1], base, training, rng)
    tensors = {name: torch.from_numpy(w).requires_grad_() for name, w in start.items()}
    optimiser = torch.optim.AdamW(
        list(tensors.values()), lr=training.rate, weight_decay=training.decay
    )

    def loss(rows: Rows) -> Any:
        inputs = torch.from_numpy(features(rows.queries, rows.cases))
        hidden = torch.relu(inputs @ tensors["w1"] + tensors["b1"])
        logits = hidden @ tensors["w2"] + tensors["b2"]
        return cross_entropy(logits, torch.from_numpy(rows.labels.astype(np.float32)))

    def held_out() -> float:
        with torch.no_grad():
            return float(loss(stop))

    best, least, kept = 0, held_out(), _copied(tensors)
    for epoch in range(1, training.epochs + 1):
        order = rng.permutation(len(learn))
        for at in range(0, len(order), training.batch):
            optimiser.zero_grad()
            loss(learn.of(order[at : at + training.batch])).backward()
            optimiser.step()
        if (now := held_out()) < least:
            best, least, kept = epoch, now, _copied(tensors)
        elif epoch - best >= training.patience:
            break
    return kept, best


def _start(dim: int, base: float, training: Training, rng: np.random.Generator) -> Weights:
    """He's first layer (arXiv 1502.01852) and an output that is the base rate for every input."""
    first = rng.normal(scale=math.sqrt(2 / (4 * dim)), size=(4 * dim, training.hidden))
    return {
        "w1": first.astype(np.float32),
        "b1": np.zeros(training.hidden, np.float32),
        "w2": np.zeros(training.hidden, np.float32),
        "b2": np.array(math.log(base / (1 - base)), np.float32),
    }


def _copied(tensors: Mapping[str, Any]) -> Weights:
    return {name: tensor.detach().numpy().copy() for name, tensor in tensors.items()}


def _values(model: NeuralQ, rows: Rows) -> F64:
    pairs = zip(rows.queries, rows.cases, strict=True)
    return np.array([model.values(query, case[None])[0] for query, case in pairs])


def _cosines(rows: Rows) -> F64:
    cosines: F64 = np.einsum("nd,nd->n", rows.queries, rows.cases, dtype=np.float64)
    return cosines


def _three(numbers: Iterable[int]) -> tuple[int, int, int]:
    learn, stop, judge = numbers
    return learn, stop, judge
