"""From the settings of a memory to an open bank and what a policy reads in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import numpy as np

from tfgrpo import config
from tfgrpo.errors import ConfigError
from tfgrpo.experience.casebook import Casebook, Practice, StepMemory, tell
from tfgrpo.experience.record import MEMORY
from tfgrpo.prompts import PromptPack, load_pack
from tfgrpo.runs import RunDir
from tfgrpo.seeding import derive_seed, stable_hash

if TYPE_CHECKING:
    from memory.read.guard import Phase
    from memory.read.neural import NeuralQ
    from memory.read.policy import ReadPolicy
    from memory.search.embed import F32, Embedder
    from memory.search.space import Space
    from memory.store import CaseStore
    from memory.types import Case, Mode

TokenCounter = Callable[[str], int]
ONNX = "onnx:"


def make_embedder(name: str) -> Embedder:
    """`hashing`, `minilm`, or a sentence-transformers model by folder or Hugging Face id.

    `onnx:FOLDER` is run by onnxruntime, see `memory.search.onnx`.
    """
    from memory.search.embed import HashingEmbedder
    from memory.search.onnx import OnnxEmbedder
    from memory.search.sentence import SentenceEmbedder, packaged_minilm

    if name == "hashing":
        return HashingEmbedder()
    if name.startswith(ONNX):
        return OnnxEmbedder(Path(name.removeprefix(ONNX)), name=name)
    try:
        return SentenceEmbedder(packaged_minilm() if name == "minilm" else Path(name), name=name)
    except (FileNotFoundError, ModuleNotFoundError) as error:
        raise ConfigError(f"The embedder {name!r} cannot be used: {error}") from error


def read_policy(spec: config.MemorySpec, floor: float) -> ReadPolicy:
    """`floor`: the cosine that chance reaches, used where the settings name none."""
    from memory.read.policy import (
        ByModel,
        BySimilarity,
        ByValue,
        ReadPolicy,
        Softmax,
        Thompson,
        TopK,
    )

    scores: dict[str, BySimilarity | ByValue | ByModel] = {
        "similarity": BySimilarity(),
        "value": ByValue(spec.weight, spec.exploration),
        "neural": ByModel(),
    }
    draws: dict[str, TopK | Softmax | Thompson] = {
        "top": TopK(),
        "softmax": Softmax(spec.tau),
        "thompson": Thompson(),
    }
    try:
        return ReadPolicy(
            k=spec.k,
            score=scores[spec.read],
            draw=draws[spec.draw],
            floor=floor if spec.floor is None else spec.floor,
            max_negative=spec.max_negative,
            per_source=spec.per_source,
            diversity=spec.diversity,
            token_budget=spec.max_tokens,
        )
    except ValueError as error:
        raise ConfigError(f"memory: {error}") from error


def neural_file(store: CaseStore, embedder: Embedder) -> Path:
    """Where `tfgrpo memory fit` keeps the model of a store's case values."""
    return store.folder / f"neural-{embedder.fingerprint.short}.npz"


def neural_model(store: CaseStore, embedder: Embedder) -> NeuralQ:
    """The model of case values that was trained on the store's own log."""
    from memory.errors import StoreError
    from memory.read.neural import NeuralQ

    try:
        return NeuralQ.load(neural_file(store, embedder), embedder.fingerprint)
    except StoreError as error:
        place = quote(str(store.folder))
        raise StoreError(f"{error} To do that: tfgrpo memory fit --store {place}.") from error


