"""An embedder without torch: a sentence-transformers model as an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli import console, options


def onnx(
    model: Annotated[
        str, typer.Argument(help="minilm, a sentence-transformers folder, or its name on the Hub.")
    ],
    folder: Annotated[Path, typer.Argument(help="Where to write it; a new folder.")],
    json: options.Json = False,
) -> None:
    """Export a model for onnxruntime, which starts sooner than torch and does without it.

    Its vectors are compared with the model's own before the folder appears.
    """
    from cli.banks import ONNX
    from memory.search.onnx_export import export
    from memory.search.sentence import packaged_minilm

    cosine = export(packaged_minilm() if model == "minilm" else model, folder)
    name = f"{ONNX}{folder}"
    if json:
        console.print_json({"folder": folder, "embedder": name, "least_cosine": cosine})
        return
    console.show(f"Wrote {console.safe(folder)}; embed by it with --embedder {console.safe(name)}.")
