"""Embedding by a sentence-transformers model that was exported to ONNX: no torch, loaded at once.

The vectors are those of torch up to rounding if the weights are, and far from them if the weights
were quantised. Both are a space of their own: the backend is in the fingerprint.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from memory.search.embed import F32, NoEmbedder, unit_rows
from memory.search.sentence import folder_fingerprint

FILE = "onnx/model.onnx"
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
MODULES = {"Transformer", "Pooling", "Normalize"}
POOLINGS = {"mean", "cls"}
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


class Session(Protocol):
    """What is used of `onnxruntime.InferenceSession`."""

    def get_inputs(self) -> Sequence[Any]: ...
    def run(self, outputs: None, feeds: Mapping[str, I64]) -> Sequence[Any]: ...


class OnnxEmbedder:
    """A sentence-transformers folder with an ONNX file, loaded at the first text.

    Args:
        folder: of the model.
        file: the weights, inside the folder.
        name: what the fingerprint calls it; the folder's name by default.
        batch_size: texts that pass through the model at once.
        threads: of onnxruntime.
        session: what runs the weights; onnxruntime by default.

    Raises:
        NoEmbedder: on construction, if the folder is no such model, if it is one that only
            sentence-transformers can run, or if onnxruntime is missing.
    """

    def __init__(
        self,
        folder: Path,
        file: str = FILE,
        *,
        name: str = "",
        batch_size: int = 64,
        threads: int = 1,
        session: Session | None = None,
    ) -> None:
        weights = sorted(folder.glob(f"{file}*"))  # large weights lie beside it, in .onnx_data
        self.fingerprint = folder_fingerprint(folder, name or folder.name, onnx=weights)
        if session is None and find_spec("onnxruntime") is None:
            raise NoEmbedder("onnxruntime is not installed; run: pip install 'tfgrpo[onnx]'")
        self.folder = folder
        self.file = file
        self.batch_size = batch_size
        self.threads = threads
        self._pooling = pooling_of(folder)
        self._prompts = _json(folder / "config_sentence_transformers.json").get("prompts") or {}
        self._session = session
        self._tokenizer: Any = None

    @property
    def dim(self) -> int:
        return int(self.embed_queries([""]).shape[1])

    def embed_queries(self, texts: Sequence[str]) -> F32:
        return self._rows([self._prompts.get("query", "") + text for text in texts])

    def embed_documents(self, texts: Sequence[str]) -> F32:
        return self._rows([self._prompts.get("document", "") + text for text in texts])

    def _rows(self, texts: Sequence[str]) -> F32:
        if not texts:
            return np.zeros((0, self.dim), dtype=np.float32)
        # Texts of about one length share a batch, so that little of it is padding.
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        parts = [
            self._batch([texts[i] for i in order[at : at + self.batch_size]])
            for at in range(0, len(order), self.batch_size)
        ]
        return unit_rows(np.concatenate(parts)[np.argsort(order)])

    def _batch(self, texts: list[str]) -> F64:
        session, tokenizer = self._loaded()
        encoded = tokenizer.encode_batch(texts)
        rows = [(e.ids, e.attention_mask, e.type_ids) for e in encoded]
        columns = zip(*rows, strict=True)
        known = {k: np.array(v, np.int64) for k, v in zip(INPUTS, columns, strict=True)}
        feeds = {wanted.name: known[wanted.name] for wanted in session.get_inputs()}
        states = np.asarray(session.run(None, feeds)[0], np.float64)
        return pooled(states, known["attention_mask"], self._pooling)

    def _loaded(self) -> tuple[Session, Any]:
        if self._session is None:
            from onnxruntime import InferenceSession, SessionOptions

            options = SessionOptions()
            options.intra_op_num_threads = self.threads
            place = str(self.folder / self.file)
            self._session = InferenceSession(place, options, providers=["CPUExecutionProvider"])
        if self._tokenizer is None:
            self._tokenizer = _tokenizer(self.folder)
        return self._session, self._tokenizer


def pooled(states: F64, mask: I64, pooling: str) -> F64:
    """One row for each text: (n, t, d) states and (n, t) mask to (n, d)."""
    if pooling == "cls":
        return np.array(states[np.arange(len(states)), mask.argmax(axis=1)])
    kept = mask[:, :, None]
    return np.array((states * kept).sum(axis=1) / np.maximum(kept.sum(axis=1), 1))


def pooling_of(folder: Path) -> str:
    """How the states of tokens become one row. Raises NoEmbedder if this module cannot do it."""
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    kinds = {module["type"].rpartition(".")[2]: module["path"] for module in modules}
    config = _json(folder / kinds.get("Pooling", "") / "config.json")
    legacy = [
        key.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token")
        for key, value in config.items()
        if key.startswith("pooling_mode_") and value
    ]
    said = config.get("pooling_mode", legacy)
    chosen = [said] if isinstance(said, str) else list(said)
    plain = len(chosen) == 1 and chosen[0] in POOLINGS and config.get("include_prompt", True)
    if not plain or "Pooling" not in kinds or not set(kinds) <= MODULES:
        raise NoEmbedder(
            f"{folder} pools in a way that only sentence-transformers knows; "
            "embed with that package instead of ONNX."
        )
    return chosen[0]


def _tokenizer(folder: Path) -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    said = _json(folder / "tokenizer_config.json")
    longest = _json(folder / "sentence_bert_config.json").get("max_seq_length")
    longest = longest or said.get("model_max_length")
    if longest:
        tokenizer.enable_truncation(int(longest))
    padding = said.get("pad_token") or "[PAD]"
    padding = padding["content"] if isinstance(padding, dict) else padding
    tokenizer.enable_padding(pad_id=tokenizer.token_to_id(padding) or 0, pad_token=padding)
    return tokenizer


def _json(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return found
