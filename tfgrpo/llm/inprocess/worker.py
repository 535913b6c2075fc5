"""The thread that owns the model, and the way to it from any event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from tfgrpo.errors import BackendError
from tfgrpo.llm.inprocess.engine import Engine
from tfgrpo.llm.inprocess.heap import give_back
from tfgrpo.llm.inprocess.state import Job
from tfgrpo.seeding import derive_seed
from tfgrpo.types import ChatRequest, Completion, Failure, Message, Usage

Outcomes = tuple[Completion | Failure, ...]

LINGER = 0.002
"""Seconds that an idle worker waits after a first call, so that its siblings join the batch."""


@dataclass(slots=True, eq=False)
class Ticket:
    request: ChatRequest
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Outcomes]
    since: float = field(default_factory=time.perf_counter)

    def settle(self, outcomes: Outcomes | BackendError) -> None:
        def hand_over() -> None:
            if self.future.done():
                return
            if isinstance(outcomes, BackendError):
                self.future.set_exception(outcomes)
            else:
                self.future.set_result(outcomes)

        # A closed loop has nobody left who waits.
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(hand_over)


class Encoder:
    """Messages to token ids by the model's own chat template."""

    def __init__(self, tokenizer: Any, longest: int | None) -> None:
        self.tokenizer = tokenizer
        self.longest = longest

    def tokens(self, messages: tuple[Message, ...]) -> tuple[int, ...]:
        chat = [{"role": message.role, "content": message.content} for message in messages]
        text = self.tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def too_long(self, length: int, max_tokens: int) -> Failure | None:
        if self.longest is None or length + max_tokens <= self.longest:
            return None
        return Failure(
            "protocol",
            f"The prompt has {length} tokens, which with max_tokens={max_tokens} exceeds the "
            f"model's {self.longest}; shorten the context or lower max_tokens.",
        )


class Worker:
    """The one thread that touches the model. Its queue takes tickets; None tells it to end."""

    def __init__(self, engine: Engine, encoder: Encoder, threads: int | None) -> None:
        self.engine = engine
        self.encoder = encoder
        self.threads = threads
        self.inbox: queue.SimpleQueue[Ticket | None] = queue.SimpleQueue()
        self.tickets: dict[Job, Ticket] = {}
        self.closed = False
        self.lock = threading.Lock()
        self.thread = threading.Thread(target=self.run, name="tfgrpo-sampler", daemon=True)
        self.thread.start()

    def accept(
        self, request: ChatRequest, loop: asyncio.AbstractEventLoop
    ) -> asyncio.Future[Outcomes]:
        """Queue a request from `loop`'s thread; raises `BackendError` once closed."""
        ticket = Ticket(request, loop, loop.create_future())
        with self.lock:
            if self.closed:
                raise BackendError("The in-process model is closed; make a new TransformersChat.")
            self.inbox.put(ticket)
        return ticket.future

    def stop(self) -> None:
        with self.lock:
            self.closed = True
            self.inbox.put(None)
        if threading.current_thread() is not self.thread:
            self.thread.join()

    def run(self) -> None:
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        while self.take_in():
            self.guarded(self.advance)
        self.fail(BackendError("The in-process model was closed; ask again with a new one."))
        give_back()

    def take_in(self) -> bool:
        """Turn what is in the queue into jobs, waiting while there is no work; False at the end."""
        if self.engine.idle:
            give_back()
            ticket = self.inbox.get()
            time.sleep(LINGER)
        else:
            ticket = self._next()
        while ticket is not None:
            self.guarded(self.enlist, ticket)
            ticket = self._next()
        return not self.closed

    def _next(self) -> Ticket | None:
        try:
            return self.inbox.get_nowait()
        except queue.Empty:
            return None

    def guarded(self, act: Callable[..., None], *tickets: Ticket) -> None:
        """Run `act`; what it raises goes to everyone who waits, and the engine starts afresh."""
        try:
            act(*tickets)
        except Exception as error:
            self.fail(
                BackendError(
                    f"The in-process model failed: {type(error).__name__}: {error}. "
                    "Check the model and its memory (max_batch_rows), then run again."
                ),
                *tickets,
            )

    def fail(self, error: BackendError, *more: Ticket) -> None:
        for ticket in {*self.tickets.values(), *more}:
            ticket.settle(error)
        self.tickets.clear()
        self.engine.reset()

    def enlist(self, ticket: Ticket) -> None:
        request, params = ticket.request, ticket.request.params
        tokens = self.encoder.tokens(request.messages)
        failure = self.encoder.too_long(len(tokens), params.max_tokens)
        if failure or request.n < 1:
            ticket.settle((failure,) * request.n if failure else ())
            return
        root = params.seed
        if root is None:
            root = int.from_bytes(os.urandom(8), "big")
        indices = range(request.first_index, request.first_index + request.n)
        seeds = [derive_seed(root, "rollout", index) for index in indices]
        job = Job(tokens, params, seeds, request.detail, ticket.future.cancelled)
        self.tickets[job] = ticket
        self.engine.submit(job)

    def advance(self) -> None:
        if self.engine.idle:
            return
        for job in self.engine.step():
            ticket = self.tickets.pop(job)
            ticket.settle(_outcomes(job, time.perf_counter() - ticket.since))


def _outcomes(job: Job, seconds: float) -> Outcomes:
    """The completions in index order; the first one carries what the request cost as a whole."""
    if not job.complete:
        return ()
    first, *others = (job.outcomes[index] for index in range(len(job.seeds)))
    prompt = Usage(1, len(job.tokens), job.prefilled.cached, 0, 0, seconds)
    return (replace(first, usage=first.usage + prompt), *others)
