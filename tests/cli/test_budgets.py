"""Budgets through the command: each stops a run, exits with 3, and costs nothing when resumed."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.main import run
from tests.cli.spoken import billed, command, content, ledger, sold, voice
from tests.tfgrpo.experience.world import memory_folder
from tests.tfgrpo.llm.loopback import Loopback
from tfgrpo.experience.files import load_library

CONNECTIONS, GROUP = 3, 4
PRICE = {"prompt": 2.0, "cached": 1.0, "completion": 8.0}  # dollars per million tokens
Learn = Callable[..., tuple[int, str]]


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=memory_folder()) as name:
        yield Path(name)


def words(url: str, path: Path, **budget: float) -> list[str]:
    sets = ["summarise='always'"]
    sets += [f"price.{name}={value}" for name, value in PRICE.items()]
    sets += [f"budget.max_{name}={value}" for name, value in budget.items()]
    return [
        "learn", "--model", f"tiny@{url}", "--run", str(path), "--tasks", "sum,product",
        "--limit", "6", "--batch-size", "3", "--group-size", str(GROUP), "--epochs", "1",
        "--max-connections", str(CONNECTIONS), "--seed", "1",
        *(word for setting in sets for word in ("--set", setting)),
    ]  # fmt: skip


@pytest.fixture
def learn(capsys: pytest.CaptureFixture[str]) -> Learn:
    """Gives the exit code of the command, and what it said on stderr."""

    def give(url: str, path: Path, **budget: float) -> tuple[int, str]:
        with pytest.raises(SystemExit) as end:
            run(words(url, path, **budget))
        return int(end.value.code or 0), capsys.readouterr().err

    return give


def spent(used: tuple[int, int, int], name: str) -> float:
    """What a budget counts; this server has no prefix cache that would make tokens cheaper."""
    calls, prompt, completion = used
    usd = (prompt * PRICE["prompt"] + completion * PRICE["completion"]) / 1e6
    return {"calls": calls, "tokens": prompt + completion, "usd": usd}[name]


@pytest.mark.parametrize("shared", [True, False])
def test_a_spent_budget_stops_the_run_and_a_larger_one_ends_it(
    shared: bool, learn: Learn, folder: Path
) -> None:
    ignores = ["cached"] if shared else ["cached", "n"]
    with Loopback(ignores=ignores, reply=voice) as server:
        assert learn(server.url, folder / "whole")[0] == 0
        whole = ledger(folder / "whole")
        dearest = max(bill.prompt + bill.completion for bill in server.bills)
        # What a call that is in flight as the bound is reached may add.
        over = {"calls": 0, "tokens": dearest, "usd": dearest * PRICE["completion"] / 1e6}
        if not shared:
            # Before the first answers, nobody knows that each rollout needs a call of its own.
            over["calls"] = GROUP
        for name, unit in {"calls": "calls", "tokens": "tokens", "usd": "US dollars"}.items():
            path, bound = folder / name, spent(whole, name) // 3 or spent(whole, name) / 3
            server.forget()
            code, said = learn(server.url, path, **{name: bound})
            assert code == 3
            assert f"{unit} is spent; raise it, then resume the run. The partial result" in said
            assert str(path) in said
            assert ledger(path) == billed(server.bills)
            reached = spent(ledger(path), name)
            assert bound <= reached <= bound + (CONNECTIONS + 1) * over[name]
            assert learn(server.url, path)[0] == 0
            assert content(path) == content(folder / "whole") | config(path)
            assert ledger(path) == whole == billed(server.bills)
            assert set(sold(server.bills).values()) == {1}


def config(path: Path) -> dict[str, bytes]:
    """The settings, which hold the first budget of a run."""
    return {"config.json": (path / "config.json").read_bytes()}


@pytest.mark.slow
def test_a_budget_is_of_the_run_and_not_of_its_sessions(learn: Learn, folder: Path) -> None:
    with Loopback(ignores=["n"], reply=voice) as server:
        assert learn(server.url, folder / "whole")[0] == 0
        server.forget()
        stops, paid = 0, 0
        while learn(server.url, folder / "run", calls=25 * (stops + 1))[0] == 3:
            stops += 1
            used = ledger(folder / "run")
            assert used == billed(server.bills)
            assert used[0] > paid
            paid = used[0]
            assert learn(server.url, folder / "run", calls=25 * stops)[0] == 3, "not raised"
            assert ledger(folder / "run") == used == billed(server.bills)
        assert stops >= 2
        assert (
            load_library(folder / "run").fingerprint == load_library(folder / "whole").fingerprint
        )
        assert ledger(folder / "run") == ledger(folder / "whole") == billed(server.bills)
        assert set(sold(server.bills).values()) == {1}


def test_no_call_begins_when_the_time_is_up(learn: Learn, folder: Path) -> None:
    # Each answer takes longer than half of the time, and there are more than two rounds of them.
    with Loopback(ignores=["n"], reply=voice, delay_s=0.15) as server:
        code, said = learn(server.url, folder / "run", seconds=0.2)
        assert code == 3
        assert "0.2 seconds is spent; raise it, then resume the run" in said
        assert 0 < len(server.bodies) <= 2 * (CONNECTIONS + 1) * GROUP
        assert ledger(folder / "run") == billed(server.bills)
        server.delay_s = 0.0
        assert learn(server.url, folder / "run")[0] == 0
        assert ledger(folder / "run") == billed(server.bills)
        assert set(sold(server.bills).values()) == {1}
    assert load_library(folder / "run").active


@pytest.mark.slow
def test_an_interrupt_lets_the_calls_in_flight_land(learn: Learn, folder: Path) -> None:
    # What a shell starts in the background ignores interrupts, and so would all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with Loopback(ignores=["n"], reply=voice, delay_s=1.5) as server:
        with command(folder, *words(server.url, folder / "run")) as process:
            while len(server.bodies) < 5:
                assert process.poll() is None
                server.rest(0.01)
            process.send_signal(signal.SIGINT)
            assert process.wait(120) == 130
        asked = len(server.bodies)
        assert ledger(folder / "run") == billed(server.bills)
        assert asked == len(server.bills) < 40
        server.delay_s = 0.0
        assert learn(server.url, folder / "run")[0] == 0
        assert ledger(folder / "run") == billed(server.bills)
        assert set(sold(server.bills).values()) == {1}
