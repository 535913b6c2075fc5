"""The record of what went wrong: in memory, in the store of calls, and in the budget."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfgrpo.canonical import canonical_json
from tfgrpo.errors import BudgetStop
from tfgrpo.ledger import Price
from tfgrpo.llm.cache import CachedModel, CallStore
from tfgrpo.llm.faults import Fault, FaultCount, FaultKind, FaultLog, Faults
from tfgrpo.llm.limiter import LimitedModel
from tfgrpo.llm.meter import Budget, Meter, MeteredModel
from tfgrpo.types import ChatRequest, Completion, Failure, Message, Phase, SamplingParams, Usage

KINDS: list[FaultKind] = ["rate limit", "timeout", "refusal"]
REQUEST = ChatRequest((Message("user", "one"),), SamplingParams(), n=3, first_index=4)

counts = st.integers(0, 2**40)
usages = st.builds(Usage, counts, counts, counts, counts, counts, st.integers(0, 99).map(float))
phases: st.SearchStrategy[Phase] = st.sampled_from(["rollout", "compare"])
faults = st.builds(Fault, st.sampled_from(KINDS), phases, st.integers(0, 9), usages)

WRITER = """
import sys
from pathlib import Path
from tfgrpo.llm.cache import CallStore
from tfgrpo.llm.faults import Fault

with CallStore(Path(sys.argv[1])) as store:
    while True:
        store.note(Fault("timeout", "rollout"))
        print(flush=True)
"""


@given(st.lists(faults, max_size=12))
def test_memory_and_store_count_alike(noted: list[Fault]) -> None:
    log, heard = FaultLog(), list[Fault]()
    log.listen(heard.append)
    with CallStore(Path(":memory:")) as store:
        log.listen(store.note)
        for fault in noted:
            log.note(fault)
        assert store.faults().to_json() == log.record.to_json()
        for phase in ("rollout", "compare"):
            lost = sum((fault.usage for fault in noted if fault.phase == phase), Usage())
            assert store.usage_by_phase().get(phase, Usage()) == lost
    assert heard == noted
    for kind in KINDS:
        own = [fault for fault in noted if fault.kind == kind]
        expected = FaultCount(
            len(own), sum(f.failed for f in own), sum((f.usage for f in own), Usage())
        )
        assert log.record.by_kind.get(kind, FaultCount()) == expected
    assert Faults.from_json(log.record.to_json()) == log.record
    assert canonical_json(log.record.to_json())


def test_a_record_that_was_handed_out_never_changes() -> None:
    log = FaultLog()
    before = log.record
    log.note(Fault("timeout", "rollout"))
    assert before == Faults()
    with pytest.raises(TypeError):
        log.record.by_kind["timeout"] = FaultCount()  # type: ignore[index]


def test_what_was_billed_in_vain_is_in_the_ledger_of_its_phase(tmp_path: Path) -> None:
    path = tmp_path / "calls.sqlite"
    for _ in range(2):
        with CallStore(path) as store:
            store.put("rollout", {"k": Completion("a", "stop", Usage(1, 10, 0, 5))})
            store.note(Fault("refusal", "rollout", 1, Usage(1, 10, 4, 2)))
            store.note(Fault("timeout", "compare"))
    with CallStore(path) as store:
        assert store.usage_by_phase() == {"rollout": Usage(3, 30, 8, 9)}
        assert store.faults().by_kind == {
            "refusal": FaultCount(2, 2, Usage(2, 20, 8, 4)),
            "timeout": FaultCount(2),
        }


def test_a_kill_loses_no_fault_that_was_noted(tmp_path: Path) -> None:
    path, told = tmp_path / "calls.sqlite", 0
    for lines in (1, 7, 40):
        command = [sys.executable, "-c", WRITER, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            for _ in range(lines):
                writer.stdout.readline()
            os.kill(writer.pid, signal.SIGKILL)
            told += lines + len(writer.stdout.readlines())
        with CallStore(path) as store:
            seen = store.faults().by_kind["timeout"].seen
        assert told <= seen <= told + 1
        told = seen


def test_a_store_of_an_older_version_begins_to_count(tmp_path: Path) -> None:
    path = tmp_path / "calls.sqlite"
    with CallStore(path) as store:
        store.put("rollout", {"k": Completion("a", "stop", Usage(1, 1, 0, 1))})
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("DROP TABLE faults")
    with CallStore(path) as store:
        assert store.faults() == Faults()
        store.note(Fault("timeout", "rollout"))
        assert len(store) == store.faults().by_kind["timeout"].seen == 1


def test_vain_replies_count_towards_a_budget() -> None:
    meter = Meter(Budget(max_tokens=30))
    price = Price(1e6, 1e6, 1e6)
    meter.lose(Fault("timeout", "rollout"), price)
    assert meter.usage == {}
    # Asked again, and so one more call; then lost for good, where its Failure is the call.
    meter.lose(Fault("empty", "rollout", 0, Usage(1, 9, 0, 1)), price)
    meter.lose(Fault("empty", "rollout", 1, Usage(1, 9, 0, 1)), price)
    assert meter.total == Usage(1, 18, 0, 2)
    assert meter.usd == 20.0
    meter.enter()
    meter.lose(Fault("refusal", "rollout", 1, Usage(1, 9, 0, 1)), price)
    with pytest.raises(BudgetStop, match="budget of 30 tokens"):
        meter.enter()


def test_a_meter_that_was_stopped_admits_nothing() -> None:
    meter = Meter()
    meter.enter()
    meter.stop()
    with pytest.raises(BudgetStop, match="being stopped; resume it"):
        meter.enter()


class OneByOne:
    """A model that needs a call for each rollout, and fails at one of them."""

    model_id = "one by one"

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []

    def shares(self, request: ChatRequest) -> bool:
        return False

    async def complete(self, request: ChatRequest) -> tuple[Completion | Failure, ...]:
        self.calls.append((request.first_index, request.n))
        await asyncio.sleep(0.001 * request.first_index)
        if request.first_index == 5:
            return (Failure("transport", "gone"),)
        return (Completion(f"{request.first_index}", "stop", Usage(1)),) * request.n


@pytest.mark.parametrize("bound", [1, 2, 3])
def test_rollouts_that_share_no_call_are_admitted_and_stored_one_by_one(
    bound: int, tmp_path: Path
) -> None:
    inner = OneByOne()
    with CallStore(tmp_path / "calls.sqlite") as store:
        meter = Meter(Budget(max_calls=bound))
        limited = LimitedModel(MeteredModel(inner, meter), 2)
        model = LimitedModel(CachedModel(limited, store), 2)
        assert not limited.shares(REQUEST)

        async def go() -> None:
            try:
                await model.complete(REQUEST)
            finally:
                await asyncio.gather(
                    *(asyncio.all_tasks() - {asyncio.current_task()}), return_exceptions=True
                )

        if bound < 3:
            with pytest.raises(BudgetStop):
                asyncio.run(go())
        else:
            asyncio.run(go())
        assert inner.calls == [(4, 1), (5, 1), (6, 1)][:bound]
        assert meter.total.calls == bound
        assert len(store) == len([call for call in inner.calls if call != (5, 1)])
