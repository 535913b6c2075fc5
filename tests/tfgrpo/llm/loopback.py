"""A real HTTP server on 127.0.0.1 that speaks the OpenAI chat protocol, well or badly.

    with Loopback() as server:
        model = OpenAIChat("tiny", server.url)

Its voice is a pure function of the messages, the seed (at a temperature above 0) and the choice's
number, so that a test can know what comes. Tokens are words. `ignores` and `refuses` take features
away; `faults` are answered first, one for each request; a None among them is answered well. After
these, a `plan` may spoil the answer to any request (see `troubles.py`). `models` answers GET.

All replies have the same id, as ids promise nothing.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_WORDS = "the fog came over sea and hill while every bell in town rang twice before noon"
WORDS = tuple(_WORDS.split())
Body = dict[str, Any]


@dataclass(frozen=True)
class Bill:
    """What the model has worked for one answer. `request` names the body that asked for it.

    `sound`: the answer was good. `told`: the client could read in it what it cost.
    """

    request: str
    prompt: int
    completion: int
    sound: bool = True
    told: bool = True


@dataclass(frozen=True)
class Answer:
    """What to send instead of a completion. `headers` win over the defaults.

    After `stall_after` bytes of the body nothing more comes, after `cut_after` the connection ends.
    """

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    hang_up: bool = False
    stall_after: int | None = None
    cut_after: int | None = None
    bill: Bill | None = None

    @staticmethod
    def json(status: int, value: object, **headers: str) -> Answer:
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        return Answer(status, json.dumps(value).encode(), named)

    @staticmethod
    def error(status: int, message: str, **headers: str) -> Answer:
        return Answer.json(status, {"error": {"message": message}}, **headers)


Spoil = Callable[[Answer, float], Answer]
"""Makes a bad answer of a good one, given how far the server's clock is ahead."""

Plan = Callable[[Body, int, int], tuple[str, Spoil] | None]
"""What spoils the answer to a body: also given how often it came before, and how many came."""


def completion(*choices: dict[str, Any], usage: dict[str, Any] | None = None) -> Answer:
    """A 200 with exactly these choices; each is a message's fields, and maybe finish_reason."""
    rows = []
    for index, fields in enumerate(choices):
        message = {"role": "assistant"} | fields
        finish = message.pop("finish_reason", "stop")
        rows.append({"index": index, "message": message, "finish_reason": finish})
    return Answer.json(200, {"object": "chat.completion", "choices": rows, "usage": usage})


def name_of(body: Body) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]


UNLIKELY = {"token": "", "logprob": -5.0}
"""The other token that is told where the likeliest are asked for."""


