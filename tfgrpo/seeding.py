"""Hashed child seeds, so that no two uses share a random stream and no global RNG is touched."""

from __future__ import annotations

import hashlib
import json
from random import Random


def stable_hash(*parts: object, digits: int = 16) -> str:
    """Hex digest of JSON-serialisable parts; equal in every process and on every machine."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


def derive_seed(root: int, *labels: object) -> int:
    """A 63-bit child seed of `root` named by `labels`.

    Adding one to a seed never yields a neighbour's stream, unlike `seed + index`.
    """
    return int(stable_hash(root, *labels), 16) >> 1


def derive_rng(root: int, *labels: object) -> Random:
    return Random(derive_seed(root, *labels))
