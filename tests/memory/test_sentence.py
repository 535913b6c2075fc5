from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from memory.search.calibrate import probe, require_same_space
from memory.search.embed import NoEmbedder
from memory.search.sentence import SentenceEmbedder, folder_fingerprint, packaged_minilm


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
    with pytest.raises(NoEmbedder, match=r"modules\.json is missing"):
        SentenceEmbedder(tmp_path)
    folder = model_folder(tmp_path / "a")
    (folder / "model.safetensors").unlink()
    with pytest.raises(NoEmbedder, match="no weights"):
        folder_fingerprint(folder, "m")


def run(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_neither_import_nor_fingerprint_loads_a_model() -> None:
    run(
        "import sys;"
        "from memory import credit;"
        "from memory.search import approximate, calibrate, embed, index, index_files;"
        "from memory.search import onnx, sentence;"
        "from memory.read import guard, neural, policy, rank;"
        "sentence.SentenceEmbedder(sentence.packaged_minilm()).fingerprint;"
        "heavy = {'torch', 'sentence_transformers', 'faiss', 'scipy.stats', 'tokenizers'};"
        "assert not (heavy | {'huggingface_hub', 'onnxruntime'}) & set(sys.modules)"
    )


def test_a_model_of_the_hub_is_read_from_its_cache(tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--owner--tiny"
    folder = model_folder(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    code = (
        "from memory.search.sentence import SentenceEmbedder;"
        "embedder = SentenceEmbedder('owner/tiny');"
        "print(embedder.folder, embedder.fingerprint.model, embedder.fingerprint.digest)"
    )
    printed = run(code, HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1")
    assert printed.split() == [str(folder), "tiny", folder_fingerprint(folder, "tiny").digest]


@pytest.mark.parametrize("name", ["owner/absent", "absent", "not/a/name", "/no/such/folder"])
def test_a_model_that_cannot_be_had_is_one_sentence(name: str, tmp_path: Path) -> None:
    code = (
        "from memory.search.sentence import SentenceEmbedder, NoEmbedder\n"
        f"try: SentenceEmbedder({name!r})\n"
        "except NoEmbedder as error: print(error)"
    )
    printed = run(code, HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1")
    assert printed.startswith(f"{name} is no folder")
    assert printed.endswith("name the folder of a saved model, or go online.")


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
    _, same, near, far = rows @ rows[0]
    assert same > 0.9
    assert near > 0.6 > 0.3 > far
    require_same_space(probe(embedder), probe(SentenceEmbedder(packaged_minilm(), batch_size=1)))
    assert embedder.embed_documents([]).shape == (0, 384)
