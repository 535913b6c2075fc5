"""A real HTTP server on 127.0.0.1 that speaks the OpenAI chat protocol, well or badly.

    with Loopback() as server:
        model = OpenAIChat("tiny", server.url)

Its voice is a pure function of the messages, the seed (at a temperature above 0) and the choice's
number, so that a test can know what comes. Tokens are words. `ignores` and `refuses` take features
away; `faults` are answered first, one for each request; a None among them is answered well.
`models` answers GET.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_WORDS = "the fog came over sea and hill while every bell in town rang twice before noon"
WORDS = tuple(_WORDS.split())


@dataclass(frozen=True)
class Answer:
    """What to send instead of a completion. `headers` win over the defaults."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    hang_up: bool = False

    @staticmethod
    def json(status: int, value: object, **headers: str) -> Answer:
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        return Answer(status, json.dumps(value).encode(), named)

    @staticmethod
    def error(status: int, message: str, **headers: str) -> Answer:
        return Answer.json(status, {"error": {"message": message}}, **headers)


def completion(*choices: dict[str, Any], usage: dict[str, Any] | None = None) -> Answer:
    """A 200 with exactly these choices; each is a message's fields, and maybe finish_reason."""
    rows = []
    for index, fields in enumerate(choices):
        message = {"role": "assistant"} | fields
        finish = message.pop("finish_reason", "stop")
        rows.append({"index": index, "message": message, "finish_reason": finish})
    return Answer.json(200, {"object": "chat.completion", "choices": rows, "usage": usage})


class Loopback:
    """The server, running inside `with`; `bodies` and `keys` hold what was asked, in order.

    `ignores` and `refuses` (with a 400 that names it) hold parameters: "n", "seed", "temperature",
    "stop", "max_tokens", "logprobs", "json_schema", "json_object", "usage", "cached".
    """

    def __init__(
        self,
        ignores: Iterable[str] = (),
        refuses: Iterable[str] = (),
        reply: Callable[[dict[str, Any]], str] | None = None,
        always: Answer | None = None,
    ) -> None:
        self.ignores, self.refuses = set(ignores), set(refuses)
        self.reply, self.always = reply, always
        self.models = Answer.json(200, {"object": "list", "data": [{"id": "tiny"}]})
        self.faults: deque[Answer | None] = deque()
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        handler = type("Handler", (_Handler,), {"owner": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = False
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Loopback:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, body: dict[str, Any], key: str) -> Answer:
        """What this body gets; records it."""
        with self._lock:
            seen = any(body["messages"] == old["messages"] for old in self.bodies)
            number = len(self.bodies)
            self.bodies.append(body)
            self.keys.append(key)
            fault = self.faults.popleft() if self.faults else self.always
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            if fault is not None:
                self._stopping.wait(fault.delay_s)
                return fault
            return self._refusal(body) or self._completion(body, seen, number)
        finally:
            with self._lock:
                self._at_once -= 1

    def _refusal(self, body: dict[str, Any]) -> Answer | None:
        kind = body.get("response_format", {}).get("type")
        for feature in sorted(self.refuses):
            if feature == kind:
                return Answer.error(400, f"response_format.type {kind} is not supported")
            if feature in body:
                return Answer.error(400, f"Unsupported parameter: '{feature}'")
        if body.get("n", 1) > 1 and body["temperature"] == 0 and "n" not in self.ignores:
            return Answer.error(400, "n must be 1 when using greedy sampling")
        return None

    def _completion(self, body: dict[str, Any], seen: bool, number: int) -> Answer:
        seed = number if "seed" in self.ignores else body.get("seed", number)
        if body["temperature"] == 0 or "temperature" in self.ignores:
            seed = None
        count = 1 if "n" in self.ignores else body.get("n", 1)
        choices = [self._choice(body, (seed, index)) for index in range(count)]
        prompt = sum(len(message["content"].split()) for message in body["messages"])
        usage = {
            "prompt_tokens": prompt,
            "completion_tokens": sum(len(c["message"]["content"].split()) for c in choices),
        }
        if "cached" not in self.ignores:
            usage["prompt_tokens_details"] = {"cached_tokens": prompt if seen else 0}
        value = {"object": "chat.completion", "model": body["model"], "choices": choices}
        return Answer.json(200, value if "usage" in self.ignores else value | {"usage": usage})

    def _choice(self, body: dict[str, Any], salt: object) -> dict[str, Any]:
        words, finish = self._text(body, salt).split(" "), "stop"
        limit = body.get("max_completion_tokens", body.get("max_tokens"))
        if "max_tokens" not in self.ignores and len(words) > limit:
            words, finish = words[:limit], "length"
        text = " ".join(words)
        for stop in () if "stop" in self.ignores else body.get("stop", ()):
            text = text.split(stop)[0]
        choice = {"message": {"role": "assistant", "content": text}, "finish_reason": finish}
        if body.get("logprobs") and "logprobs" not in self.ignores:
            rows = [{"token": word, "logprob": -len(word) / 8} for word in text.split()]
            choice["logprobs"] = {"content": rows}
        return choice

    def _text(self, body: dict[str, Any], salt: object) -> str:
        kind = body.get("response_format", {}).get("type")
        if kind in ("json_schema", "json_object") and kind not in self.ignores:
            return '{"town": "Ys"}'
        if self.reply is not None:
            return self.reply(body)
        digest = hashlib.sha256(json.dumps([body["messages"], salt]).encode()).digest()
        return " ".join(WORDS[byte % len(WORDS)] for byte in digest[:24])


class _Handler(BaseHTTPRequestHandler):
    owner: Loopback
    protocol_version = "HTTP/1.1"
    # A client that leaves its connection open must not keep the server's thread.
    timeout = 5
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._send(self.owner.models)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self._send(self.owner.answer(body, self.headers.get("authorization", "")))

    def _send(self, answer: Answer) -> None:
        if answer.hang_up:
            self.close_connection = True
            return
        default = {"content-type": "application/json", "content-length": str(len(answer.body))}
        self.send_response(answer.status)
        for name, text in (default | answer.headers).items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, *_: object) -> None:
        pass
