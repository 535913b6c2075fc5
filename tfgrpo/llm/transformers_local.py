"""A Hugging Face decoder sampled in this process: concurrent calls become one running batch."""

from __future__ import annotations

import asyncio
import hashlib
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfgrpo.errors import ConfigError
from tfgrpo.types import ChatRequest, Completion, Failure, Message

IDENTITY = ("*.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


class TransformersChat:
    """A `ChatModel` over `transformers`.

    Calls made while others run join the running batch; a prompt is computed once for its `n`
    samples, and what prompts begin with in common once for all. A reply is a function of weights,
    prompt, settings, seed and index: with float32 weights it does not depend on what else is in
    the batch, up to the rounding of matrix products. Close it, or let the process end.
    """

    def __init__(
        self,
        model: str,
        device: str = "auto",
        dtype: str = "auto",
        max_batch_rows: int = 256,
        threads: int | None = None,
        model_id: str | None = None,
    ) -> None:
        """Load `model`, a directory or a Hub id; `threads` sets torch's for the whole process.

        `dtype` "auto" is float32 on a CPU and the checkpoint's own elsewhere. Memory is bounded by
        `max_batch_rows` times the longest row. Raises `ConfigError` where the model cannot serve.
        """
        if max_batch_rows < 1:
            raise ConfigError("max_batch_rows must be at least 1; set it to 1 or more.")
        loaded, tokenizer = load(model, device, dtype)
        self._start(loaded, tokenizer, max_batch_rows, threads)
        self._model_id = model_id or identify(model, loaded)

    @classmethod
    def of(
        cls, model: Any, tokenizer: Any, model_id: str, max_batch_rows: int = 256
    ) -> TransformersChat:
        """Serve a model that is already in memory; make a new one whenever its weights change."""
        chat = cls.__new__(cls)
        chat._start(model, tokenizer, max_batch_rows, None)
        chat._model_id = model_id
        return chat

    def _start(self, model: Any, tokenizer: Any, rows: int, threads: int | None) -> None:
        from tfgrpo.llm.inprocess.engine import Engine
        from tfgrpo.llm.inprocess.worker import Encoder, Worker

        if not getattr(tokenizer, "chat_template", None):
            raise ConfigError(
                f"The tokenizer of {model.config.name_or_path!r} has no chat template; "
                "save one with it, or choose an instruction-tuned model."
            )

        def decode(ids: Sequence[int]) -> str:
            return str(tokenizer.decode(ids, skip_special_tokens=True))

        engine = Engine(model, decode, end_tokens(model, tokenizer), rows)
        longest = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self.parameters = sum(p.numel() for p in model.parameters())
        self._tokenizer = tokenizer
        self._encoder = Encoder(tokenizer, longest)
        self.decode = decode
        self._worker = Worker(engine, self._encoder, threads)
        # The worker does not refer back to this object, so forgetting it ends the thread as well.
        self._finalizer = weakref.finalize(self, self._worker.stop)

    @property
    def model_id(self) -> str:
        return self._model_id

    async def complete(self, request: ChatRequest) -> tuple[Completion | Failure, ...]:
        """`request.n` replies; token fields include the end token, which `text` leaves out."""
        return await self._worker.accept(request, asyncio.get_running_loop())

    def count_tokens(self, text: str) -> int:
        """Tokens of plain text, without any chat markers."""
        return len(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def prompt_tokens(self, messages: tuple[Message, ...]) -> tuple[int, ...]:
        """The token ids that a prompt becomes by the chat template, reply header included."""
        return self._encoder.tokens(messages)

    def close(self) -> None:
        """Stop the worker; calls still waiting raise `BackendError`. May be called twice."""
        self._finalizer()


def load(model: str, device: str, dtype: str) -> tuple[Any, Any]:
    """Model and tokenizer from a directory or the Hub; no code from the checkpoint is run."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # it would interleave with the progress of the run
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if dtype == "auto" and device == "cpu":
        dtype = "float32"
    try:
        tokenizer = AutoTokenizer.from_pretrained(model)
        loaded = AutoModelForCausalLM.from_pretrained(model, dtype=dtype)
    except (OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ConfigError(
            f"The model {model!r} cannot be loaded: {reason}. "
            "Give a directory made by save_pretrained, or the id of a public text model."
        ) from error
    return loaded.to(device), tokenizer


def identify(model: str, loaded: Any) -> str:
    """`name@digest/dtype`: for a directory, of its weights and tokenizer; else the Hub commit."""
    dtype = str(loaded.dtype).removeprefix("torch.")
    path = Path(model)
    if not path.is_dir():
        commit = getattr(loaded.config, "_commit_hash", None) or "unknown"
        return f"{model}@{commit[:16]}/{dtype}"
    digest = hashlib.sha256()
    for file in sorted({found for pattern in IDENTITY for found in path.glob(pattern)}):
        with file.open("rb") as stream:
            digest.update(file.name.encode() + hashlib.file_digest(stream, "sha256").digest())
    return f"{path.resolve().name}@{digest.hexdigest()[:16]}/{dtype}"


def end_tokens(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """The tokens that end a reply, by the generation config, else by the tokenizer."""
    ends = model.generation_config.eos_token_id
    if ends is None:
        ends = tokenizer.eos_token_id
    if ends is None:
        return ()
    return (ends,) if isinstance(ends, int) else tuple(ends)
