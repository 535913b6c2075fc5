"""A model in vLLM's engine on this machine: all calls share its batch, and none goes over HTTP."""

from __future__ import annotations

import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

from tfgrpo.errors import ConfigError
from tfgrpo.llm.vllm_engine import Engine, Outcome, reason_of
from tfgrpo.types import EMPTY, ChatRequest, Completion, Message, Usage


class VllmChat:
    """A `ChatModel` over vLLM's engine (extra `vllm`), which runs in a process of its own.

    Every rollout is a request of the engine with its own seed, so that a reply does not depend on
    which others are asked for with it; all but the first find their prompt in the prefix cache.
    Equal seeds give equal replies as far as vLLM's kernels do not depend on the batch. `detail`
    brings token ids and the log-probabilities of the distribution sampled from, but no entropies,
    which vLLM does not give. Close it, or let the process end.
    """

    def __init__(
        self,
        model: str,
        dtype: str = "auto",
        options: Mapping[str, Any] = EMPTY,
        model_id: str | None = None,
    ) -> None:
        """Load `model`, a directory or a Hub id; `options` go to vLLM's `AsyncEngineArgs`.

        The engine's process imports the program's main module again, so a script needs the guard
        `if __name__ == "__main__":`. Raises ConfigError where vLLM is missing or cannot serve.
        """
        if find_spec("vllm") is None:
            raise ConfigError(
                "The model kind 'vllm' needs vLLM, which is not installed; "
                "run: pip install 'tfgrpo[vllm]', or give the address of a vLLM server."
            )
        from tfgrpo.llm.inprocess.worker import Encoder
        from tfgrpo.llm.transformers_local import identify

        self._tokenizer = _tokenizer_of(model)
        usual = {"logprobs_mode": "processed_logprobs", "disable_log_stats": True}
        self._engine = Engine({"model": model, "dtype": dtype, **usual, **options})
        # The engine does not refer back to this object, so forgetting it ends the process as well.
        self._finalizer = weakref.finalize(self, self._engine.stop)
        made = self._engine.llm.model_config
        self._encoder = Encoder(self._tokenizer, made.max_model_len)
        self.parameters = _parameters(made.hf_config)
        loaded = SimpleNamespace(dtype=made.dtype, config=made.hf_config)
        self._model_id = model_id or identify(model, loaded)

    @property
    def model_id(self) -> str:
        return self._model_id

    async def complete(self, request: ChatRequest) -> tuple[Outcome, ...]:
        """`request.n` replies; token fields include the end token, which `text` leaves out."""
        tokens = self._encoder.tokens(request.messages)
        failure = self._encoder.too_long(len(tokens), request.params.max_tokens)
        if failure:
            return (failure,) * request.n
        start = time.perf_counter()
        outcomes = await self._engine.ask(tokens, request)
        return _charged(outcomes, time.perf_counter() - start)

    def count_tokens(self, text: str) -> int:
        """Tokens of plain text, without any chat markers."""
        return len(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def prompt_tokens(self, messages: tuple[Message, ...]) -> tuple[int, ...]:
        """The token ids that a prompt becomes by the chat template, reply header included."""
        return self._encoder.tokens(messages)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, without markers."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))

    def reload(self, folder: str, model_id: str) -> None:
        """Go on with other weights of the same shape, and forget all prefixes; wakes the engine.

        `folder` is made by save_pretrained. No call may be waiting. Raises BackendError if the
        engine cannot take them.
        """
        self._engine.reload(folder)
        self._model_id = model_id

    def sleep(self) -> None:
        """Give the engine's memory back until `reload`, if `enable_sleep_mode` is among `options`.

        Its weights are forgotten, too.
        """
        self._engine.sleep()

    def close(self) -> None:
        """End the engine; calls still waiting raise `BackendError`. May be called twice."""
        self._finalizer()


def _tokenizer_of(model: str) -> Any:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"The model {model!r} cannot be loaded: {reason_of(error)}. "
            "Give a directory made by save_pretrained, or the id of a public text model."
        ) from error
    if not tokenizer.chat_template:
        raise ConfigError(
            f"The tokenizer of {model!r} has no chat template; "
            "save one with it, or choose an instruction-tuned model."
        )
    return tokenizer


def _parameters(config: Any) -> int:
    """Weights of a model of this shape, counted without making them; 0 if transformers has none."""
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except ValueError:
        return 0
    return sum(p.numel() for p in model.parameters())


def _charged(outcomes: Sequence[Outcome], seconds: float) -> tuple[Outcome, ...]:
    """The first completion pays for the call and the prompt, as if it had been read only once."""
    charged: list[Outcome] = []
    owed = True
    for outcome in outcomes:
        if isinstance(outcome, Completion):
            used = outcome.usage
            only = Usage(completion_tokens=used.completion_tokens)
            outcome = replace(outcome, usage=replace(used, seconds=seconds) if owed else only)
            owed = False
        charged.append(outcome)
    return tuple(charged)
