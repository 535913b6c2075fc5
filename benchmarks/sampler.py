"""Tokens per second of the in-process sampler against `model.generate`, in one run.

Both sample the same prompts from the same random Llama at temperature 1, both stop every reply at
the same number of tokens, and both decode what they wrote.

    python benchmarks/sampler.py --prompts 32 --threads 1
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tfgrpo.llm.transformers_local import TransformersChat
from tfgrpo.types import ChatRequest, Completion, Message, SamplingParams

VOCABULARY = 1024


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--shared", type=int, default=200, help="tokens that all prompts share")
    parser.add_argument("--own", type=int, default=40, help="tokens of each prompt's own")
    parser.add_argument("--new", type=int, default=64, help="tokens to sample")
    parser.add_argument("--rows", type=int, default=256, help="rows in flight, for both")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


def build_model(options: argparse.Namespace) -> LlamaForCausalLM:
    """A Llama of 2M parameters with random weights, which never ends a reply by itself."""
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=192,
        num_hidden_layers=4,
        num_attention_heads=6,
        intermediate_size=512,
        vocab_size=VOCABULARY,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = LlamaForCausalLM(config).to(options.device, getattr(torch, options.dtype))
    return model.eval()


def build_tokenizer() -> PreTrainedTokenizerFast:
    words = {f"w{index}": index for index in range(VOCABULARY)}
    core = Tokenizer(WordLevel(words, unk_token="w0"))
    core.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="w0")
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    return tokenizer


def build_prompts(options: argparse.Namespace) -> list[tuple[Message, ...]]:
    rng = random.Random(0)

    def words(count: int) -> str:
        return " ".join(f"w{rng.randrange(VOCABULARY)}" for _ in range(count))

    shared = Message("system", words(options.shared))
    spread = max(1, options.own // 4)
    return [
        (shared, Message("user", words(options.own + rng.randint(-spread, spread))))
        for _ in range(options.prompts)
    ]


def time_sampler(options: argparse.Namespace, model: Any, tokenizer: Any, prompts: Any) -> Any:
    """(seconds, sampled tokens, sample of text) of all prompts asked at once."""
    chat = TransformersChat.of(model, tokenizer, "benchmark", options.rows)
    params = SamplingParams(max_tokens=options.new, seed=1)

    async def ask(chosen: Any, n: int) -> list[Any]:
        asks = (chat.complete(ChatRequest(messages, params, n=n)) for messages in chosen)
        return [reply for replies in await asyncio.gather(*asks) for reply in replies]

    asyncio.run(ask([(Message("user", "w1 w2"),)], 1))
    start = time.perf_counter()
    replies = asyncio.run(ask(prompts, options.samples))
    seconds = time.perf_counter() - start
    chat.close()
    assert all(isinstance(reply, Completion) for reply in replies)
    return seconds, sum(reply.usage.completion_tokens for reply in replies)


def time_generate(options: argparse.Namespace, model: Any, tokenizer: Any, prompts: Any) -> Any:
    """The same by `model.generate`, in left-padded batches of as many rows."""
    tokenizer.padding_side = "left"
    texts = [" ".join(message.content for message in messages) for messages in prompts]
    size = max(1, options.rows // options.samples)
    tokens = 0
    start = time.perf_counter()
    for at in range(0, len(texts), size):
        batch = tokenizer(texts[at : at + size], return_tensors="pt", padding=True)
        ids, mask = batch["input_ids"].to(model.device), batch["attention_mask"].to(model.device)
        with torch.inference_mode():
            out = model.generate(
                input_ids=ids,
                attention_mask=mask,
                do_sample=True,
                top_k=0,
                num_return_sequences=options.samples,
                max_new_tokens=options.new,
                pad_token_id=0,
            )
        new = out[:, ids.shape[1] :]
        tokenizer.batch_decode(new)
        tokens += new.numel()
    return time.perf_counter() - start, tokens


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    model, tokenizer, prompts = build_model(options), build_tokenizer(), build_prompts(options)
    # `generate` goes first, while the model still has its stock attention.
    base_seconds, base_tokens = time_generate(options, model, tokenizer, prompts)
    seconds, tokens = time_sampler(options, model, tokenizer, prompts)
    if tokens != base_tokens:
        raise SystemExit(f"Unequal work: {tokens} against {base_tokens} tokens; report this bug.")
    result = {
        **vars(options),
        "parameters": model.num_parameters(),
        "tokens": tokens,
        "sampler_tokens_per_second": round(tokens / seconds),
        "generate_tokens_per_second": round(base_tokens / base_seconds),
        "ratio": round(base_seconds / seconds, 2),
    }
    print(json.dumps(result))
    print(
        f"sampler {result['sampler_tokens_per_second']} tok/s, "
        f"generate {result['generate_tokens_per_second']} tok/s: {result['ratio']}x"
    )


if __name__ == "__main__":
    main()
