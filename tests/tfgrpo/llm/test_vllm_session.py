"""vLLM's engine in a real session against plain forward passes of the same weights."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.tfgrpo.llm.vllm_session import LESSONS, QUESTIONS
from tfgrpo.llm.transformers_local import identify, load

VLLM = "TFGRPO_VLLM_PYTHON"
ROOT = Path(__file__).parents[3]
WEIGHTS = Path(str(files("baselines.abacus") / "weights"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (WEIGHTS / "config.json").is_file(), reason="the weights of Abacus are missing"
    ),
    pytest.mark.skipif(
        not os.environ.get(VLLM), reason=f"set {VLLM} to the python of a vLLM environment"
    ),
]


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    empty = tmp_path_factory.mktemp("empty")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [os.environ[VLLM], "-m", "tests.tfgrpo.llm.vllm_session", str(WEIGHTS), str(empty)],
        env=env | {"VLLM_CPU_KVCACHE_SPACE": "1"},
        cwd=empty,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout)  # vLLM itself may write nothing there
    return found


@pytest.fixture(scope="module")
def plain() -> Any:
    return AutoModelForCausalLM.from_pretrained(WEIGHTS, dtype=torch.float32).eval()


def encode(question: str) -> list[int]:
    chat = [
        {"role": "system", "content": LESSONS.content},
        {"role": "user", "content": question},
    ]
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS)
    text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def logits_of(model: Any, tokens: Sequence[int], reply: Sequence[int]) -> torch.Tensor:
    """Float32 logits `(len(reply), V)` by one plain forward pass."""
    with torch.inference_mode():
        out: torch.Tensor = model(torch.tensor([[*tokens, *reply]]), use_cache=False).logits[0]
    return out[len(tokens) - 1 : -1]


def test_the_model_is_known_as_in_process(session: dict[str, Any], plain: Any) -> None:
    model, tokenizer = load(str(WEIGHTS), "cpu", "float32")
    assert session["model_id"] == identify(str(WEIGHTS), model)
    assert session["parameters"] == sum(p.numel() for p in plain.parameters())
    assert session["count"] == len(tokenizer("12+35=47")["input_ids"])


def test_greedy_is_generate(session: dict[str, Any], plain: Any) -> None:
    for question, group in zip(QUESTIONS, session["greedy"], strict=True):
        ids = torch.tensor([encode(question)])
        out = plain.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=24
        )
        expected = out[0, ids.shape[1] :].tolist()
        assert [reply["token_ids"] for reply in group] == [expected] * 2
        assert group[0]["logprobs"] == [0.0] * len(expected)


def test_logprobs_are_of_the_distribution_sampled_from(session: dict[str, Any], plain: Any) -> None:
    temperature, top_p, seen = 0.7, 0.8, set()
    for question, group in zip(QUESTIONS, session["drawn"], strict=True):
        for reply in group:
            seen.add(tuple(reply["token_ids"]))
            logits = logits_of(plain, encode(question), reply["token_ids"])
            probs = (logits / temperature).softmax(-1)
            for row, token in enumerate(reply["token_ids"]):
                ranked = probs[row].sort(descending=True)
                kept = int((ranked.values.cumsum(0) < top_p - 1e-6).sum()) + 1
                assert token in ranked.indices[:kept].tolist()
                expected = float((probs[row, token] / ranked.values[:kept].sum()).log())
                assert reply["logprobs"][row] == pytest.approx(expected, abs=1e-3)
            assert reply["entropies"] is None
    assert len(seen) > len(QUESTIONS)


def test_a_rollout_does_not_depend_on_its_company(session: dict[str, Any]) -> None:
    among, (alone,) = session["drawn"][1], session["alone"]
    assert [r["token_ids"] for r in alone] == [r["token_ids"] for r in among[2:]]


def test_no_seed_means_a_fresh_one(session: dict[str, Any]) -> None:
    (first,), (second,) = session["unseeded"]
    assert first["text"] != second["text"]


def test_what_ends_a_reply(session: dict[str, Any]) -> None:
    ((stopped,),), ((short,),) = session["stopped"], session["short"]
    assert stopped["finish_reason"] == "stop"
    assert stopped["text"] == session["greedy"][0][0]["text"].partition("=")[0]
    assert (short["finish_reason"], short["usage"]["completion_tokens"]) == ("length", 3)
    whole = session["greedy"][0][0]
    assert whole["finish_reason"] == "stop"
    assert whole["usage"]["completion_tokens"] == len(whole["token_ids"])


def test_a_prompt_is_charged_once_and_cached_by_blocks(session: dict[str, Any]) -> None:
    size = len(encode(QUESTIONS[0]))
    first, second = session["greedy"][0]
    assert [r["usage"]["calls"] for r in (first, second)] == [1, 0]
    assert [r["usage"]["prompt_tokens"] for r in (first, second)] == [size, 0]
    again = session["after"][0][0]["usage"]
    assert again["cached_tokens"] == (size - 1) // 32 * 32 > 32
    assert again["seconds"] > 0


def test_an_over_long_prompt_is_a_failure_in_its_place(session: dict[str, Any]) -> None:
    ((first, second),) = session["long"]
    assert first == second
    assert (first["type"], first["stage"]) == ("Failure", "protocol")
    assert "shorten the context" in first["reason"]


def test_what_vllm_refuses_is_a_failure_in_its_own_words(session: dict[str, Any]) -> None:
    ((first, second),) = session["too_hot"]
    assert first == second
    assert (first["type"], first["stage"]) == ("Failure", "protocol")
    assert first["reason"].startswith("vLLM refuses the request: temperature must be in [0, 2]")


def test_a_schema_is_kept_where_it_can_be(session: dict[str, Any]) -> None:
    assert {json.loads(reply["text"]) for reply in session["schema"][0]} <= {"yes", "no"}
    assert session["bad_schema"][0][0]["text"] == session["after"][0][0]["text"]


def test_a_cancelled_call_and_ctrl_c_leave_the_engine_alone(session: dict[str, Any]) -> None:
    reply, was_cancelled = session["cancelled"]
    assert was_cancelled
    assert reply[0]["type"] == "Completion"
    assert session["interrupted"] > 0
    assert session["after"][0][0]["text"] == session["greedy"][0][0]["text"]


def test_closing_fails_who_waits_and_who_comes_later(session: dict[str, Any]) -> None:
    waiting, later = session["closed"]
    assert waiting.startswith("BackendError: The vLLM engine was closed")
    assert later.startswith("BackendError: The vLLM engine is closed")
    assert session["left"] == 0


def test_what_cannot_serve_is_said_at_once(session: dict[str, Any]) -> None:
    assert session["nothing"].startswith("ConfigError: The model ")
    assert session["bad_option"].startswith("ConfigError: vLLM cannot serve ")
    assert "no_such_option" in session["bad_option"]
