"""Whole learning runs against an endpoint that fails: they learn the same, and pay for it once."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.spoken import billed, content, groups, learn, ledger, sold, spec_of, voice
from tests.tfgrpo.experience.world import memory_folder
from tests.tfgrpo.llm.loopback import Loopback
from tests.tfgrpo.llm.troubles import LASTING, PASSING, plan
from tfgrpo.errors import BackendError
from tfgrpo.experience.files import load_library
from tfgrpo.llm.faults import Faults
from tfgrpo.runs import RunDir

GROUP = 4


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=memory_folder()) as name:
        yield Path(name)


def faults(run: Path) -> Faults:
    return Faults.from_json(RunDir.open(run).read_json("faults.json"))


@pytest.mark.parametrize(
    ("seed", "stalls"), [(0, False), pytest.param(1, True, marks=pytest.mark.slow)]
)
def test_an_endpoint_that_fails_three_times_in_ten_teaches_the_same(
    seed: int, stalls: bool, folder: Path
) -> None:
    kinds = [kind for kind in PASSING if stalls or "stall" not in kind]
    with Loopback(ignores=["n"], reply=voice, skew_s=-3600.0) as server:
        spec = spec_of(server.url, epochs=2, seed=seed)
        learn(spec, folder / "whole")
        assert ledger(folder / "whole") == billed(server.bills)
        server.forget()
        server.plan = plan(0.36, kinds, seed, sound=30)
        learn(spec, folder / "run", timeout_s=4.0 if stalls else 60.0)
        share = server.met.total() / len(server.bodies)
    assert content(folder / "run") == content(folder / "whole")
    assert load_library(folder / "run").active
    assert ledger(folder / "run") == billed(server.bills)
    assert set(sold(server.bills).values()) == {1}
    assert 0.25 < share < 0.4
    assert len(server.met) >= len(kinds) - 3
    record = faults(folder / "run").by_kind
    assert sum(count.failed for count in record.values()) == 0
    assert sum(count.lost.calls for count in record.values()) == sum(
        bill.told and not bill.sound for bill in server.bills
    )
    assert not (folder / "whole" / "faults.json").exists() or set(
        faults(folder / "whole").by_kind
    ) == {"too few choices"}


def test_what_is_refused_is_counted_and_never_scored(folder: Path) -> None:
    with Loopback(reply=voice, ignores=["n"], plan=plan(0.3, LASTING, most=99)) as server:
        spec = spec_of(server.url)
        learn(spec, folder / "run")
    record = faults(folder / "run").by_kind
    assert record["refusal"].failed == record["refusal"].seen == server.met["refusal"]
    assert record["content filter"].seen == server.met["filter"]
    assert record["cut short"].seen == server.met["length"]
    assert record["cut short"].failed == 0
    assert ledger(folder / "run") == billed(server.bills)
    stages = Counter[str]()
    for group in groups(folder / "run"):
        indices = [row["index"] for row in group["rollouts"] + group["failures"]]
        assert sorted(indices) == list(range(GROUP))
        assert all(row["text"] for row in group["rollouts"])
        stages.update(row["stage"] for row in group["failures"])
    assert stages["refused"] > 0
    assert set(stages) == {"refused"}


def test_shared_requests_that_come_back_by_halves_cost_what_they_bring(folder: Path) -> None:
    with Loopback(reply=voice, plan=plan(0.4, ["fewer", "500", "empty"], sound=2)) as server:
        learn(spec_of(server.url), folder / "run")
    assert server.met["fewer"] > 0
    assert ledger(folder / "run") == billed(server.bills)
    assert set(sold(server.bills).values()) == {1}
    for group in groups(folder / "run"):
        assert [row["index"] for row in group["rollouts"]] == list(range(GROUP))
        assert group["failures"] == []


def test_an_endpoint_that_closes_for_good_leaves_a_run_to_be_resumed(folder: Path) -> None:
    with Loopback(reply=voice, ignores=["n"], delay_s=0.01) as server:
        spec = spec_of(server.url)
        learn(spec, folder / "whole")
        server.forget()
        server.credit = 25
        with pytest.raises(BackendError, match="out of credit; add some, then resume the run"):
            learn(spec, folder / "run")
        kept = ledger(folder / "run")
        # What was under way has landed, though the run was over.
        assert kept == billed(server.bills)
        assert kept[0] == 25
        server.credit = None
        learn(spec, folder / "run")
        assert content(folder / "run") == content(folder / "whole")
        assert ledger(folder / "run") == ledger(folder / "whole") == billed(server.bills)
        assert set(sold(server.bills).values()) == {1}


def test_faults_of_all_sessions_are_in_one_record(folder: Path) -> None:
    with Loopback(reply=voice, ignores=["n"]) as server:
        spec = spec_of(server.url)
        for most in (20, 15):
            server.forget()
            server.plan = plan(0.3, ["500", "empty"], most=1)
            server.credit = most
            with pytest.raises(BackendError):
                learn(spec, folder / "run")
            met = json.loads((folder / "run" / "faults.json").read_bytes())
            assert met["server error"]["seen"] > 0
        first = met["server error"]["seen"]
        server.forget()
        server.credit = None
        server.plan = plan(0.3, ["500"], most=1)
        learn(spec, folder / "run")
        after = faults(folder / "run").by_kind["server error"].seen
        assert after == first + server.met["500"]
