"""Who samples the rollouts of a step: the trained module itself, or vLLM, sent its weights.

Either way a sampler serves one version of the weights at a time, and forgets all prefixes when they
change.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from baselines.config import TrainSpec
from tfgrpo.llm.transformers_local import TransformersChat
from tfgrpo.llm.vllm_local import VllmChat
from tfgrpo.protocols import ChatModel
from tfgrpo.types import Message

_MEMORY = Path("/dev/shm")  # where weights pass from process to process without touching a disk


class Chat(ChatModel, Protocol):
    """A model whose tokens are known."""

    def prompt_tokens(self, messages: tuple[Message, ...]) -> tuple[int, ...]: ...
    def decode(self, ids: Sequence[int]) -> str: ...


class Sampler(Protocol):
    def serving(self, model: Any, name: str) -> AbstractContextManager[Chat]:
        """A chat with `model` as its weights are now, to be left before they change."""
        ...

    def close(self) -> None: ...


class ModuleSampler:
    """The trained module in this process, or a copy of it in the precision of the passes."""

    def __init__(self, spec: TrainSpec, tokenizer: Any) -> None:
        self._dtype = getattr(torch, spec.precision)
        self._rows = spec.model.max_batch_rows
        self._tokenizer = tokenizer

    @contextmanager
    def serving(self, model: Any, name: str) -> Iterator[Chat]:
        if self._dtype != torch.float32:
            model = deepcopy(model).to(self._dtype)
        chat = TransformersChat.of(model, self._tokenizer, name, self._rows)
        try:
            yield chat
        finally:
            chat.close()

    def close(self) -> None:
        pass


class ShardSampler:
    """A whole copy of sharded weights in every process, on the device only while it samples."""

    def __init__(self, spec: TrainSpec, tokenizer: Any, model: Any) -> None:
        self._copy = deepcopy(model).to(getattr(torch, spec.precision))
        self._rows = spec.model.max_batch_rows
        self._tokenizer = tokenizer

    @contextmanager
    def serving(self, model: Any, name: str) -> Iterator[Chat]:
        trained = model.state_dict()
        with torch.no_grad():
            for key, own in self._copy.state_dict().items():
                own.copy_(whole(trained[key]))
        device = next(iter(trained.values())).device
        chat = TransformersChat.of(self._copy.to(device), self._tokenizer, name, self._rows)
        try:
            yield chat
        finally:
            chat.close()
            self._copy.to("cpu")

    def close(self) -> None:
        pass


class VllmSampler:
    """vLLM's engine in a process of its own, started once; weights reach it as a checkpoint.

    Its log-probabilities are of the distribution sampled from; it tells no entropies.
    """

    def __init__(self, spec: TrainSpec, tokenizer: Any) -> None:
        assert spec.vllm is not None
        self._dtype, self._options = spec.precision, dict(spec.vllm.options)
        self._tokenizer = tokenizer
        self._chat: VllmChat | None = None
        place = _MEMORY if _MEMORY.is_dir() else None
        self._folder = tempfile.TemporaryDirectory(prefix="tfgrpo-weights-", dir=place)

    @contextmanager
    def serving(self, model: Any, name: str) -> Iterator[Chat]:
        self._write(model)
        folder = self._folder.name
        if self._chat is None:
            self._tokenizer.save_pretrained(folder)
            self._chat = VllmChat(folder, self._dtype, self._options, name)
        else:
            self._chat.reload(folder, name)
        try:
            yield self._chat
        finally:
            self._chat.sleep()

    def _write(self, model: Any) -> None:
        """The weights as a checkpoint, adapters merged and the head beside the embedding.

        vLLM 0.32 reloads a tied embedding without its head, which then keeps the old weights.
        """
        copy = deepcopy(model)
        if hasattr(copy, "merge_and_unload"):
            copy = copy.merge_and_unload()
        copy = copy.to(getattr(torch, self._dtype))
        copy.config.tie_word_embeddings = False
        head = copy.get_output_embeddings()
        head.weight = torch.nn.Parameter(head.weight.detach().clone())
        copy.save_pretrained(self._folder.name)

    def close(self) -> None:
        if self._chat is not None:
            self._chat.close()
        self._folder.cleanup()


def sampler_of(spec: TrainSpec, tokenizer: Any, model: Any, *, sharded: bool) -> Sampler:
    """`model` as it is before it is shared out among processes."""
    if spec.vllm is not None:
        return VllmSampler(spec, tokenizer)
    if sharded:
        return ShardSampler(spec, tokenizer, model)
    return ModuleSampler(spec, tokenizer)


def whole(value: Tensor) -> Tensor:
    """A sharded tensor put together, which all processes do at once; any other as it is."""
    return value.full_tensor() if isinstance(value, DTensor) else value
