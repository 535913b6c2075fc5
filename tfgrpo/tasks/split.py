"""Splits and ids from the content of an instance, never from seeds or row numbers.

Generators whose item i of seed s is item i-1 of seed s+1 share nearly everything between "train
seed" and "test seed". A hash of the instance itself puts equal problems into one split wherever
they come from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from tfgrpo.errors import ConfigError
from tfgrpo.seeding import stable_hash
from tfgrpo.types import Split, Task

SPLITS: tuple[Split, ...] = ("train", "dev", "test")
SHARES = (0.8, 0.1, 0.1)


def split_of(key: str, salt: str = "", shares: tuple[float, float, float] = SHARES) -> Split:
    """The split of the instance `key`: u = sha256(salt, key) / 2^64 against cumulative shares.

    Shares are of train, dev and test. Raises ConfigError unless they are non-negative and sum to 1.
    """
    if min(shares) < 0 or abs(sum(shares) - 1) > 1e-9:
        raise ConfigError(
            f"The split shares {shares} are no division of 1; give three non-negative shares of "
            "train, dev and test that sum to 1."
        )
    digest = hashlib.sha256(f"{salt}\0{key}".encode()).digest()
    u = int.from_bytes(digest[:8], "big") / 2**64
    if u < shares[0]:
        return "train"
    return "dev" if u < shares[0] + shares[1] or not shares[2] else "test"


def task_id_of(dataset: str, canonical: object) -> str:
    """The id of the instance that `canonical` (JSON values) describes."""
    return stable_hash(dataset, canonical)


def select(tasks: Iterable[Task], limit: int, seed: int) -> Sequence[Task]:
    """At most `limit` tasks in an order drawn by `seed`; a smaller limit gives a prefix."""
    return tuple(sorted(tasks, key=lambda task: stable_hash(seed, task.task_id))[:limit])
