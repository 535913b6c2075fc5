"""Memento's parametric read: Q(s, c) ~ p(r = 1 | s, c), the chance of success with case c shown.

arXiv 2508.16153 eq. 14-16. The paper trains its encoder end to end and lets Q read the case's plan,
too. Here the embeddings are frozen, so that the stored vectors serve as they are, and Q is an MLP
of two layers over the vectors of the query and of the case:

    x = [q, c, q * c, |q - c|],    Q = sigmoid(w2 . relu(W1 x + b1) + b2)

It is trained by `memory.read.neural_fit` and read with numpy alone.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memory.errors import StoreError
from memory.search.embed import F32, Fingerprint
from memory.search.index_files import replace_file
from memory.sqlite.codec import canonical_json, sha256

F64 = NDArray[np.float64]
FORMAT = 1


@dataclass(frozen=True, slots=True, eq=False)
class NeuralQ:
    """A trained Q of one embedding space.

    Attributes:
        fingerprint: of the embedder of both vectors.
        w1: (4 dim, hidden), of the inputs that `features` makes.
        b1: (hidden,)
        w2: (hidden,)
        b2: (), the bias of the logit.
        notes: how it was trained and what it was measured to be worth, as JSON can say it.
    """

    fingerprint: Fingerprint
    w1: F32
    b1: F32
    w2: F32
    b2: F32
    notes: Mapping[str, Any]

    @property
    def dim(self) -> int:
        return len(self.w1) // 4

    @property
    def digest(self) -> str:
        """Hash of the weights and of the space: a report names by it what was read by."""
        return sha256(canonical_json([self.fingerprint.digest, self._told_weights()]))

    def _told_weights(self) -> dict[str, Any]:
        return {name: _encoded(getattr(self, name)) for name in _WEIGHTS}

    def values(self, query: F32, cases: F32) -> F64:
        """Q of one query (dim,) and each of the cases (n, dim): shape (n,), each in [0, 1].

        Every case is computed alone, so that its value does not depend on its company.

        Raises:
            ValueError: for vectors of another dimension.
        """
        if query.shape != (self.dim,) or cases.ndim != 2 or cases.shape[1] != self.dim:
            raise ValueError(f"this model reads vectors of {self.dim} numbers; give it such.")
        inputs = features(np.broadcast_to(query, cases.shape), cases).astype(np.float64)
        first, second = self.w1.astype(np.float64), self.w2.astype(np.float64)
        hidden = [np.maximum(row @ first + self.b1, 0.0) for row in inputs]
        logits = np.array([float(row @ second) + float(self.b2) for row in hidden])
        return np.array((1 + np.tanh(logits / 2)) / 2)  # the sigmoid, without overflow

    def save(self, path: Path) -> None:
        """Write one file of JSON, whole or not at all; equal models give equal bytes."""
        body = {
            "format": FORMAT,
            "fingerprint": asdict(self.fingerprint),
            "notes": self.notes,
            "weights": self._told_weights(),
        }
        told = {**body, "check": sha256(canonical_json(body))}
        replace_file(path, (json.dumps(told, indent=1, sort_keys=True) + "\n").encode())

    @classmethod
    def load(cls, path: Path, fingerprint: Fingerprint) -> NeuralQ:
        """Read what `save` wrote, for the embedding space that it was trained in.

        Raises:
            FingerprintMismatch: if it was trained on vectors of another space.
            StoreError: if the file is missing, damaged or of another version.
        """
        try:
            body = json.loads(path.read_text(encoding="utf-8"))
            if body.pop("check") != sha256(canonical_json(body)) or body["format"] != FORMAT:
                raise ValueError("changed, or of another version")
            trained = Fingerprint(**body["fingerprint"])
            weights = {name: _decoded(body["weights"][name]) for name in _WEIGHTS}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(
                f"{path} holds no model of case values that this version can read; train one."
            ) from error
        trained.require(fingerprint)
        return cls(trained, **weights, notes=body["notes"])


_WEIGHTS = ("w1", "b1", "w2", "b2")
_TYPE = np.dtype("<f4")


def _encoded(weights: F32) -> dict[str, Any]:
    data = np.ascontiguousarray(weights, _TYPE).tobytes()
    return {"shape": list(weights.shape), "float32": base64.b64encode(data).decode()}


def _decoded(told: Mapping[str, Any]) -> F32:
    numbers = np.frombuffer(base64.b64decode(told["float32"]), _TYPE)
    return numbers.reshape(told["shape"]).astype(np.float32)


def features(queries: F32, cases: F32) -> F32:
    """Inputs of the model, (n, 4 dim), from unit rows (n, dim) of queries and of cases.

    The numbers of a unit row are about 1 / sqrt(dim) and their products about 1 / dim. They are
    scaled to about 1 each; else their products would learn far more slowly than the rest.
    """
    dim = queries.shape[1]
    q, c = queries * math.sqrt(dim), cases * math.sqrt(dim)
    inputs: F32 = np.concatenate([q, c, q * c, np.abs(q - c)], axis=1).astype(np.float32)
    return inputs
