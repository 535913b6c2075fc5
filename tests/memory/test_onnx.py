from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from memory.search.embed import NoEmbedder
from memory.search.onnx import OnnxEmbedder, pooled
from memory.search.onnx_export import NEEDED, export
from memory.search.sentence import SentenceEmbedder, packaged_minilm

WORDS = ["[PAD]", "[CLS]", "red", "green", "blue"]
TABLE = np.array([[9.0, 9.0, 9.0], [1.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0, 0, 4]])


class Lookup:
    """A network whose states are the rows of a table."""

    def __init__(self) -> None:
        self.lengths: list[int] = []

    def get_inputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="input_ids"), SimpleNamespace(name="attention_mask")]

    def run(self, outputs: None, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        assert set(feeds) == {"input_ids", "attention_mask"}
        self.lengths.append(feeds["input_ids"].shape[1])
        return [TABLE[feeds["input_ids"]].astype(np.float32)]


def model(folder: Path, pooling: Mapping[str, Any], **prompts: str) -> Path:
    tokenizer = Tokenizer(WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[PAD]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 1)])
    tokenizer.enable_padding(length=99)  # as the published MiniLM does
    modules = [
        {"path": "", "type": "sentence_transformers.models.Transformer"},
        {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    files = {
        "modules.json": modules,
        "1_Pooling/config.json": pooling,
        "sentence_bert_config.json": {"max_seq_length": 4},
        "tokenizer_config.json": {"pad_token": "[PAD]"},
        "config_sentence_transformers.json": {"prompts": prompts},
    }
    (folder / "onnx").mkdir(parents=True)
    (folder / "1_Pooling").mkdir()
    (folder / "onnx" / "model.onnx").write_bytes(b"graph")
    tokenizer.save(str(folder / "tokenizer.json"))
    for name, body in files.items():
        (folder / name).write_text(json.dumps(body), encoding="utf-8")
    return folder


def embedder(folder: Path, **settings: object) -> OnnxEmbedder:
    return OnnxEmbedder(folder, session=Lookup(), **settings)


def unit(*numbers: float) -> np.ndarray:
    return np.array(numbers) / np.linalg.norm(numbers)


MEAN = {"pooling_mode": "mean"}
TEXTS = ["red", "red green blue red red red", "", "green green"]


def test_mean_pooling_by_hand_without_padding_and_cut_at_the_maximum(tmp_path: Path) -> None:
    """The second text keeps [CLS] and three words, the third only [CLS]."""
    rows = embedder(model(tmp_path, MEAN)).embed_documents(TEXTS)
    expected = [unit(2, 1, 1), unit(2, 3, 5), unit(1, 1, 1), unit(1, 5, 1)]
    np.testing.assert_allclose(rows, expected, atol=1e-6)
    assert rows.dtype == np.float32


def test_first_token_pooling(tmp_path: Path) -> None:
    rows = embedder(model(tmp_path, {"pooling_mode_cls_token": True})).embed_documents(TEXTS)
    np.testing.assert_allclose(rows, [unit(1, 1, 1)] * 4, atol=1e-6)
    left_padded = pooled(np.arange(6.0).reshape(1, 3, 2), np.array([[0, 1, 1]]), "cls")
    assert left_padded.tolist() == [[2.0, 3.0]]


def test_queries_and_documents_have_their_prompts(tmp_path: Path) -> None:
    found = embedder(model(tmp_path, MEAN, query="red ", document="blue "))
    np.testing.assert_allclose(found.embed_queries(["green"]), [unit(2, 3, 1)], atol=1e-6)
    np.testing.assert_allclose(found.embed_documents(["green"]), [unit(1, 3, 5)], atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_neither_the_order_nor_the_batch_changes_a_row(tmp_path: Path, batch_size: int) -> None:
    folder, lookup = model(tmp_path, MEAN), Lookup()
    found = OnnxEmbedder(folder, session=lookup, batch_size=batch_size)
    alone = [found.embed_documents([text])[0] for text in TEXTS]
    lookup.lengths.clear()
    np.testing.assert_array_equal(found.embed_documents(TEXTS), alone)
    assert lookup.lengths == {1: [1, 2, 3, 4], 2: [2, 4], 64: [4]}[batch_size]
    assert found.embed_documents([]).shape == (0, found.dim) == (0, 3)


def test_the_space_is_its_own_and_follows_the_graph(tmp_path: Path) -> None:
    folder = model(tmp_path, MEAN)
    (folder / "model.safetensors").write_bytes(b"weights")
    first = embedder(folder).fingerprint
    torch = SentenceEmbedder(folder).fingerprint
    assert first.differences(torch) == ("weights", "dtype", "backend")
    (folder / "onnx" / "model.onnx_data").write_bytes(b"outside the graph")
    second = embedder(folder).fingerprint
    (folder / "onnx" / "model.onnx").write_bytes(b"int8")
    assert first.differences(second) == second.differences(embedder(folder).fingerprint)
    assert first.differences(second) == ("weights",)


@pytest.mark.parametrize(
    "pooling",
    [
        {"pooling_mode": "lasttoken"},
        {"pooling_mode": ["mean", "max"]},
        {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True},
        {"pooling_mode": "mean", "include_prompt": False},
        {},
    ],
)
def test_what_only_sentence_transformers_can_do_is_left_to_it(
    tmp_path: Path, pooling: dict[str, object]
) -> None:
    with pytest.raises(NoEmbedder, match="instead of ONNX"):
        embedder(model(tmp_path, pooling))


def test_another_module_or_a_missing_graph_is_refused(tmp_path: Path) -> None:
    folder = model(tmp_path, MEAN)
    with pytest.raises(NoEmbedder, match="no weights"):
        embedder(folder, file="onnx/absent.onnx")
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    dense = {"path": "2_Dense", "type": "sentence_transformers.models.Dense"}
    (folder / "modules.json").write_text(json.dumps([*modules, dense]), encoding="utf-8")
    with pytest.raises(NoEmbedder, match="instead of ONNX"):
        embedder(folder)


@pytest.mark.skipif(find_spec("onnxruntime") is not None, reason="onnxruntime is installed")
def test_a_missing_onnxruntime_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(NoEmbedder, match=r"pip install 'tfgrpo\[onnx\]'$"):
        OnnxEmbedder(model(tmp_path, MEAN))


class InTorch:
    """The transformer of a folder, called as onnxruntime would be."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModel

        self._model = AutoModel.from_pretrained(folder).eval()

    def get_inputs(self) -> list[SimpleNamespace]:
        names = ("input_ids", "attention_mask", "token_type_ids")
        return [SimpleNamespace(name=name) for name in names]

    def run(self, outputs: None, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        import torch

        with torch.no_grad():
            states = self._model(**{k: torch.from_numpy(v) for k, v in feeds.items()})
        return [states.last_hidden_state.numpy()]


@pytest.mark.slow
def test_all_but_the_network_does_what_sentence_transformers_does(tmp_path: Path) -> None:
    for source in packaged_minilm().rglob("*"):
        target = tmp_path / source.relative_to(packaged_minilm())
        target.mkdir(exist_ok=True) if source.is_dir() else target.symlink_to(source)
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "model.onnx").write_bytes(b"stands for the network of this folder")
    texts = ["Where was Ada born?", "", "naïve café, 東京", "long " * 400, "12 + 7"]
    ours = OnnxEmbedder(tmp_path, session=InTorch(tmp_path), batch_size=2)
    theirs = SentenceEmbedder(packaged_minilm())
    np.testing.assert_allclose(ours.embed_queries(texts), theirs.embed_queries(texts), atol=1e-6)


MISSING = [name for name in NEEDED if find_spec(name) is None]


@pytest.mark.skipif(not MISSING, reason="all that an export needs is installed")
def test_what_an_export_needs_is_named(tmp_path: Path) -> None:
    with pytest.raises(NoEmbedder, match=f"run: pip install {' '.join(MISSING)}$"):
        export(tmp_path, tmp_path / "made")


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
def test_an_exported_model_makes_the_vectors_of_its_source(tmp_path: Path) -> None:
    made = tmp_path / "made"
    assert export(packaged_minilm(), made) > 0.999999
    texts = ["Where was Ada born?", "", "naïve café, 東京", "long word " * 400, "12 + 7", "😀"]
    theirs = SentenceEmbedder(packaged_minilm())
    expected = theirs.embed_queries(texts)
    for batch_size in (1, 2, 64):
        ours = OnnxEmbedder(made, batch_size=batch_size)
        np.testing.assert_allclose(ours.embed_queries(texts), expected, atol=1e-5)
    assert ours.fingerprint.differences(theirs.fingerprint) == ("weights", "dtype", "backend")
    assert not list(made.glob("*.safetensors")), "torch's weights are left out"
    with pytest.raises(NoEmbedder, match="exists; name a new folder"):
        export(packaged_minilm(), made)


@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
def test_what_only_sentence_transformers_can_do_is_not_exported(tmp_path: Path) -> None:
    source = model(tmp_path / "source", {"pooling_mode": "lasttoken"})
    (source / "model.safetensors").write_bytes(b"weights")
    with pytest.raises(NoEmbedder, match="instead of ONNX"):
        export(source, tmp_path / "made")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
