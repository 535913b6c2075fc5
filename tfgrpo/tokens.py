"""Token ids and entropies of an evaluation's samples, packed into one small file.

What token-level measures need (EAD, forking shares, the shift of a policy) and a row of outcomes
does not hold.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tfgrpo.errors import RunError
from tfgrpo.types import RolloutGroup

TOKENS = "tokens.npz"


@dataclass(frozen=True, slots=True)
class SampledTokens:
    """One sample: its generated token ids and, for each, nats of the temperature-1 distribution."""

    ids: tuple[int, ...]
    entropies: tuple[float, ...] = ()


def pack(groups: Sequence[RolloutGroup]) -> bytes | None:
    """All samples of all groups in order; None if a backend gave no token ids.

    Entropies are kept to three digits (half precision). Equal groups give equal bytes.
    """
    import numpy as np

    rollouts = [r for group in groups for r in group.rollouts]
    ids = [r.completion.token_ids for r in rollouts]
    if not rollouts or any(tokens is None for tokens in ids):
        return None
    entropies = [r.completion.entropies or () for r in rollouts]
    file = io.BytesIO()
    np.savez_compressed(
        file,
        tasks=np.array([group.task.task_id for group in groups], dtype=np.str_),
        samples=np.array([group.n for group in groups], dtype=np.int32),
        lengths=np.array([len(tokens or ()) for tokens in ids], dtype=np.int32),
        ids=np.array([i for tokens in ids for i in tokens or ()], dtype=np.int32),
        entropies=np.array([h for row in entropies for h in row], dtype=np.float16),
    )
    return file.getvalue()


def unpack(data: bytes) -> Mapping[str, tuple[SampledTokens, ...]]:
    """The samples by task, in the order in which they were packed.

    Raises:
        RunError: if the file is damaged.
    """
    import zipfile

    import numpy as np

    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            tasks, samples = arrays["tasks"].tolist(), arrays["samples"].tolist()
            lengths, ids = arrays["lengths"].tolist(), arrays["ids"].tolist()
            entropies = arrays["entropies"].astype(float).tolist()
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise RunError(f"{TOKENS} is damaged ({error}); evaluate in a new run.") from None
    if sum(samples) != len(lengths) or sum(lengths) != len(ids):
        raise RunError(f"{TOKENS} is damaged; evaluate in a new run folder.")
    rows, start = [], 0
    for length in lengths:
        upto = start + length
        rows.append(SampledTokens(tuple(ids[start:upto]), tuple(entropies[start:upto])))
        start = upto
    found, at = {}, 0
    for task, count in zip(tasks, samples, strict=True):
        found[task] = tuple(rows[at : at + count])
        at += count
    return found