@dataclass(frozen=True, slots=True)
class Bank:
    """An open store and all that is needed to read it for one policy."""

    store: CaseStore
    embedder: Embedder
    space: Space
    spec: config.MemorySpec
    pack: PromptPack
    count: TokenCounter

    def casebook(self, phase: Phase, seed: int, group_size: int, run_id: str) -> Casebook:
        """What is shown of the store as it now stands."""
        from memory.read.guard import Guard
        from memory.read.reader import Reader, Rules, State
        from memory.types import STATES, CaseFilter

        cases = self.store.cases(CaseFilter(states=STATES))
        state = State({c.id: c for c in cases}, self.store.utilities(), self.store.seq)
        self.space.refresh(cases)
        model = None
        if self.spec.read == "neural":
            model = neural_model(self.store, self.embedder)
        rules = Rules(
            policy=read_policy(self.spec, self.space.floor),
            guard=Guard(mode=self.spec.guard, phase=phase),
            eligible=self._eligible,
            render=lambda case: tell(case, 1, self.pack),
            count=self.count,
            value=None if model is None else partial(self._value, model),
        )
        share = self.spec.off_share if isinstance(self.spec, config.PracticeSpec) else 0.0
        reader = Reader(state, self.space, rules)
        digest = self.store.digest
        if model is not None:  # a read depends on it, and it lies beside the store
            digest = stable_hash(digest, model.digest)
        return Casebook(reader, self.pack, digest, seed, group_size, share, run_id)

    def _value(self, model: NeuralQ, question: F32, ids: Sequence[int]) -> Sequence[float]:
        """Q(question, cases), for each of the cases in turn."""
        rows = [row for i in ids if (row := self.space.vector(i)) is not None]
        return [float(q) for q in model.values(question, np.stack(rows))] if rows else []

    def _eligible(self, case: Case) -> bool:
        inside = self.spec.namespace
        return (
            case.state == "active"
            and case.kind == "case"
            and (inside is None or f"{case.ns}/".startswith(f"{inside}/"))
        )


@contextmanager
def opened(
    spec: config.MemorySpec, mode: Mode, pack: PromptPack, count: TokenCounter
) -> Iterator[Bank]:
    from cli import cases_options
    from memory.search.embed import FingerprintMismatch
    from memory.search.space import Space
    from memory.store import CaseStore

    embedder = make_embedder(spec.embedder)
    if mode == "rw":
        store = CaseStore(spec.path)  # practice makes the bank that it fills
    else:
        store = cases_options.opened(spec.path, mode, spec.snapshot)
    with store:
        try:
            space = Space(store, embedder)
        except FingerprintMismatch as error:
            raise ConfigError(
                f"The bank {spec.path} cannot be read: {error} To read it as it is, give --set "
                f"memory.embedder=NAME. {cases_options.moving(spec.path, embedder)}"
            ) from error
        yield Bank(store, embedder, space, spec, pack, count)


@dataclass(frozen=True, slots=True)
class PracticeBank:
    """The bank of a learning run: `practice` goes to the loop, which gives back its steps."""

    bank: Bank
    practice: Practice

    def keep(self, step: StepMemory) -> None:
        """Apply a step that stands in the run; one that was applied before is left alone."""
        from memory.ingest import ingest

        ingest(self.bank.store, step, actor="learn")


@contextmanager
def practising(
    spec: config.LearnSpec, run: RunDir, pack: PromptPack, count: TokenCounter
) -> Iterator[PracticeBank | None]:
    """The bank of a learning run, up to date with the steps that stand in it; None without one."""
    from memory.ingest import from_row

    if spec.memory is None:
        yield None
        return
    if spec.memory.snapshot:
        raise ConfigError("A learning run reads the bank as it stands; leave memory.snapshot out.")
    settings, run_id = spec.memory, run.identity
    with opened(settings, "rw", pack, count) as bank:

        def current() -> Casebook | None:
            if settings.read == "off":
                return None
            seed = derive_seed(spec.seed, "cases", bank.store.last_step(run_id))
            return bank.casebook("practice", seed, spec.group_size, run_id)

        made = PracticeBank(bank, Practice(run_id, settings.namespace or "default", current))
        for row in run.read_rows(MEMORY):
            made.keep(from_row(row))
        yield made
        bank.space.refresh()  # so that an evaluation finds every vector made


@contextmanager
def evaluating(
    spec: config.EvalSpec, run: RunDir, count: TokenCounter
) -> Iterator[Casebook | None]:
    """What an evaluation is shown of a frozen bank; None without one."""
    if spec.memory is None or spec.memory.read == "off":
        yield None
        return
    with opened(spec.memory, "frozen", load_pack(spec.pack), count) as bank:
        seed = derive_seed(spec.seed, "cases")
        yield bank.casebook("evaluation", seed, spec.n, run.identity)
