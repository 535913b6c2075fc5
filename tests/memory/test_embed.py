from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.search.embed import F32, Fingerprint, FingerprintMismatch, HashingEmbedder, unit_rows

texts = st.lists(st.text(max_size=30), max_size=5)


def fingerprint(**changes: str) -> Fingerprint:
    fields = {"weights": "w", "tokenizer": "t", "pooling": "p", "prompts": "q", "dtype": "float32"}
    return Fingerprint(**{"model": "m", "backend": "torch", **fields, **changes})


def cosine(a: F32, b: F32) -> float:
    return float(a @ b)


@given(texts)
def test_hashing_gives_unit_rows_that_do_not_depend_on_the_batch(batch: list[str]) -> None:
    embedder = HashingEmbedder(dim=32)
    rows = embedder.embed_documents(batch)
    assert rows.shape == (len(batch), 32)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    for row, text in zip(rows, batch, strict=True):
        np.testing.assert_array_equal(row, embedder.embed_queries([text])[0])


def test_hashing_is_equal_in_every_process() -> None:
    """A golden value: Python's own hash() would differ from run to run."""
    row = HashingEmbedder(dim=8, sizes=(2,)).embed_documents(["ab"])[0]
    signs = {index: float(np.sign(value)) for index, value in enumerate(row) if value}
    assert signs == {2: -1.0, 4: -1.0, 6: 1.0}
    counted = HashingEmbedder(dim=64).embed_documents(["Ab  C"])
    np.testing.assert_array_equal(counted, HashingEmbedder(dim=64).embed_documents(["ａb c"]))


def test_hashing_counts_every_n_gram() -> None:
    grams = Counter(HashingEmbedder(sizes=(2, 3))._grams("aaa"))
    assert grams == Counter({" a": 1, "aa": 2, "a ": 1, " aa": 1, "aaa": 1, "aa ": 1})


def test_hashing_sees_spelling() -> None:
    near, same, far = HashingEmbedder().embed_documents(
        ["When was the author born?", "Where was the author born?", "Compute 12 * 7"]
    )
    assert cosine(near, same) > 0.7
    assert abs(cosine(near, far)) < 0.3


@pytest.mark.parametrize("broken", [{"dim": 0}, {"sizes": ()}, {"sizes": (0,)}])
def test_hashing_refuses_nonsense(broken: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="needs dim"):
        HashingEmbedder(**broken)


def test_fingerprints_compare_everything_but_the_name() -> None:
    assert fingerprint() == fingerprint(model="another name")
    assert fingerprint().digest == fingerprint(model="another name").digest
    fingerprint().require(fingerprint(model="another name"))
    changed = [fingerprint(**{name: "x"}) for name in fingerprint().differences(fingerprint(
        weights="1", tokenizer="1", pooling="1", prompts="1", dtype="1", backend="1"
    ))]  # fmt: skip
    assert len({fingerprint().digest, *(other.digest for other in changed)}) == 7
    for other in changed:
        with pytest.raises(FingerprintMismatch, match="embed both with one"):
            fingerprint().require(other)


def test_hashing_embedders_of_other_sizes_are_other_spaces() -> None:
    digests = {
        HashingEmbedder(dim=dim, sizes=sizes).fingerprint.digest
        for dim in (32, 64)
        for sizes in ((2,), (2, 3))
    }
    assert len(digests) == 4


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_a_vector_without_direction_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="no direction"):
        unit_rows(np.full((1, 3), bad))
