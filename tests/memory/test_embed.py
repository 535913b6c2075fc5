from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.embed import (
    F32,
    PROBES,
    Fingerprint,
    FingerprintMismatch,
    HashingEmbedder,
    SentenceEmbedder,
    calibrate,
    chance_level,
    folder_fingerprint,
    packaged_minilm,
    probe,
    random_pair_cosines,
    require_same_space,
    unit_rows,
)

texts = st.lists(st.text(max_size=30), max_size=5)


def fingerprint(**changes: str) -> Fingerprint:
    fields = {"weights": "w", "tokenizer": "t", "pooling": "p", "prompts": "q", "dtype": "float32"}
    return Fingerprint(**{"model": "m", "backend": "torch", **fields, **changes})


def model_folder(folder: Path, *, weights: bytes = b"weights", query: str = "") -> Path:
    (folder / "1_Pooling").mkdir(parents=True)
    modules = [{"path": ""}, {"path": "1_Pooling"}]
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "config.json").write_text('{"hidden_size": 4}', encoding="utf-8")
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    (folder / "1_Pooling" / "config.json").write_text('{"mean": true}', encoding="utf-8")
    prompts = json.dumps({"__version__": {"torch": "1"}, "prompts": {"query": query}})
    (folder / "config_sentence_transformers.json").write_text(prompts, encoding="utf-8")
    return folder


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


def test_a_folder_is_fingerprinted_by_what_decides_its_vectors(tmp_path: Path) -> None:
    first = folder_fingerprint(model_folder(tmp_path / "a"), "a")
    copy = model_folder(tmp_path / "b")
    (copy / "README.md").write_text("changed", encoding="utf-8")
    (copy / "pytorch_model.bin").write_bytes(b"not loaded beside safetensors")
    assert folder_fingerprint(copy, "b") == first
    prompts = copy / "config_sentence_transformers.json"
    prompts.write_text(prompts.read_text(encoding="utf-8").replace('"1"', '"2"'), encoding="utf-8")
    assert folder_fingerprint(copy, "b") == first


@pytest.mark.parametrize(
    ("file", "field"),
    [
        ("model.safetensors", "weights"),
        ("tokenizer.json", "tokenizer"),
        ("1_Pooling/config.json", "pooling"),
        ("config.json", "pooling"),
    ],
)
def test_a_changed_file_is_another_space(tmp_path: Path, file: str, field: str) -> None:
    first = folder_fingerprint(model_folder(tmp_path / "a"), "m")
    other = model_folder(tmp_path / "b")
    (other / file).write_text('{"changed": 1}', encoding="utf-8")
    assert first.differences(folder_fingerprint(other, "m")) == (field,)


def test_prompts_are_part_of_the_space(tmp_path: Path) -> None:
    first = folder_fingerprint(model_folder(tmp_path / "a"), "m")
    other = folder_fingerprint(model_folder(tmp_path / "b", query="query: "), "m")
    assert first.differences(other) == ("prompts",)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"modules\.json is missing"):
        SentenceEmbedder(tmp_path)
    folder = model_folder(tmp_path / "a")
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="no weights"):
        folder_fingerprint(folder, "m")


def test_chance_level_is_the_quantile_of_random_pairs() -> None:
    rows = unit_rows(np.random.default_rng(1).normal(size=(300, 64)))
    every = (rows @ rows.T)[np.triu_indices(300, k=1)]
    drawn = random_pair_cosines(rows, pairs=20_000, seed=3)
    assert len(drawn) == 20_000
    assert chance_level(drawn) == pytest.approx(np.quantile(every, 0.995), abs=0.02)
    # Independent directions in d dimensions: cosine ~ N(0, 1/d).
    assert chance_level(drawn) == pytest.approx(2.576 / 8, abs=0.03)
    all_pairs = random_pair_cosines(rows[:20], pairs=190, seed=0)
    np.testing.assert_allclose(all_pairs, (rows[:20] @ rows[:20].T)[np.triu_indices(20, k=1)],
                               atol=1e-6)  # fmt: skip


def test_no_pair_is_a_row_with_itself() -> None:
    rows = np.eye(300, dtype=np.float32)
    assert random_pair_cosines(rows, pairs=5_000, seed=0).max() == 0


def test_calibration_ignores_copies() -> None:
    embedder = HashingEmbedder(dim=256)
    words = ["alpha", "Beta two", "gamma?", "1234", "delta x"]
    once = calibrate(embedder, words)
    assert calibrate(embedder, words * 5 + [w.upper() for w in words]).texts == 5
    assert once.pairs == 10
    assert calibrate(embedder, words * 5).floor == once.floor < 0.9
    with pytest.raises(ValueError, match="two different texts"):
        calibrate(embedder, ["same", "SAME "])


def test_probes_detect_a_moved_space() -> None:
    kept = probe(HashingEmbedder(dim=64))
    assert kept.shape == (len(PROBES), 64)
    require_same_space(kept, probe(HashingEmbedder(dim=64)))
    with pytest.raises(FingerprintMismatch, match="probe cosine"):
        require_same_space(kept, probe(HashingEmbedder(dim=64, sizes=(2, 3))))
    with pytest.raises(FingerprintMismatch, match="re-embed"):
        require_same_space(kept, probe(HashingEmbedder(dim=32)))


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_a_vector_without_direction_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="no direction"):
        unit_rows(np.full((1, 3), bad))


def test_neither_import_nor_fingerprint_loads_a_model() -> None:
    code = (
        "import sys; from memory import embed, index, rank, guard, credit;"
        "embed.SentenceEmbedder(embed.packaged_minilm()).fingerprint;"
        "assert not {'torch', 'sentence_transformers', 'faiss', 'scipy.stats'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_minilm_loads_offline_and_sees_meaning() -> None:
    embedder = SentenceEmbedder(packaged_minilm(), name="all-MiniLM-L6-v2")
    rows = embedder.embed_queries(
        [
            "Where was Ada Lovelace born?",
            "When was Ada Lovelace born?",
            "In which town did Ada Lovelace come into the world?",
            "Compute the sum of the first ten primes.",
        ]
    )
    assert rows.shape == (4, embedder.dim) == (4, 384)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert cosine(rows[0], rows[1]) > 0.9
    assert cosine(rows[0], rows[2]) > 0.6 > 0.3 > cosine(rows[0], rows[3])
    require_same_space(probe(embedder), probe(SentenceEmbedder(packaged_minilm(), batch_size=1)))
    assert embedder.embed_documents([]).shape == (0, 384)
