"""The in-process sampler against `model.generate`, plain forward passes and exact distributions."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import chi2
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tfgrpo.errors import BackendError, ConfigError
from tfgrpo.llm.inprocess.draw import keep_nucleus, uniforms
from tfgrpo.llm.inprocess.engine import Engine
from tfgrpo.llm.inprocess.prefill import PrefixCache, common_prefix, companions
from tfgrpo.llm.inprocess.state import Job
from tfgrpo.llm.transformers_local import TransformersChat
from tfgrpo.protocols import ChatModel
from tfgrpo.types import ChatRequest, Completion, Failure, Message, SamplingParams

SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
TEXT = "carry the one then add seven and halve what is left before you answer"
WORDS = TEXT.split()
GREEDY = SamplingParams(temperature=0.0, max_tokens=24)


def train_tokenizer() -> PreTrainedTokenizerFast:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator([TEXT] * 20, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def build(kind: str, vocabulary: int) -> Any:
    torch.manual_seed(7)
    sizes = {**SIZES, "vocab_size": vocabulary}
    model: Any = {
        "llama": lambda: LlamaForCausalLM(LlamaConfig(**{**sizes, "num_key_value_heads": 4})),
        "llama-gqa": lambda: LlamaForCausalLM(LlamaConfig(**sizes)),
        "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**sizes, head_dim=16)),
        "mistral": lambda: MistralForCausalLM(MistralConfig(**sizes, sliding_window=8)),
    }[kind]()
    with torch.no_grad():
        for weight in model.parameters():
            # Default initialisation is so small that every text is scored alike.
            weight.mul_(3.0 if weight.ndim > 1 else 1.0)
    return model


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    folder = tmp_path_factory.mktemp("models")

    def path_of(kind: str) -> str:
        path = folder / kind
        if not path.exists():
            tokenizer = train_tokenizer()
            build(kind, len(tokenizer)).save_pretrained(path)
            tokenizer.save_pretrained(path)
        return str(path)

    return path_of


@pytest.fixture
def chat(saved: Callable[[str], str]) -> Iterator[TransformersChat]:
    model = TransformersChat(saved("llama-gqa"), max_batch_rows=7)
    yield model
    model.close()


def chatter(rng: random.Random, words: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(words))


def mixed_prompts(count: int) -> list[tuple[Message, ...]]:
    """Two families that share a system message, and loners, all of differing length."""
    rng = random.Random(3)
    systems = [chatter(rng, 30), chatter(rng, 20), None]
    prompts: list[tuple[Message, ...]] = []
    for index in range(count):
        system, user = systems[index % 3], Message("user", chatter(rng, rng.randint(1, 25)))
        prompts.append((Message("system", system), user) if system else (user,))
    return prompts


def ask(chat: ChatModel, requests: Sequence[ChatRequest]) -> list[tuple[Completion, ...]]:
    async def run() -> list[Any]:
        return await asyncio.gather(*(chat.complete(request) for request in requests))

    replies = asyncio.run(run())
    assert all(isinstance(reply, Completion) for group in replies for reply in group)
    return replies


def one(chat: ChatModel, text: str, params: SamplingParams, **more: Any) -> Completion:
    return ask(chat, [ChatRequest((Message("user", text),), params, **more)])[0][0]


def encode(messages: Sequence[Message]) -> list[int]:
    text = "".join(f"{m.role}: {m.content}\n" for m in messages) + "assistant:"
    return list(train_tokenizer()(text, add_special_tokens=False)["input_ids"])


def reference(model: Any, tokens: Sequence[int], most: int) -> tuple[int, ...]:
    ids = torch.tensor([tokens])
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=most
    )
    return tuple(out[0, len(tokens) :].tolist())


def logits_of(model: Any, tokens: Sequence[int], reply: Sequence[int]) -> torch.Tensor:
    """Float32 logits `(len(reply), V)` by one plain forward pass."""
    with torch.inference_mode():
        out: torch.Tensor = model(torch.tensor([[*tokens, *reply]]), use_cache=False).logits[0]
    return out[len(tokens) - 1 : -1].float()


@pytest.mark.parametrize("kind", ["llama", "llama-gqa", "qwen3", "mistral"])
@pytest.mark.parametrize("rows", [7, 64])
def test_greedy_is_generate(saved: Callable[[str], str], kind: str, rows: int) -> None:
    model = AutoModelForCausalLM.from_pretrained(saved(kind))
    prompts = mixed_prompts(15)
    chat = TransformersChat(saved(kind), max_batch_rows=rows)
    replies = ask(chat, [ChatRequest(p, GREEDY, n=3, detail=True) for p in prompts])
    chat.close()
    expected = [reference(model, encode(p), GREEDY.max_tokens) for p in prompts]
    assert len({token for reply in expected for token in reply}) > 20
    assert [[reply.token_ids for reply in group] for group in replies] == [
        [e] * 3 for e in expected
    ]


@pytest.mark.parametrize("kind", ["llama-gqa", "mistral"])
def test_prompts_that_arrive_late_change_what_is_shared(
    saved: Callable[[str], str], kind: str
) -> None:
    model = AutoModelForCausalLM.from_pretrained(saved(kind))
    prompts = [tuple(encode(p)) for p in mixed_prompts(12)]
    expected = [reference(model, tokens, 40) for tokens in prompts]
    engine = Engine(model, str, [2], max_rows=5)
    params = SamplingParams(temperature=0.0, max_tokens=40)
    jobs = [Job(tokens, params, [0, 0], detail=True) for tokens in prompts]
    trunks = []
    for wave in (jobs[0::3], jobs[1::3], jobs[2::3]):
        for job in wave:
            engine.submit(job)
        for _ in range(60):
            engine.step()
            trunks.append(engine.cache.trunk_length)
    while not engine.idle:
        engine.step()
    assert [job.outcomes[1].token_ids for job in jobs] == expected
    if kind == "llama-gqa":
        changes = [b - a for a, b in pairwise(trunks) if a and b]
        assert min(changes) < 0 < max(changes)
    else:
        assert set(trunks) == {0}


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 0.8), (1.5, 0.5)])
def test_detail_is_that_of_a_plain_forward_pass(
    saved: Callable[[str], str], chat: TransformersChat, temperature: float, top_p: float
) -> None:
    model = AutoModelForCausalLM.from_pretrained(saved("llama-gqa"))
    prompts = mixed_prompts(9)
    params = SamplingParams(temperature, top_p, max_tokens=20, seed=5)
    replies = ask(chat, [ChatRequest(p, params, n=2, detail=True) for p in prompts])
    for prompt, group in zip(prompts, replies, strict=True):
        for reply in group:
            assert reply.token_ids
            assert reply.logprobs
            assert reply.entropies
            logits = logits_of(model, encode(prompt), reply.token_ids)
            probs = (logits / temperature).softmax(-1)
            for row, token in enumerate(reply.token_ids):
                ranked = probs[row].sort(descending=True)
                kept = int((ranked.values.cumsum(0) < top_p - 1e-6).sum()) + 1
                mass = ranked.values[:kept].sum() if top_p < 1 else torch.tensor(1.0)
                assert token in ranked.indices[:kept].tolist()
                expected = float((probs[row, token] / mass).log())
                assert reply.logprobs[row] == pytest.approx(expected, abs=1e-4)
            entropies = torch.distributions.Categorical(logits=logits).entropy()
            assert torch.allclose(torch.tensor(reply.entropies), entropies, atol=1e-4)


def test_detail_is_absent_unless_asked_for_and_zero_when_greedy(chat: TransformersChat) -> None:
    plain = one(chat, "add seven", GREEDY)
    assert (plain.token_ids, plain.logprobs, plain.entropies) == (None, None, None)
    detailed = one(chat, "add seven", GREEDY, detail=True)
    assert detailed.text == plain.text
    assert detailed.logprobs == (0.0,) * len(detailed.token_ids or ())


def test_sampled_frequencies_are_the_softmax(saved: Callable[[str], str]) -> None:
    model = AutoModelForCausalLM.from_pretrained(saved("llama-gqa"))
    message, n = (Message("user", "halve what is left"),), 4000
    chat = TransformersChat(saved("llama-gqa"), max_batch_rows=512)
    params = SamplingParams(temperature=0.4, max_tokens=1, seed=11)
    replies = ask(chat, [ChatRequest(message, params, n=n, detail=True)])[0]
    chat.close()
    expected = n * (logits_of(model, encode(message), [0])[0] / 0.4).softmax(-1)
    drawn = torch.tensor([(reply.token_ids or (-1,))[0] for reply in replies])
    observed = torch.bincount(drawn, minlength=len(expected)).float()
    rare = expected < 5
    pairs = torch.stack((observed, expected))
    bins = torch.cat((pairs[:, ~rare], pairs[:, rare].sum(1, keepdim=True)), 1)
    assert bins.shape[1] > 5
    statistic = float(((bins[0] - bins[1]) ** 2 / bins[1]).sum())
    assert statistic < chi2.ppf(0.999, bins.shape[1] - 1)


def test_a_reply_does_not_depend_on_its_company(saved: Callable[[str], str]) -> None:
    prompts = mixed_prompts(51)
    params = SamplingParams(temperature=1.0, top_p=0.95, max_tokens=24, seed=2)
    request = ChatRequest(prompts[17], params, n=4, detail=True)
    others = [ChatRequest(p, replace(params, seed=9), n=2) for p in prompts if p != prompts[17]]
    chat = TransformersChat(saved("llama-gqa"), max_batch_rows=48)
    alone = ask(chat, [request])[0]
    among = ask(chat, [*others[:25], request, *others[25:]])[25]
    single = ask(chat, [replace(request, n=1, first_index=index) for index in range(4)])
    chat.close()
    ids = [reply.token_ids for reply in alone]
    assert len(set(ids)) == 4
    assert [reply.token_ids for reply in among] == ids
    assert [group[0].token_ids for group in single] == ids


def test_no_seed_means_a_fresh_one(chat: TransformersChat) -> None:
    params = SamplingParams(max_tokens=24)
    assert one(chat, "add", params).text != one(chat, "add", params).text


def test_stop_strings_trim_the_text(chat: TransformersChat) -> None:
    for index in range(12):
        params = SamplingParams(max_tokens=40, seed=index)
        free = one(chat, "carry the one", params).text
        for stop in {free[3:4], free[5:8], free[-2:]} - {""}:
            reply = one(chat, "carry the one", replace(params, stop=("\x00never", stop)))
            assert reply.text == free[: free.index(stop)]
            assert reply.finish_reason == "stop"
    assert (
        one(chat, "carry", replace(params, stop=("\x00never",))).text
        == one(chat, "carry", params).text
    )


def test_max_tokens_and_the_end_token_end_a_reply(chat: TransformersChat) -> None:
    params = SamplingParams(temperature=3.0, max_tokens=60, seed=4)
    request = ChatRequest((Message("user", "answer"),), params, n=40, detail=True)
    replies = ask(chat, [request])[0]
    ended = [reply for reply in replies if (reply.token_ids or ())[-1] == 2]
    cut = [reply for reply in replies if (reply.token_ids or ())[-1] != 2]
    assert ended
    assert cut
    assert {reply.finish_reason for reply in ended} == {"stop"}
    assert {(reply.finish_reason, reply.usage.completion_tokens) for reply in cut} == {
        ("length", 60)
    }
    assert not any("</s>" in reply.text for reply in replies)


def test_usage_charges_a_prompt_once_and_reports_what_was_cached(chat: TransformersChat) -> None:
    library = Message("system", " ".join(WORDS * 3))
    first, second = (
        (library, Message("user", text)) for text in ("add seven and halve", "carry the one")
    )
    params = SamplingParams(max_tokens=3, seed=1)
    (a,) = ask(chat, [ChatRequest(first, params, n=3)])
    assert [reply.usage.prompt_tokens for reply in a] == [len(encode(first)), 0, 0]
    assert [reply.usage.calls for reply in a] == [1, 0, 0]
    assert sum(reply.usage.cached_tokens for reply in a) == 0
    assert a[0].usage.seconds > 0
    (b,) = ask(chat, [ChatRequest(second, params)])
    shared = common_prefix((tuple(encode(first)), tuple(encode(second))))
    assert shared > 30
    assert b[0].usage.cached_tokens == shared
    (c,) = ask(chat, [ChatRequest(first, params)])
    assert c[0].usage.cached_tokens == len(encode(first)) - 1


def test_prompts_of_one_batch_pay_for_their_prefix_once(chat: TransformersChat) -> None:
    library = Message("system", " ".join(WORDS * 3))
    prompts = [(library, Message("user", text)) for text in ("add seven", "carry", "halve it")]
    replies = ask(chat, [ChatRequest(p, GREEDY) for p in prompts])
    shared = common_prefix([tuple(encode(p)) for p in prompts])
    assert sorted(group[0].usage.cached_tokens for group in replies) == [0, shared, shared]


def test_an_over_long_prompt_is_a_failure_in_its_place(chat: TransformersChat) -> None:
    long = ChatRequest((Message("user", " ".join(WORDS * 30)),), GREEDY, n=2)
    short = ChatRequest((Message("user", "add"),), GREEDY)

    async def run() -> Any:
        return await asyncio.gather(chat.complete(long), chat.complete(short))

    failed, fine = asyncio.run(run())
    assert [type(outcome) for outcome in failed] == [Failure, Failure]
    assert failed[0].stage == "protocol"
    assert "shorten the context" in failed[0].reason
    assert isinstance(fine[0], Completion)


def test_a_broken_model_fails_all_who_wait_and_may_recover() -> None:
    tokenizer = train_tokenizer()
    model = build("llama", len(tokenizer))
    chat = TransformersChat.of(model, tokenizer, "broken")
    expected = one(chat, "add", GREEDY).text
    whole, model.model.embed_tokens = model.model.embed_tokens, torch.nn.Embedding(1, 64)

    async def run() -> Any:
        requests = [ChatRequest(p, GREEDY, n=2) for p in mixed_prompts(5)]
        return await asyncio.gather(*map(chat.complete, requests), return_exceptions=True)

    assert [type(outcome) for outcome in asyncio.run(run())] == [BackendError] * 5
    model.model.embed_tokens = whole
    assert one(chat, "add", GREEDY).text == expected
    chat.close()


def test_a_cancelled_call_gives_its_place_away(chat: TransformersChat) -> None:
    slow = ChatRequest((Message("user", "answer"),), SamplingParams(max_tokens=100), n=400)

    async def run() -> Any:
        task = asyncio.create_task(chat.complete(slow))
        await asyncio.sleep(0.05)
        task.cancel()
        reply = await chat.complete(ChatRequest((Message("user", "add"),), GREEDY))
        return task, reply

    task, reply = asyncio.run(run())
    assert task.cancelled()
    assert isinstance(reply[0], Completion)


def test_closing_fails_who_waits_and_who_comes_later(saved: Callable[[str], str]) -> None:
    chat = TransformersChat(saved("llama"))
    slow = ChatRequest((Message("user", "answer"),), SamplingParams(max_tokens=200), n=2000)

    async def run() -> Any:
        task = asyncio.create_task(chat.complete(slow))
        await asyncio.sleep(0.05)
        chat.close()
        chat.close()
        return await asyncio.gather(task, return_exceptions=True)

    assert isinstance(asyncio.run(run())[0], BackendError)
    with pytest.raises(BackendError, match="closed"):
        one(chat, "add", GREEDY)


def test_model_id_is_that_of_the_weights(saved: Callable[[str], str], tmp_path: Path) -> None:
    shutil.copytree(saved("llama"), tmp_path / "llama")
    original, copy = TransformersChat(saved("llama")), TransformersChat(str(tmp_path / "llama"))
    assert isinstance(copy, ChatModel)
    assert copy.model_id == original.model_id
    model = AutoModelForCausalLM.from_pretrained(saved("llama"))
    with torch.no_grad():
        model.lm_head.weight[0, 0] += 1
    model.save_pretrained(tmp_path / "llama")
    changed = TransformersChat(str(tmp_path / "llama"))
    assert changed.model_id != original.model_id
    half = TransformersChat(saved("llama"), dtype="bfloat16")
    assert half.model_id != original.model_id
    assert one(half, "add", GREEDY).text
    for chat in (original, copy, changed, half):
        chat.close()


def test_what_cannot_serve_is_said_at_once(saved: Callable[[str], str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be loaded"):
        TransformersChat(str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match="max_batch_rows"):
        TransformersChat(saved("llama"), max_batch_rows=0)
    shutil.copytree(saved("llama"), tmp_path / "bare")
    (tmp_path / "bare" / "chat_template.jinja").unlink()
    with pytest.raises(ConfigError, match="chat template"):
        TransformersChat(str(tmp_path / "bare"))


def test_uniforms_are_splitmix64() -> None:
    """Golden outputs of the reference splitmix64 seeded with 0."""
    golden = [16294208416658607535, 7960286522194355700, 487617019471545679]
    drawn = uniforms(torch.zeros(3, dtype=torch.long), torch.arange(3))
    assert drawn.tolist() == [(value >> 11) / 2**53 for value in golden]


def test_the_nucleus_is_the_smallest_set_that_reaches_its_mass() -> None:
    probs = torch.tensor([[0.5, 0.3, 0.2]] * 4)
    kept = keep_nucleus(probs, torch.tensor([0.0, 0.5, 0.6, 1.0], dtype=torch.float64))
    assert (kept > 0).sum(1).tolist() == [1, 1, 2, 3]


def test_the_prefix_cache_keeps_what_was_used_last() -> None:
    cache = PrefixCache(max_tokens=8)
    span = ((torch.arange(4.0).view(1, 1, 4, 1), torch.zeros(1, 1, 4, 1)),)
    cache.keep((1, 2, 3, 4), span)
    cache.keep((5, 6, 7, 8), span)
    length, found = cache.find((1, 2, 9))
    assert (length, found[0][0].flatten().tolist()) == (2, [0.0, 1.0])
    cache.keep((7, 7, 7, 7), span)
    assert cache.find((5, 6, 7, 8)) == (0, ())
    assert cache.find((1, 2, 3, 4, 5))[0] == 4


def test_companions_are_kin() -> None:
    a, b = tuple(range(40)), tuple(range(100, 140))
    prompts = [(*a, 1), (*b, 1), (*a, 2), (9, 9), (*b, 2), (8, 8)]
    assert companions(prompts, 8) == [(*a, 1), (*a, 2)]
    assert companions(prompts[1:], 8) == [(*b, 1), (*b, 2)]
    assert companions(prompts[3:4] + prompts[:3] + prompts[5:], 8) == [(9, 9), (*b, 1), (8, 8)]
    assert companions(prompts, 1) == [(*a, 1)]
