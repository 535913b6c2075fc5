"""The pocket model behind the OpenAI chat protocol on loopback, for the commands of a page."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from cli.wiring import abacus_path
from tests.tfgrpo.llm.loopback import Answer, Bill, Body, Loopback, name_of
from tfgrpo.llm.transformers_local import TransformersChat
from tfgrpo.types import ChatRequest, Completion, Message, SamplingParams


class PocketServer(Loopback):
    """Abacus under each of `names`; a request without `key`, where there is one, gets a 401.

    `ignores` takes "n", "seed", "logprobs", "usage" and "cached" away, as in `Loopback`.
    """

    def __init__(self, *names: str, key: str | None = None, ignores: Iterable[str] = ()) -> None:
        super().__init__(ignores=ignores)
        self.models = Answer.json(200, {"object": "list", "data": [{"id": n} for n in names]})
        self._names, self._key = names, key
        self._model = TransformersChat(str(abacus_path()), "cpu", threads=1)

    def __exit__(self, *why: object) -> None:
        super().__exit__(*why)
        self._model.close()

    def answer(self, body: Body, key: str) -> Answer:
        if self._key is not None and key != f"Bearer {self._key}":
            return Answer.error(401, "Incorrect API key provided")
        if body["model"] not in self._names:
            return Answer.error(404, f"The model {body['model']} does not exist")
        return super().answer(body, key)

    def _completion(self, body: Body, seen: bool, number: int) -> Answer:
        outcomes = asyncio.run(self._model.complete(self._request(body)))
        said = [outcome for outcome in outcomes if isinstance(outcome, Completion)]
        if not said:
            return Answer.error(400, outcomes[0].reason)
        used = sum((one.usage for one in said[1:]), said[0].usage)
        usage: dict[str, Any] = {
            "prompt_tokens": used.prompt_tokens, "completion_tokens": used.completion_tokens,
        }  # fmt: skip
        if "cached" not in self.ignores:
            usage["prompt_tokens_details"] = {"cached_tokens": used.cached_tokens}
        value = {
            "id": "chatcmpl-1", "object": "chat.completion", "model": body["model"],
            "choices": [self._told(index, one) for index, one in enumerate(said)],
        } | ({} if "usage" in self.ignores else {"usage": usage})  # fmt: skip
        bill = Bill(name_of(body), used.prompt_tokens, used.completion_tokens)
        made = Answer.json(200, value)
        return Answer(made.status, made.body, bill=bill)

    def _request(self, body: Body) -> ChatRequest:
        params = SamplingParams(
            body["temperature"], body["top_p"],
            body.get("max_completion_tokens", body.get("max_tokens")),
            tuple(body.get("stop", ())), None if "seed" in self.ignores else body.get("seed"),
        )  # fmt: skip
        return ChatRequest(
            tuple(Message(m["role"], m["content"]) for m in body["messages"]),
            params,
            n=1 if "n" in self.ignores else body.get("n", 1),
            detail=bool(body.get("logprobs")) and "logprobs" not in self.ignores,
        )

    def _told(self, index: int, one: Completion) -> dict[str, Any]:
        choice: dict[str, Any] = {
            "index": index, "finish_reason": one.finish_reason,
            "message": {"role": "assistant", "content": one.text},
        }  # fmt: skip
        if one.token_ids is not None and one.logprobs is not None:
            told = zip(one.token_ids, one.logprobs, strict=True)
            rows = [{"token": self._model.decode([t]), "logprob": logp} for t, logp in told]
            choice["logprobs"] = {"content": rows}
        return choice
