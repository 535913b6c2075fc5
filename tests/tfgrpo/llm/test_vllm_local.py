"""What of the vLLM backend needs no vLLM; a real engine is in test_vllm_session.py."""

from __future__ import annotations

from importlib.util import find_spec
from types import SimpleNamespace

import pytest

from tfgrpo.errors import ConfigError
from tfgrpo.llm.vllm_engine import outcome_of
from tfgrpo.llm.vllm_local import VllmChat
from tfgrpo.types import ChatRequest, Completion, Failure, SamplingParams, Usage


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed")
def test_without_vllm_the_extra_is_named() -> None:
    with pytest.raises(ConfigError, match=r"pip install 'tfgrpo\[vllm\]'"):
        VllmChat("some/model")


@pytest.mark.parametrize("reason", ["abort", "error", None])
def test_a_reply_that_vllm_broke_off_is_a_failure_that_may_pass(reason: str | None) -> None:
    outcome = outcome_of(output(reason), ChatRequest((), SamplingParams()))
    assert isinstance(outcome, Failure)
    assert outcome.retryable


def test_a_reply_has_the_tokens_of_its_own_request() -> None:
    outcome = outcome_of(output("length"), ChatRequest((), SamplingParams()))
    assert outcome == Completion("ab", "length", Usage(1, 3, 0, 2))


def output(reason: str | None) -> SimpleNamespace:
    """A finished request as vLLM gives it; it tells of no cache where there is none."""
    reply = SimpleNamespace(text="ab", token_ids=[7, 8], logprobs=None, finish_reason=reason)
    return SimpleNamespace(outputs=[reply], prompt_token_ids=[1, 2, 3], num_cached_tokens=None)
