"""vLLM's asynchronous engine, asked for rollouts of token ids from any event loop."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from itertools import count
from multiprocessing import resource_tracker
from typing import Any

from tfgrpo.errors import BackendError, ConfigError
from tfgrpo.llm.openai_reply import one_line
from tfgrpo.seeding import derive_seed
from tfgrpo.types import ChatRequest, Completion, Failure, FinishReason, Usage

Outcome = Completion | Failure
_SHUTDOWN_S = 30.0  # then the engine is killed, and would leave shared memory behind
_FINISH: Mapping[str | None, FinishReason] = {"stop": "stop", "length": "length"}
# Read when vLLM is imported; what the user has set stands.
_ENVIRONMENT = {
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",  # by default it writes among a command's output
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # a fork would copy the locks that threads hold
}


class Engine:
    """The engine in a process of its own, and the thread and loop from which it is asked."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """Start it; `settings` are those of `AsyncEngineArgs`. Raises ConfigError if it cannot."""
        self._numbers = count()
        self._closed = False
        self._asleep = False
        self._may_sleep = bool(settings.get("enable_sleep_mode"))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="tfgrpo-vllm", daemon=True)
        self._thread.start()
        try:
            self.llm = asyncio.run_coroutine_threadsafe(_started(settings), self._loop).result()
        except Exception as error:
            self._end()
            raise ConfigError(
                f"vLLM cannot serve {settings['model']!r}: {reason_of(error)}. Correct the model "
                "or its options; VLLM_LOGGING_LEVEL=INFO shows more."
            ) from error

    def _run(self) -> None:
        # Ctrl-C reaches the engine's process too, which would die under the calls that are still
        # waited for. It is started from this thread, and inherits what is blocked here; the
        # resource tracker would lift the block if it were started later.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        self._loop.run_forever()

    async def ask(self, tokens: Sequence[int], request: ChatRequest) -> list[Outcome]:
        """All rollouts of `request` at once, to the prompt `tokens`; cancelling takes them back.

        Raises BackendError if the engine is closed or has failed.
        """
        if self._closed:
            raise BackendError("The vLLM engine is closed; make a new VllmChat.")
        asked = asyncio.run_coroutine_threadsafe(self._all(tokens, request), self._loop)
        return await asyncio.wrap_future(asked)

    async def _all(self, tokens: Sequence[int], request: ChatRequest) -> list[Outcome]:
        indices = range(request.first_index, request.first_index + request.n)
        try:
            return await asyncio.gather(*(self._one(tokens, request, i) for i in indices))
        except asyncio.CancelledError:
            if not self._closed:
                raise
            message = "The vLLM engine was closed; ask again with a new VllmChat."
            raise BackendError(message) from None

    async def _one(self, tokens: Sequence[int], request: ChatRequest, index: int) -> Outcome:
        # The type tells vLLM that there is nothing left to prepare.
        prompt = {"type": "token", "prompt_token_ids": list(tokens)}
        number = str(next(self._numbers))
        try:
            async for output in self.llm.generate(prompt, sampling_params(request, index), number):
                final = output
        except Exception as error:
            if self.llm.errored:
                raise BackendError(
                    f"The vLLM engine failed: {reason_of(error)}. Check its memory and the "
                    "messages above, then run again."
                ) from error
            if request.json_schema is not None:
                return await self._one(tokens, replace(request, json_schema=None), index)
            return Failure("protocol", f"vLLM refuses the request: {reason_of(error)}.")
        return outcome_of(final, request)

    def reload(self, folder: str) -> None:
        """Read other weights of the same shape from `folder`, and forget what was cached."""
        self._wait(self._reload(folder), "take new weights")

    async def _reload(self, folder: str) -> None:
        # The room for cached prompts is asked back last: until then the weights come twice.
        if self._asleep:
            await self.llm.wake_up(["weights"])
        await self.llm.collective_rpc("reload_weights", kwargs={"weights_path": folder})
        if self._asleep:
            await self.llm.wake_up(["kv_cache"])
        await self.llm.reset_prefix_cache()
        self._asleep = False

    def sleep(self) -> None:
        """Give memory back until `reload`, if it was started with `enable_sleep_mode`."""
        if self._may_sleep and not self._asleep:
            self._wait(self.llm.sleep(level=2), "sleep")
            self._asleep = True

    def _wait(self, what: Coroutine[Any, Any, None], said: str) -> None:
        try:
            asyncio.run_coroutine_threadsafe(what, self._loop).result()
        except Exception as error:
            raise BackendError(
                f"The vLLM engine cannot {said}: {reason_of(error)}. See the messages above, and "
                "run again."
            ) from error

    def stop(self) -> None:
        """End the engine's process and the thread; calls still waiting raise BackendError."""
        self._closed = True
        asyncio.run_coroutine_threadsafe(_cancel_others(), self._loop).result()
        self.llm.shutdown(timeout=_SHUTDOWN_S)
        self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def _started(settings: Mapping[str, Any]) -> Any:
    """The engine, made in the loop that it will run in."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.platforms import current_platform
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.async_llm import AsyncLLM

    # On a CPU vLLM dies of a request with a seed whose prompt is read in more than one step.
    usual = {"enable_chunked_prefill": False} if current_platform.is_cpu() else {}
    arguments = AsyncEngineArgs(**{**usual, **settings})
    # The context of batch work, for which vLLM's defaults take larger batches.
    return AsyncLLM.from_engine_args(arguments, usage_context=UsageContext.LLM_CLASS)


def reason_of(error: Exception) -> str:
    return one_line(str(error) or type(error).__name__).rstrip(".")


def sampling_params(request: ChatRequest, index: int) -> Any:
    """Rollout `index` of `request` in vLLM's words, whose replies come whole and not by token."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    params, schema = request.params, None
    if request.json_schema is not None:
        schema = StructuredOutputsParams(
            json=json.loads(json.dumps(request.json_schema, default=dict))
        )
    return SamplingParams(
        temperature=params.temperature,
        top_p=params.top_p,
        top_k=0,
        max_tokens=params.max_tokens,
        stop=list(params.stop),
        seed=None if params.seed is None else derive_seed(params.seed, "rollout", index),
        logprobs=0 if request.detail else None,
        structured_outputs=schema,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def outcome_of(output: Any, request: ChatRequest) -> Outcome:
    """What a finished request of one rollout became, with its own tokens as its usage."""
    (reply,) = output.outputs
    if reply.finish_reason not in _FINISH:
        reason = f"vLLM broke the reply off (finish_reason {reply.finish_reason!r})."
        return Failure("protocol", reason, retryable=True)
    ids = tuple(reply.token_ids)
    usage = Usage(1, len(output.prompt_token_ids), output.num_cached_tokens or 0, len(ids))
    completion = Completion(reply.text, _FINISH[reply.finish_reason], usage)
    if not request.detail:
        return completion
    # Of a greedy token, which is certain, vLLM tells the probability at temperature 1.
    greedy = request.params.temperature == 0
    logprobs = [0.0 if greedy else at[i].logprob for i, at in zip(ids, reply.logprobs, strict=True)]
    return replace(completion, token_ids=ids, logprobs=tuple(logprobs))
