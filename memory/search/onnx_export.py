"""Making the ONNX file of a sentence-transformers model, which `memory.search.onnx` runs.

This takes torch and two more packages; whoever runs the file needs none of them.
"""

from __future__ import annotations

import shutil
import warnings
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np

from memory.search.embed import NoEmbedder
from memory.search.onnx import FILE, INPUTS, OnnxEmbedder, pooling_of
from memory.search.sentence import SentenceEmbedder, folder_fingerprint, model_folder

NEEDED = ("onnx", "onnxruntime", "onnxscript")
LEFT_OUT = ("*.safetensors", "*.bin", "*.h5", "*.msgpack", "*.ot", "onnx", "openvino", ".git*")
SAME = 0.9999
"""Least cosine of a text's vectors by the two backends; rounding alone leaves 1 - 1e-6."""
TEXTS = ("What is 17 times 23?", "naïve café, 東京", "A word, and then another one. " * 60)


def export(place: Path | str, target: Path) -> float:
    """Write a folder that `OnnxEmbedder` reads; returns the least cosine to the model's vectors.

    Args:
        place: the model, a folder or a name on the Hub, see `sentence.model_folder`.
        target: a new folder; it appears when it is whole.

    Raises:
        NoEmbedder: if there is no such model, if only sentence-transformers can run it, if a
            package is missing, if the target is there, or if its vectors are others.
    """
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        names = " ".join(missing)
        raise NoEmbedder(f"An export needs {' and '.join(missing)}; run: pip install {names}")
    if target.exists():
        raise NoEmbedder(f"{target} exists; name a new folder.")
    source = model_folder(place)
    folder_fingerprint(source, source.name)
    pooling_of(source)
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(source, part, ignore=shutil.ignore_patterns(*LEFT_OUT))
    (part / FILE).parent.mkdir()
    _write_graph(source, part / FILE)
    worst = _least_cosine(source, part)
    if not worst >= SAME:
        shutil.rmtree(part)
        raise NoEmbedder(
            f"The exported {source.name} makes other vectors (cosine {worst:.4f}); embed with "
            "sentence-transformers, or export it with another version of torch and onnxscript."
        )
    part.rename(target)
    return worst


def _write_graph(source: Path, file: Path) -> None:
    """The transformer without its pooling, for any number and length of texts."""
    import torch
    from transformers import AutoModel

    model = AutoModel.from_pretrained(source, local_files_only=True, dtype=torch.float32).eval()
    names = [name for name in INPUTS if name in signature(model.forward).parameters]

    class States(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *given: torch.Tensor) -> Any:
            return self.model(**dict(zip(names, given, strict=True))).last_hidden_state

    # A tensor of its own for each input: the exporter takes equal ones for one and the same.
    ids = torch.ones(2, 7, dtype=torch.int64)
    shape = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are about the exporter's own code
        torch.onnx.export(
            States(),
            tuple(ids.clone() for _ in names),
            str(file),
            input_names=names,
            output_names=["last_hidden_state"],
            dynamic_shapes=((shape,) * len(names),),
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def _least_cosine(source: Path, made: Path) -> float:
    ours, theirs = OnnxEmbedder(made), SentenceEmbedder(source)
    both = ours.embed_documents(TEXTS), theirs.embed_documents(TEXTS)
    return float(np.einsum("nd,nd->n", *both, dtype=np.float64).min())