class Loopback:
    """The server, running inside `with`.

    `bodies` and `keys` hold what was asked, in order; `bills` what was worked, `met` how often each
    trouble was met, `most_at_once` how many requests were in it together. `ignores` and `refuses`
    (with a 400 that names it) hold parameters: "n", "seed", "temperature", "stop", "max_tokens",
    "logprobs", "top_logprobs", "json_schema", "json_object", "usage", "cached". Each good answer
    takes `delay_s`. Above `capacity` requests at once the surplus gets a 429; below `crowd`, all
    wait for more. Parameters in `only` have that single value. The clock is `skew_s` ahead. After
    `credit` completions all requests get a 402.
    """

    def __init__(
        self,
        ignores: Iterable[str] = (),
        refuses: Iterable[str] = (),
        reply: Callable[[Body, int], str] | None = None,
        always: Answer | None = None,
        plan: Plan | None = None,
        delay_s: float = 0.0,
        capacity: int | None = None,
        crowd: int = 0,
        only: dict[str, float] | None = None,
        skew_s: float = 0.0,
    ) -> None:
        self.ignores, self.refuses = set(ignores), set(refuses)
        self.reply, self.always, self.plan = reply, always, plan
        self.delay_s, self.capacity, self.skew_s = delay_s, capacity, skew_s
        self.only = only or {}
        self._crowd = threading.Barrier(crowd, timeout=200) if crowd else None
        self.credit: int | None = None
        self.models = Answer.json(200, {"object": "list", "data": [{"id": "tiny"}]})
        self.faults: deque[Answer | None] = deque()
        self.bodies: list[Body] = []
        self.keys: list[str] = []
        self.bills: list[Bill] = []
        self.met: Counter[str] = Counter()
        self.most_at_once = 0
        self._at_once = 0
        self._asked: Counter[str] = Counter()
        self._seen: set[str] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        handler = type("Handler", (_Handler,), {"owner": self})
        self._server = _Server(("127.0.0.1", 0), handler)
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

    def forget(self) -> None:
        """Begin all records afresh."""
        for record in (self.bodies, self.keys, self.bills, self.met, self._asked, self._seen):
            record.clear()

    def rest(self, seconds: float | None = None) -> None:
        """Wait, but no longer than the server runs."""
        self._stopping.wait(seconds)

    def answer(self, body: Body, key: str) -> Answer:
        """What this body gets; records it."""
        name, prompt = name_of(body), json.dumps(body["messages"])
        with self._lock:
            number, times, seen = len(self.bodies), self._asked[name], prompt in self._seen
            self._asked[name] += 1
            self._seen.add(prompt)
            self.bodies.append(body)
            self.keys.append(key)
            fault = self.faults.popleft() if self.faults else self.always
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            crowded = self.capacity is not None and self._at_once > self.capacity
        try:
            if crowded:
                return self._met("crowded", Answer.error(429, "too many at once"))
            if self._crowd is not None:
                self._crowd.wait()
            made = fault or self._refusal(body) or self._planned(body, seen, number, times)
            self.rest(made.delay_s)
            return made
        finally:
            with self._lock:
                self._at_once -= 1

    def _planned(self, body: Body, seen: bool, number: int, times: int) -> Answer:
        if not self._has_credit():
            return Answer.error(402, "no credit")
        sound = self._completion(body, seen, number)
        trouble = self.plan(body, times, number) if self.plan else None
        if trouble is None:
            return sound
        name, spoil = trouble
        return self._met(name, spoil(sound, self.skew_s))

    def _has_credit(self) -> bool:
        with self._lock:
            if self.credit is None:
                return True
            self.credit -= 1
            return self.credit >= 0

    def _met(self, name: str, answer: Answer) -> Answer:
        with self._lock:
            self.met[name] += 1
        return answer

    def _refusal(self, body: Body) -> Answer | None:
        kind = body.get("response_format", {}).get("type")
        for feature in sorted(self.refuses):
            if feature == kind:
                return Answer.error(400, f"response_format.type {kind} is not supported")
            if feature in body:
                return Answer.error(400, f"Unsupported parameter: '{feature}'")
        for name, value in self.only.items():
            if body[name] != value:
                words = f"'{name}' does not support {body[name]} with this model."
                return Answer.error(400, f"Unsupported value: {words} Only {value} is supported.")
        if body.get("n", 1) > 1 and body["temperature"] == 0 and "n" not in self.ignores:
            return Answer.error(400, "n must be 1 when using greedy sampling")
        return None

    def _completion(self, body: Body, seen: bool, number: int) -> Answer:
        seed = number if "seed" in self.ignores else body.get("seed", number)
        if body["temperature"] == 0 or "temperature" in self.ignores:
            seed = None
        count = 1 if "n" in self.ignores else body.get("n", 1)
        choices = [self._choice(body, seed, index) for index in range(count)]
        prompt = sum(len(message["content"].split()) for message in body["messages"])
        said = sum(len(choice["message"]["content"].split()) for choice in choices)
        usage: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": said}
        if "cached" not in self.ignores:
            usage["prompt_tokens_details"] = {"cached_tokens": prompt if seen else 0}
        value = {"id": "chatcmpl-1", "object": "chat.completion", "model": body["model"]}
        value |= {"choices": choices} | ({} if "usage" in self.ignores else {"usage": usage})
        content, bill = json.dumps(value).encode(), Bill(name_of(body), prompt, said)
        return Answer(200, content, delay_s=self.delay_s, bill=bill)

    def _choice(self, body: Body, seed: object, index: int) -> dict[str, Any]:
        words, finish = self._text(body, seed, index).split(" "), "stop"
        limit = body.get("max_completion_tokens", body.get("max_tokens"))
        if "max_tokens" not in self.ignores and len(words) > limit:
            words, finish = words[:limit], "length"
        text = " ".join(words)
        for stop in () if "stop" in self.ignores else body.get("stop", ()):
            text = text.split(stop)[0]
        message = {"role": "assistant", "content": text}
        choice = {"index": index, "message": message, "finish_reason": finish}
        if body.get("logprobs") and "logprobs" not in self.ignores:
            rows = [{"token": word, "logprob": -len(word) / 8} for word in text.split()]
            if body.get("top_logprobs") and "top_logprobs" not in self.ignores:
                rows = [row | {"top_logprobs": [row, UNLIKELY]} for row in rows]
            choice["logprobs"] = {"content": rows}
        return choice

    def _text(self, body: Body, seed: object, index: int) -> str:
        if self.reply is not None:
            return self.reply(body, index)
        kind = body.get("response_format", {}).get("type")
        if kind in ("json_schema", "json_object") and kind not in self.ignores:
            return '{"town": "Ys"}'
        salt = [body["messages"], [seed, index]]
        digest = hashlib.sha256(json.dumps(salt).encode()).digest()
        return " ".join(WORDS[byte % len(WORDS)] for byte in digest[:24])


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 1024

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client may leave whenever it likes.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    owner: Loopback
    protocol_version = "HTTP/1.1"
    # A client that leaves its connection open must not keep the server's thread.
    timeout = 30
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._send(self.owner.models)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        answer = self.owner.answer(body, self.headers.get("authorization", ""))
        # Before it is sent, so that a client that has read the answer meets its bill.
        if answer.bill is not None:
            self.owner.bills.append(answer.bill)
        self._send(answer)

    def _send(self, answer: Answer) -> None:
        if answer.hang_up:
            self.close_connection = True
            return
        default = {"content-type": "application/json", "content-length": str(len(answer.body))}
        self.send_response(answer.status)
        for name, text in (default | answer.headers).items():
            self.send_header(name, text)
        if answer.stall_after != 0:
            self.end_headers()
        end = next((x for x in (answer.stall_after, answer.cut_after) if x is not None), None)
        self.wfile.write(answer.body[:end])
        if answer.stall_after is not None:
            self.owner.rest()
        if end is not None:
            self.close_connection = True

    def date_time_string(self, timestamp: float | None = None) -> str:
        return formatdate((timestamp or time.time()) + self.owner.skew_s, usegmt=True)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(**how: Any) -> Iterator[str]:
    """The URL of a server in a process of its own, for tests that measure their own process."""
    command = [sys.executable, "-m", "tests.tfgrpo.llm.loopback", json.dumps(how)]
    root = Path(__file__).parents[3]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=root, text=True, **pipes) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


if __name__ == "__main__":
    with Loopback(**json.loads(sys.argv[1])) as server:
        print(server.url, flush=True)
        sys.stdin.read()
