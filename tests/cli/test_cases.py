"""`tfgrpo memory` as a user gives it, on real stores: values, refusals, and what is left alone."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from cli.banks import Bank, opened
from cli.cases_read import fused
from cli.main import run
from memory.agent.episodes import Episode
from memory.credit import leave_one_out
from memory.errors import NotReady
from memory.read.neural import NeuralQ
from memory.search.embed import HashingEmbedder
from memory.search.reembed import embed_pending
from memory.store import CaseStore
from memory.types import STATES, Case, CaseFilter, CaseIn, Hit, Outcome, Parent, Retrieval
from tests.cli.test_commands import HOSTILE, harmless
from tests.memory.store_places import memory_folder
from tfgrpo.config import MemorySpec
from tfgrpo.experience.casebook import reads_row
from tfgrpo.prompts import load_pack
from tfgrpo.runs import RunDir
from tfgrpo.seeding import derive_seed
from tfgrpo.tasks.procedural import ProceduralTasks

ROOT = Path(__file__).parents[2]
TASKS = ProceduralTasks(["sum", "product"]).tasks("train", 16, 0)
SMALL = HashingEmbedder(dim=64)
GROUP = 4
ALL = CaseFilter(states=STATES)


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    def json(self, code: int = 0) -> Any:
        """The one document on stdout, which every terminal can show."""
        assert self.code == code, self.err
        assert self.out.isascii()
        return json.loads(self.out)


Cli = Callable[..., Ended]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    def give(*arguments: str | Path | int) -> Ended:
        with pytest.raises(SystemExit) as end:
            run(["memory", *map(str, arguments)])
        printed = capsys.readouterr()
        return Ended(int(end.value.code or 0), printed.out, printed.err)

    return give


def bank_of(folder: Path, **settings: Any) -> Any:
    spec = MemorySpec(path=folder, floor=-1.0, **settings)
    return opened(spec, "rw", load_pack("default"), len)


@pytest.fixture(scope="module")
def practised() -> Iterator[Path]:
    """Two tries of 16 problems, an insight of two of them, and 64 reads with their outcomes."""
    with TemporaryDirectory(dir=memory_folder()) as place:
        folder = Path(place)
        with CaseStore(folder) as store:
            store.add_many(tries(), actor="test")
            lesson = CaseIn(
                kind="insight", ns="maths/train", plan="Add the ones first.", run_id="r1",
                parents=(Parent(1), Parent(2)),
            )  # fmt: skip
            store.add(lesson, actor="test", reason="step 0")
        with bank_of(folder, draw="softmax") as bank:
            read_and_credit(bank)
        yield folder


@pytest.fixture
def place() -> Iterator[Path]:
    """Where stores are quick."""
    with TemporaryDirectory(dir=memory_folder()) as made:
        yield Path(made)


def tries() -> Iterator[CaseIn]:
    for number, task in enumerate(TASKS):
        for right in (True, False):
            yield CaseIn(
                ns=f"maths/{task.split}",
                question=task.prompt,
                plan="Split it into tens and ones." if right else "Guess.",
                outcome="success" if right else "failure",
                reward=float(right),
                item_id=task.task_id,
                dataset=task.dataset,
                split=task.split,
                run_id=f"r{number % 2}",
                tags=("even",) if number % 2 == 0 else (),
            )


def read_and_credit(bank: Bank) -> None:
    casebook = bank.casebook("practice", 0, GROUP, "r1")
    rng = np.random.default_rng(0)
    for task in TASKS:
        rewards = rng.integers(2, size=GROUP).astype(float).tolist()
        outcomes = []
        for index, advantage in enumerate(leave_one_out(rewards)):
            read = casebook.read(task, index)
            assert read is not None
            number = bank.store.retrievals.log(read.retrieval)
            outcomes.append(Outcome(number, rewards[index], advantage))
        bank.store.retrievals.credit(outcomes, actor="test")


@pytest.fixture
def bank(practised: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of one's own, which the environment names."""
    folder = place / "bank"
    shutil.copytree(practised, folder)
    monkeypatch.setenv("TFGRPO_MEMORY", str(folder))
    return folder


@pytest.fixture
def empty(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = place / "empty"
    CaseStore(folder).close()
    monkeypatch.setenv("TFGRPO_MEMORY", str(folder))
    return folder


def cases(folder: Path, wanted: CaseFilter = ALL) -> list[Case]:
    with CaseStore(folder, mode="ro") as store:
        return store.cases(wanted)


def digest(folder: Path) -> tuple[int, str]:
    with CaseStore(folder, mode="ro") as store:
        return store.seq, store.digest


def row(case: Case) -> dict[str, Any]:
    return {"id": case.id, "question": case.question, "plan": case.plan, "outcome": case.outcome}


def flat(text: str) -> str:
    return " ".join(text.split())


# making and adding --------------------------------------------------------------------------------


def test_a_store_is_made_once(cli: Cli, tmp_path: Path) -> None:
    place = tmp_path / "a" / "store"
    assert cli("init", "--store", place, "--json").json() == {
        "store": str(place), "created": True, "cases": 0,
    }  # fmt: skip
    cli("add", "--store", place, "--question", "q")
    assert "is a store of 1 cases" in cli("init", "--store", place).out
    assert cli("init", "--store", place, "--json").json()["created"] is False


@pytest.mark.parametrize("command", [["ls"], ["add", "--plan", "p"], ["verify"], ["doctor"]])
def test_only_init_makes_a_store(cli: Cli, command: list[str], tmp_path: Path) -> None:
    ended = cli(*command, "--store", tmp_path / "none")
    assert (ended.code, ended.out) == (1, "")
    assert f"or make an empty one: tfgrpo memory init --store {tmp_path / 'none'}." in ended.err
    assert list(tmp_path.iterdir()) == []


def test_a_store_of_an_older_format_is_brought_up_to_date_by_init(cli: Cli, place: Path) -> None:
    (place / "memory.sqlite").touch()
    ended = cli("ls", "--store", place)
    assert ended.code == 1
    way = f"open it for writing once. To do that: tfgrpo memory init --store {place}."
    assert ended.err.rstrip().endswith(way)
    opens = cli("doctor", "--store", place, "--json").json(code=1)[-1]
    assert (opens["name"], opens["remedy"]) == ("opens", "tfgrpo memory init")
    cli("init", "--store", place)
    assert cli("ls", "--store", place).code == 0


def test_a_case_is_added_counted_and_rejected(cli: Cli, empty: Path) -> None:
    said = ("--question", "Is 7 prime?", "--plan", "Divide.", "--outcome", "success")
    more = ("--reward", "1", "--tag", "b", "--tag", "a", "--item", "t7", "--ns", "x/y")
    told = cli("add", *said, *more, "--answer", "yes", "--reason", "It is.", "--json").json()
    assert told == [{"id": 1, "status": "created"}]
    (case,) = cases(empty)
    assert (case.question, case.plan, case.outcome, case.reward) == (
        "Is 7 prime?", "Divide.", "success", 1.0,
    )  # fmt: skip
    assert (case.tags, case.item_id, case.ns, case.answer, case.reason) == (
        ("a", "b"), "t7", "x/y", "yes", "It is.",
    )  # fmt: skip
    assert cli("add", *said, *more).out == "merged 1\n"
    cli("rm", 1, "--yes")
    ended = cli("add", *said, *more)
    assert (ended.code, ended.out) == (1, "rejected 1\n")
    assert "bring them back: tfgrpo memory restore 1." in ended.err


LINES = [
    {"question": "q1", "plan": "p", "reward": 1, "outcome": "success", "tags": ["t"]},
    {"kind": "insight", "plan": "lesson", "ns": "own", "parents": [[1, "from"]]},
]


def test_lines_are_added_from_a_file_and_from_the_standard_input(
    cli: Cli, empty: Path, tmp_path: Path
) -> None:
    file = tmp_path / "cases.jsonl"
    file.write_text("\n".join(map(json.dumps, LINES[:1])) + "\n\n", encoding="utf-8")
    assert cli("add", file, "--ns", "lines", "--json").json() == [{"id": 1, "status": "created"}]
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "memory", "add", "-", "--ns", "piped"],
        cwd=ROOT, input=json.dumps(LINES[1]), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "created 2\n", "")
    one, two = cases(empty)
    assert (one.ns, one.reward, one.tags) == ("lines", 1.0, ("t",))
    assert (two.ns, two.kind, two.parents) == ("own", "insight", (Parent(1, "from"),))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "It is no JSON object."),
        ("[]", "It is no JSON object."),
        ('{"title": "x"}', "A case has no title, but ns, kind, question"),
        ('{"plan": 3}', "The field plan is int, not text"),
        ('{"plan": "p", "reward": NaN}', "The reward is nan"),
        ('{"plan": "p", "tags": "t"}', "Its tags or parents are no list"),
        ('{"plan": "p", "tags": [["t"]]}', "A value is of no use here"),
        (
            '{"plan": "p", "outcome": "good"}',
            "The field outcome is 'good'; use one of success, failure",
        ),
        ("{}", "A case says nothing without a question and a plan"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_added(
    cli: Cli, empty: Path, tmp_path: Path, line: str, message: str
) -> None:
    file = tmp_path / "cases.jsonl"
    file.write_text(f'{{"plan": "good"}}\n{line}\n', encoding="utf-8")
    ended = cli("add", file)
    assert (ended.code, ended.out) == (1, "")
    assert f"Line 2: {message}" in ended.err
    assert ended.err.endswith("Nothing was added; correct it.\n")
    assert cases(empty) == []


def test_what_is_no_text_is_refused(cli: Cli, empty: Path, tmp_path: Path) -> None:
    file = tmp_path / "cases.jsonl"
    file.write_bytes(b'{"plan": "\xff"}\n')
    assert "This is no UTF-8 text" in cli("add", file).err
    assert cli("add", tmp_path / "none.jsonl").code == 2
    file.write_text('{"plan": "p"}')
    both = cli("add", file, "--plan", "p")
    assert (both.code, cases(empty)) == (2, [])
    assert "leave one of them out" in both.err


# reading ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        ([], CaseFilter()),
        (["--kind", "insight"], CaseFilter(kind="insight")),
        (["--outcome", "failure"], CaseFilter(outcome="failure")),
        (["--ns", "maths"], CaseFilter(ns="maths")),
        (["--ns", "math"], CaseFilter(ns="math")),
        (["--tag", "even"], CaseFilter(tag="even")),
        (["--run", "r1"], CaseFilter(run_id="r1")),
        (["--item", TASKS[3].task_id], CaseFilter(item_id=TASKS[3].task_id)),
        (["--state", "archived"], CaseFilter(states=("archived",))),
        (["--state", "all"], CaseFilter(states=STATES)),
    ],
)
def test_a_list_holds_what_matches(
    cli: Cli, bank: Path, flags: list[str], wanted: CaseFilter
) -> None:
    with CaseStore(bank) as store:
        store.archive([5, 6], actor="test")
        store.delete([7], actor="test")
    told = cli("ls", *flags, "--limit", 99, "--json").json()
    expected = cases(bank, wanted)
    assert told["more"] == 0
    assert [{k: r[k] for k in row(expected[0])} for r in told["cases"]] == list(map(row, expected))


def test_a_long_list_is_cut_and_says_so(cli: Cli, bank: Path) -> None:
    cut = cli("ls", "--limit", 5)
    assert len(cut.out.splitlines()) == 6
    assert "28 more; go on with --after 5, or raise --limit." in cut.err
    rest = cli("ls", "--after", 5, "--limit", 28, "--json").json()
    assert ([r["id"] for r in rest["cases"]], rest["more"]) == (list(range(6, 34)), 0)
    with CaseStore(bank, mode="ro") as store:
        utilities, shown = store.utilities(), store.retrievals.times_shown()
    for told in rest["cases"]:
        known = utilities.get(told["id"])
        assert told["utility"] == (None if known is None else
            {"n": known.n, "mean": known.mean, "m2": known.m2})  # fmt: skip
        assert told["shown"] == shown.get(told["id"], 0)


def test_a_list_of_a_snapshot(cli: Cli, bank: Path) -> None:
    cli("snapshot", "before")
    cli("rm", 1, "--yes")
    assert 1 not in [r["id"] for r in cli("ls", "--json").json()["cases"]]
    past = cli("ls", "--snapshot", "before", "--json").json()["cases"]
    assert past[0]["state"] == "active"
    assert "There is no snapshot after" in cli("ls", "--snapshot", "after").err


def test_fusion_by_hand() -> None:
    found = dict(fused([7, 3], [3, 9]))
    assert found == pytest.approx({3: 1 / 62 + 1 / 61, 7: 1 / 61, 9: 1 / 62})
    assert [number for number, _ in fused([7, 3], [3, 9])] == [3, 7, 9]
    assert [number for number, _ in fused([2], [1])] == [1, 2]
    assert fused() == fused([], []) == []


def test_a_search_by_words_by_likeness_and_by_both(cli: Cli, bank: Path) -> None:
    text = TASKS[4].prompt
    words = cli("search", text, "--k", 6, "--json").json()
    with CaseStore(bank, mode="ro") as store:
        expected = store.keyword_search(text, limit=6)
    assert [(r["id"], r["keyword"], r["cosine"]) for r in words] == [
        (case.id, score, None) for case, score in expected
    ]
    near = cli("search", text, "--mode", "vector", "--k", 6, "--ns", "maths", "--json").json()
    model = HashingEmbedder()
    known = [c for c in cases(bank) if c.question]
    cosines = model.embed_documents([c.question for c in known]) @ model.embed_queries([text])[0]
    order = sorted(zip(cosines.round(5), known, strict=True), key=lambda p: (-p[0], p[1].id))[:6]
    assert [r["id"] for r in near] == [case.id for _, case in order]
    assert [r["cosine"] for r in near] == pytest.approx([float(c) for c, _ in order], abs=1e-4)
    both = cli("search", text, "--mode", "hybrid", "--k", 6, "--json").json()
    deep = [[r["id"] for r in cli("search", text, "--mode", mode, "--k", 30, "--json").json()]
            for mode in ("keyword", "vector")]  # fmt: skip
    assert [(r["id"], r["score"]) for r in both] == fused(*deep)[:6]
    assert cli("search", "", "--json").json() == []
    assert flat(text)[:30] in flat(cli("search", text, "--mode", "hybrid").out)


def test_a_case_is_shown_with_all_that_is_known(cli: Cli, bank: Path) -> None:
    cli("edit", 1, "--plan", "Add the tens first.", "--note", "better")
    told = cli("show", 1, "--json").json()
    with CaseStore(bank, mode="ro") as store:
        utility, reads = store.utilities()[1], store.retrievals.ids(case_id=1)
        last = store.retrievals.get(reads[-1])
    assert told["case"]["plan"] == "Add the tens first."
    assert (told["shown"], told["last_read"]["retrieval"]) == (len(reads), reads[-1])
    assert told["last_read"]["rollout_id"] == last.rollout_id
    assert told["utility"] == {"n": utility.n, "mean": utility.mean, "m2": utility.m2}
    estimate = told["estimate"]
    assert (told["prior"], estimate["n"]) == (0.5, utility.n)  # half of the tries succeed
    shrunk = (4 * 0.5 + utility.n * utility.mean) / (4 + utility.n)
    assert estimate["value"] == pytest.approx(shrunk)
    half = 1.959964 * utility.standard_error()
    assert estimate["high"] - estimate["value"] == pytest.approx(half)
    assert told["children"] == [33]
    assert told["near"][0]["id"] == 2
    assert told["near"][0]["cosine"] == pytest.approx(1)
    assert [(e["op"], e["fields"], e["reason"]) for e in told["history"]] == [
        ("add", [], ""), ("update", ["plan"], "better"),
    ]  # fmt: skip
    page = flat(cli("show", 1).out)
    assert "case 1 case, success, active, version 2" in page
    assert "Add the tens first." in page
    assert f"from {utility.n} credits" in page
    assert "parent of 33 Add the ones first." in page
    assert f"{len(reads)} times, last in retrieval {reads[-1]}" in page
    assert "near (1.000) 2" in page
    assert "untested, prior +0.00" in cli("show", 33).out
    assert "There is no case 99" in cli("show", 99).err


def test_stats_are_those_of_the_store(cli: Cli, bank: Path) -> None:
    with CaseStore(bank, mode="ro") as store:
        found = store.stats()
    told = cli("stats", "--json").json()
    assert told["states"] == {"active": 33}
    assert told["reads"] == found.reads == len(TASKS) * GROUP
    assert (told["coverage"], told["hit_rate"]) == (found.coverage, found.hit_rate)
    assert told["utility"]["histogram"] == list(found.utility.histogram)
    page = flat(cli("stats").out)
    assert "case 32, insight 1" in page
    assert f"{found.reads}, of which" in page
    assert f"same item {found.blocked['same item']}" in page


# why ----------------------------------------------------------------------------------------------


def test_why_a_logged_read_showed_what_it_showed(cli: Cli, bank: Path) -> None:
    with bank_of(bank, draw="top") as open_bank:
        read = open_bank.casebook("practice", 0, GROUP, "r9").read(TASKS[1], 2)
        assert read is not None
        number = open_bank.store.retrievals.log(read.retrieval)
        open_bank.store.retrievals.credit([Outcome(number, 1.0, 0.25)], actor="test")
    told = cli("why", number, "--json").json()
    assert (told["retrieval"], told["run_id"]) == (number, "r9")
    assert (told["item_id"], told["rollout_id"]) == (TASKS[1].task_id, f"{TASKS[1].task_id}/2")
    assert (told["outcome"]["reward"], told["outcome"]["advantage"]) == (1.0, 0.25)
    decisions = {d.case_id: d for d in read.ranking.decisions}
    rows = {r["case_id"]: r for r in told["candidates"]}
    assert list(rows) == list(decisions)
    known = {case.id: case for case in cases(bank)}
    for case_id, d in decisions.items():
        r = rows[case_id]
        assert (r["rank"], r["reason"], r["score"]) == (d.rank, d.reason, d.score)
        assert (r["similarity"], r["utility"]) == (d.similarity, d.utility)
        assert (r["z_similarity"], r["z_utility"]) == pytest.approx((d.z_similarity, d.z_utility))
        assert r["question"] == known[case_id].question
    own = [r for i, r in rows.items() if known[i].item_id == TASKS[1].task_id]
    assert [r["reason"][:18] for r in own] == ["blocked: same item"] * 2
    assert len({round(r["z_utility"], 6) for r in rows.values() if r["z_utility"]}) > 3
    page = cli("why", number).out
    assert "reward 1.0, advantage 0.25" in page
    for r in told["candidates"][:4]:
        sign = [f"{r[name]:+.2f}" for name in ("similarity", "z_similarity", "utility")]
        place = f"{r['case_id']} +#{r['rank'] + 1} +" + " +".join(map(re.escape, sign))
        assert re.search(place, page)
    assert "outranked: What is" in flat(page)


def test_why_without_parts_where_they_are_not_the_score(cli: Cli, empty: Path) -> None:
    cli("add", "--question", "q")
    with CaseStore(empty) as store:
        for kind, draw in (("BySimilarity", "TopK"), ("ByValue", "Thompson")):
            policy = {"score": {"kind": kind}, "draw": {"kind": draw}}
            hit = Hit(1, 0.5, 0, 0.5, 0.0)
            store.retrievals.log(Retrieval((hit,), query_sha="x", policy=policy))
    for number in (1, 2):
        (r,) = cli("why", number, "--json").json()["candidates"]
        assert (r["rank"], r["score"], r["z_similarity"]) == (0, 0.5, None)
    cli("purge", 1, "--yes")
    assert "(purged)" in cli("why", 1).out


def test_why_an_evaluation_showed_what_it_showed(cli: Cli, bank: Path, tmp_path: Path) -> None:
    settings = {"read": "value", "draw": "softmax"}
    with bank_of(bank, **settings) as open_bank:
        casebook = open_bank.casebook("evaluation", 3, GROUP, "e")
        rows = [reads_row(casebook, task, GROUP) for task in TASKS[:3]]
    config = {"memory": {"path": str(bank), **settings}}
    with RunDir.create(tmp_path / "run", config, "eval") as made:
        for r in rows:
            made.append("reads.jsonl", r)
    place = ("--run", tmp_path / "run", "--task", TASKS[1].task_id)
    for index in range(GROUP):
        told = cli("why", *place, "--index", index, "--json").json()
        shown = [r["case_id"] for r in told["candidates"] if r["rank"] is not None]
        assert shown == rows[1]["shown"][index]
    blocked = {str(r["case_id"]): r["reason"] for r in told["candidates"]
               if (r["reason"] or "").startswith("blocked")}  # fmt: skip
    assert blocked == {k: f"blocked: {v}" for k, v in rows[1]["blocked"].items()}
    assert any(r["z_utility"] for r in told["candidates"])
    assert all(r["question"] for r in told["candidates"])
    assert {r["reason"] for r in told["candidates"] if r["score"] is not None} <= {
        None, "outranked, or over a limit",
    }  # fmt: skip
    assert "#1" in cli("why", *place).out
    assert "has no rollout 9 of a task" in cli("why", *place, "--index", 9).err
    shutil.rmtree(bank)
    told = cli("why", *place, "--json").json()
    assert {r["question"] for r in told["candidates"]} == {None}


@pytest.mark.parametrize(
    "arguments", [[], ["3", "--run", "r"], ["--run", "r"], ["3", "--task", "t"]]
)
def test_why_wants_one_read(cli: Cli, bank: Path, arguments: list[str]) -> None:
    ended = cli("why", *arguments)
    assert ended.code == 2
    assert "Give the number of a read, or a run with --run and one task of it." in ended.err


# changing -----------------------------------------------------------------------------------------


def test_an_edit_changes_what_is_named(cli: Cli, bank: Path) -> None:
    after = cli("edit", 3, "--plan", "New.", "--tag", "x", "--reward", "0.5", "--json").json()
    assert (after["plan"], after["tags"], after["reward"], after["version"]) == (
        "New.", ["x"], 0.5, 2,
    )  # fmt: skip
    before = digest(bank)
    assert "case 3 is at version 2: it said this already." in cli("edit", 3, "--plan", "New.").out
    refused = cli("edit", 3, "--plan", "Newer.", "--version", 1)
    assert (refused.code, refused.out) == (1, "")
    assert "Case 3 is at version 2, not 1; read it again and repeat the change." in refused.err
    nothing = cli("edit", 3)
    assert nothing.code == 2
    assert "Nothing to change" in nothing.err
    assert digest(bank) == before
    assert "changed plan" in cli("edit", 3, "--plan", "Newer.", "--version", 2).out


def destructive(bank: Path) -> dict[str, tuple[list[str], Callable[[], bool]]]:
    """Commands, and whether what they would do has been done."""

    def state(number: int) -> str | None:
        return next((c.state for c in cases(bank) if c.id == number), None)

    def spaces() -> int:
        with CaseStore(bank, mode="ro") as store:
            return len(store.stats().views)

    return {
        "rm": (["rm", "1", "4"], lambda: (state(1), state(4)) == ("deleted", "deleted")),
        "rm --archive": (["rm", "1", "--archive"], lambda: state(1) == "archived"),
        "purge": (["purge", "4"], lambda: state(4) is None),
        "forget": (["forget", "--capacity", "30"], lambda: len(cases(bank, CaseFilter())) < 33),
        "consolidate": (["consolidate"], lambda: state(34) != state(35)),
        "revert": (["revert", "5"], lambda: state(6) == "deleted"),
        "spaces": (["spaces", "--drop", SMALL.fingerprint.short], lambda: spaces() == 1),
    }


@pytest.mark.parametrize(
    "name", ["rm", "rm --archive", "purge", "forget", "consolidate", "revert", "spaces"]
)
def test_what_destroys_shows_first_and_does_with_yes(cli: Cli, bank: Path, name: str) -> None:
    with CaseStore(bank) as store:
        near = "Which prime numbers are there below one hundred, and how are they found{}"
        for end in ("?", "? "):
            store.add(CaseIn(question=near.format(end), plan="Sieve" + end), actor="test")
        store.vectors.register(SMALL.fingerprint.digest, 64, {}, "small")
        some = store.cases(limit=3)
        rows = SMALL.embed_documents([c.question for c in some])
        store.vectors.put(SMALL.fingerprint.digest, "question", some, rows)
    command, done = destructive(bank)[name]
    before = digest(bank), (bank / "memory.sqlite").read_bytes()
    assert not done()
    preview = cli(*command)
    assert preview.code == 0
    assert "Nothing was changed. To do it, give the same command with --yes." in preview.err
    told = cli(*command, "--json").json()
    assert told["done"] is False
    assert (digest(bank), (bank / "memory.sqlite").read_bytes()) == before
    assert not done()
    carried_out = cli(*command, "--yes", "--json").json()
    assert carried_out == told | {"done": True} | {k: carried_out[k] for k in {"seq"} & set(told)}
    assert done()


def test_the_pinned_are_refused_until_they_are_not(cli: Cli, bank: Path) -> None:
    assert cli("pin", 2, 3, "--json").json()["ids"] == [2, 3]
    before = digest(bank)
    for command in (["rm", 2, 1], ["rm", 2, "--archive", "--yes"], ["purge", 2, 3, "--yes"]):
        refused = cli(*command)
        assert (refused.code, refused.out) == (2, "")
        assert "Pinned: 2" in refused.err
        assert "Unpin first: tfgrpo memory unpin 2" in refused.err
    assert digest(bank) == before
    assert cli("unpin", 2, "--json").json()["ids"] == [2]
    assert cli("rm", 2, "--yes").code == 0
    assert cli("restore", 2, 3, "--json").json()["ids"] == [2]
    assert cli("restore", 3).out == "restore: nothing to do\n"


def test_a_purge_leaves_no_word_behind(cli: Cli, bank: Path) -> None:
    cli("add", "--question", "Who is Xyzzyplugh?", "--plan", "Ask.")
    cli("snapshot", "before")
    assert cli("purge", 34, "--yes", "--note", "asked for").code == 0
    assert all(b"Xyzzyplugh" not in f.read_bytes() for f in bank.rglob("*") if f.is_file())
    assert cli("history", 34, "--json").json()["events"][-1]["op"] == "purge"
    assert cli("verify").code == 0
    assert "To finish a purge, add --yes." in cli("purge").err
    assert cli("purge", "--yes").code == 0


def test_forgetting_goes_by_the_rules(cli: Cli, bank: Path) -> None:
    none = cli("forget")
    assert none.code == 2
    assert "Give a rule: --least, --unshown, --age or --capacity." in none.err
    assert cli("forget", "--age", "-1").code == 2
    assert "There is nothing to do." in cli("forget", "--age", "1").err
    with CaseStore(bank, mode="ro") as store:
        shown = store.retrievals.times_shown()
        parents = {p.id for c in store.cases() for p in c.parents}
    told = cli("forget", "--unshown", "0", "--json").json()
    expected = [c.id for c in cases(bank) if c.id not in shown and c.id not in parents]
    assert [r["case_id"] for r in told["archive"]] == expected
    assert told["archive"][0]["reason"].startswith("never shown")
    assert "There is nothing to do." in cli("forget", "--unshown", "0", "--grace", "1").err
    cli("pin", *range(1, 32))
    over = cli("forget", "--capacity", "2")
    assert "maths/train keeps 29 too many, because they are protected." in over.err


def test_opposite_outcomes_are_told_and_left_alone(cli: Cli, bank: Path) -> None:
    told = cli("consolidate", "--json").json()
    assert told["merges"] == []
    assert len(told["contested"]) == len(TASKS)
    ended = cli("consolidate")
    assert "contested, left alone: 1 2" in ended.out
    assert "There is nothing to do." in ended.err


def test_insights_that_say_the_same_are_put_together(cli: Cli, bank: Path) -> None:
    cli("add", "--kind", "insight", "--ns", "maths/train", "--plan", "Add  the ones first.")
    done = cli("consolidate", "--yes", "--json").json()
    assert done["merges"] == [{"keep": 33, "archive": [34]}]
    assert cli("show", 33, "--json").json()["case"]["parents"][-1] == {"id": 34, "relation": "same"}
    assert cli("revert", done["before"], "--yes").code == 0
    assert cases(bank)[33].state == "active"


# looking back -------------------------------------------------------------------------------------


def test_history_differences_and_the_way_back(cli: Cli, bank: Path) -> None:
    named = cli("snapshot", "one", "--json").json()
    assert (named["seq"], named["digest"]) == digest(bank)
    cli("edit", 1, "--plan", "Other.", "--note", "why not")
    cli("rm", 2, "--yes")
    cli("add", "--question", "A new one?")
    assert [s["name"] for s in cli("snapshots", "--json").json()] == ["one"]
    assert "one" in cli("snapshots").out
    told = cli("diff", "one", "--json").json()
    assert [c["id"] for c in told["added"]] == [34]
    assert [c["id"] for c in told["removed"]] == [2]
    assert told["changed"] == [
        {"id": 1, "fields": {"plan": ["Split it into tens and ones.", "Other."]}}
    ]
    lines = cli("diff", "one").out.splitlines()
    assert lines[1:] == [
        "+ 34 unknown: A new one?",
        "- 1 plan: Split it into tens and ones.",
        "+ 1 plan: Other.",
    ]
    assert lines[0].startswith("- 2 failure: ")
    credited = cli("diff", named["seq"] - 1, named["seq"], "--json").json()
    assert credited["added"] == credited["changed"] == []
    assert len(credited["utility"]) > 0
    assert "credits: " in cli("diff", named["seq"] - 1, named["seq"]).out

    last = cli("history", "--limit", 2, "--json").json()
    assert [(e["op"], e["case_id"]) for e in last["events"]] == [("delete", 2), ("add", 34)]
    assert last["earlier"] == named["seq"] + 1
    own = cli("history", 1, "--json").json()["events"]
    assert [(e["actor"], e["reason"], e["fields"]) for e in own][1:] == [
        ("user", "why not", ["plan"]),
    ]  # fmt: skip
    assert own[1]["before"]["plan"] == "Split it into tens and ones."
    assert "plan; why not" in flat(cli("history", 1).out)
    assert f"{named['seq'] + 1} earlier events" in cli("history", "--limit", 2).err

    cli("revert", "one", "--yes")
    back = cli("diff", "one", "--json").json()
    assert back["added"] == back["removed"] == back["changed"] == []
    assert "There is no snapshot two; use one of these: one." in cli("diff", "two").err
    assert "There is no event 999" in cli("revert", "999").err
    assert "cannot name a snapshot" in cli("snapshot", "7").err


# files --------------------------------------------------------------------------------------------


def test_an_export_comes_back_byte_for_byte(cli: Cli, bank: Path, tmp_path: Path) -> None:
    one, two, other = tmp_path / "1.jsonl", tmp_path / "2.jsonl", tmp_path / "other"
    assert cli("export", one, "--json").json()["cases"] == 33
    cli("init", "--store", other)
    told = cli("import", one, "--store", other, "--json").json()
    assert told == {"format": "tfgrpo", "repeated": 0, "unread": [], "created": 33, "same": 0,
                    "conflicting": []}  # fmt: skip
    assert "0 new, 33 known" in cli("import", one, "--store", other).out
    cli("export", two, "--store", other)
    assert one.read_bytes() == two.read_bytes()
    cli("edit", 1, "--plan", "Own.", "--store", other)
    assert "32 known, 0 repeated, 1 said otherwise here" in flat(
        cli("import", one, "--store", other).out
    )


def test_a_parquet_table_or_what_it_needs(cli: Cli, bank: Path, tmp_path: Path) -> None:
    file, other = tmp_path / "cases.parquet", tmp_path / "other"
    ended = cli("export", file)
    if find_spec("pyarrow") is None:
        assert (ended.code, ended.out) == (1, "")
        assert "pip install 'tfgrpo[parquet]'" in ended.err
        return
    cli("init", "--store", other)
    assert cli("import", file, "--store", other, "--json").json()["created"] == 33


def test_banks_of_other_programs_are_read(cli: Cli, empty: Path, tmp_path: Path) -> None:
    memento = tmp_path / "memory.jsonl"
    memento.write_text(
        '{"question": "Where was X born?", "plan": "Search.", "reward": 1}\n'
        "not json\n"
        '{"question": "Where was X born?", "plan": "Search.", "reward": 1}\n'
    )
    ended = cli("import", memento, "--ns", "memento")
    assert ended.code == 1
    assert "(memento): 1 new, 0 known, 1 repeated" in flat(ended.out)
    assert "line 2: It is no JSON; correct or remove it." in ended.err
    assert "1 entries were not read" in ended.err
    again = cli("import", memento, "--ns", "memento", "--json").json(code=1)
    assert (again["created"], again["same"]) == (0, 1)
    assert [entry["line"] for entry in again["unread"]] == [2]
    lessons = tmp_path / "experiences.json"
    lessons.write_text(json.dumps({"G0": "Check the ones.", "G1": "Check the tens."}))
    assert cli("import", lessons, "--json").json()["format"] == "experiences"
    assert [(c.kind, c.ns) for c in cases(empty)] == [
        ("case", "memento"), ("insight", "default"), ("insight", "default"),
    ]  # fmt: skip
    assert "holds no bank of a format known here" in cli("import", __file__).err


def test_the_page_of_a_store(cli: Cli, bank: Path, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    told = cli("html", file, "--title", "My <bank>", "--json").json()
    page = file.read_text(encoding="utf-8")
    assert told == {"file": str(file), "bytes": len(page.encode())}
    assert "Add the ones first." in page
    assert "My <bank>" not in page
    cli("snapshot", "before")
    cli("add", "--question", "Something new?")
    cli("html", file, "--snapshot", "before")
    assert "Something new?" not in file.read_text(encoding="utf-8")


def test_leaks_are_found_before_anything_is_run(cli: Cli, bank: Path, tmp_path: Path) -> None:
    asked = ProceduralTasks(["sum"]).tasks("dev", 6, derive_seed(0, "tasks"))
    flags = ("sum", "--split", "dev", "--limit", 6)
    clean = cli("leaks", *flags, "--json").json()
    assert (clean["cases"], clean["items"], clean["leaks"]) == (33, 6, [])
    assert cli("leaks", *flags).out == "33 cases against 6 problems: no leaks.\n"
    cli("add", "--question", asked[2].prompt, "--plan", "p")
    cli("add", "--plan", "q", "--item", asked[4].task_id)
    found = cli("leaks", *flags, "--json").json(code=1)
    assert [(x["case_id"], x["item_id"], x["rule"]) for x in found["leaks"]] == [
        (34, asked[2].task_id, "same question"), (35, asked[4].task_id, "same item"),
    ]  # fmt: skip
    assert found["rules"] == {"same question": 1, "same item": 1}
    page = cli("leaks", *flags, "--examples", 1)
    assert page.code == 1
    assert "35 cases against 6 problems: 2 cases give away 2 problems." in page.out
    assert "1 more; all of them: --json." in page.err
    foreign = tmp_path / "memory.jsonl"
    foreign.write_text(json.dumps({"question": asked[0].prompt, "plan": "p", "reward": 1}))
    assert "1 cases against 6 problems: 1 cases give away 1 problems." in cli(
        "leaks", *flags, "--file", foreign
    ).out  # fmt: skip
    (leak,) = cli("leaks", *flags, "--file", foreign, "--json").json(code=1)["leaks"]
    assert (leak["case_id"], leak["item_id"]) == (1, asked[0].task_id)
    assert "no task family sums" in cli("leaks", "sums").err


# vectors ------------------------------------------------------------------------------------------


@pytest.fixture
def older(empty: Path) -> Path:
    """A store that is searched by vectors which no embedder here makes."""
    with CaseStore(empty) as store:
        store.add_many(tries(), actor="test")
        embed_pending(store, SMALL)
    return empty


def test_a_store_moves_to_another_embedder(cli: Cli, older: Path) -> None:
    refused = cli("search", "x", "--mode", "vector")
    assert refused.code == 1
    assert "because their pooling differ; open it with that embedder, or re-embed" in refused.err
    way = f"tfgrpo memory reembed --store {older} --embedder hashing."
    assert refused.err.rstrip().endswith(f"To re-embed it: {way}")
    checks = {c["name"]: c for c in cli("doctor", "--json").json(code=1)}
    assert checks["embedder"]["state"] == "problem"
    assert "reembed --embedder NAME" in checks["embedder"]["remedy"]
    moved = cli("reembed", "--embedder", "hashing", "--json").json()
    assert moved == {"fingerprint": HashingEmbedder().fingerprint.digest, "name": "hashing",
                     "made": 32, "needed": 32}  # fmt: skip
    assert "0 vectors made, 32 there: hashing is searched." in cli("reembed").out
    assert len(cli("search", "x", "--mode", "vector", "--json").json()) == 10
    views = {v["fingerprint"]: v for v in cli("spaces", "--json").json()}
    assert {v["dim"]: v["active"] for v in views.values()} == {64: False, 512: True}
    searched = cli("spaces", "--drop", HashingEmbedder().fingerprint.digest, "--yes")
    assert searched.code == 2
    assert "That space is being searched; move first" in searched.err
    assert "names no one space" in cli("spaces", "--drop", "").err
    cli("spaces", "--drop", SMALL.fingerprint.short, "--yes")
    assert [v["dim"] for v in cli("spaces", "--json").json()] == [512]
    assert "searched" in cli("spaces").out


def test_pending_vectors_are_told_and_made(cli: Cli, bank: Path) -> None:
    cli("add", "--question", "A new one?")
    assert "1 cases were embedded for this search alone" in flat(
        cli("search", "new", "--mode", "vector").err
    )
    checks = {c["name"]: c for c in cli("doctor", "--json").json()}
    assert (checks["vectors"]["state"], checks["index"]["state"]) == ("note", "note")
    assert "1 vectors are missing; first: tfgrpo memory reembed." in cli("reindex").err
    assert cli("reembed", "--json").json()["made"] == 1
    assert cli("reindex", "--json").json() == {"indexed": {"question": 33}, "missing": 0}
    assert {c["state"] for c in cli("doctor", "--json").json()} == {"ok"}


def test_a_small_measurement(cli: Cli, bank: Path, empty: Path) -> None:
    told = cli("bench", "--queries", 9, "--k", 4, "--store", bank, "--json").json()
    assert (told["vectors"], told["numbers"], told["queries"], told["k"]) == (32, 512, 9, 4)
    ways = {way["way"]: way for way in told["ways"]}
    assert list(ways) == ["faiss-flat-ip", "numpy", "keywords"]
    assert (ways["faiss-flat-ip"]["recall"], ways["keywords"]["recall"]) == (1.0, None)
    assert all(0 < way["p50_ms"] <= way["p95_ms"] for way in ways.values())
    assert "32 vectors of 512" in cli("bench", "--store", bank).out
    none = cli("bench", "--store", empty)
    assert none.code == 2
    assert "This store has no vectors yet; make them: tfgrpo memory reembed." in none.err


def test_a_model_is_trained_on_the_stores_own_reads(cli: Cli, bank: Path) -> None:
    cli("purge", 16, 15, "--yes")  # one question is gone, and with it the examples that asked it
    told = cli("fit", "--epochs", 2, "--hidden", 4, "--json").json()
    report = told["report"]
    with CaseStore(bank, mode="ro") as store:
        shown = [store.retrievals.get(i) for i in store.retrievals.ids()]
    examples = [
        (read.item_id, h.case_id) for read in shown for h in read.hits if h.rank is not None
    ]
    gone = TASKS[7].task_id
    lost = [1 for item, case in examples if item == gone or case in (15, 16)]
    assert report["left_out"] == len(lost)
    assert sum(report["examples"]) == len(examples) - len(lost)
    assert sum(report["queries"]) == len(TASKS) - 1
    assert report["base_rate"]["within"] in (None, 0.5)
    model = NeuralQ.load(Path(told["file"]), HashingEmbedder().fingerprint)
    assert model.notes["report"] == json.loads(json.dumps(report))
    page = cli("fit", "--epochs", 1, "--hidden", 2).out
    assert re.search(r"base rate +\d\.\d{3}", page)
    assert "read by it with --read neural." in flat(page)
    assert cli("fit", "--epochs", 0).code == 2


def test_too_few_reads_train_nothing(cli: Cli, empty: Path) -> None:
    ended = cli("fit")
    assert (ended.code, list(empty.glob("neural*"))) == (1, [])
    assert "log more reads first." in ended.err
    assert ended.err.rstrip().endswith(f"tfgrpo learn --memory {empty}.")


# health -------------------------------------------------------------------------------------------


def test_damage_is_found_and_what_follows_from_the_rest_is_made_again(cli: Cli, bank: Path) -> None:
    assert cli("verify").out == "The store is sound.\n"
    assert cli("verify", "--json").json() == []
    with sqlite3.connect(bank / "memory.sqlite") as connection:
        connection.execute("UPDATE utility SET mean = mean + 1 WHERE case_id = 1")
        connection.execute("INSERT INTO keywords (keywords) VALUES ('delete-all')")
    connection.close()
    problems = cli("verify", "--json").json(code=1)
    assert {p["code"] for p in problems} == {"utility", "keywords"}
    assert "The utility is not the fold of its outcomes." in flat(cli("verify").out)
    checks = {c["name"]: c for c in cli("doctor", "--json").json(code=1)}
    for code in ("utility", "keywords"):
        assert (checks[code]["state"], checks[code]["remedy"]) == (
            "problem", "tfgrpo memory reindex",
        )  # fmt: skip
    before = digest(bank)[0]
    assert cli("reindex").code == 0
    assert cli("verify").code == 0
    assert digest(bank)[0] == before
    doctor = cli("doctor")
    assert doctor.code == 0
    assert "makes the stored vectors" in flat(doctor.out)


def test_damage_that_a_backup_must_mend(cli: Cli, bank: Path) -> None:
    with sqlite3.connect(bank / "memory.sqlite") as connection:
        connection.execute("UPDATE cases SET plan = 'forged' WHERE id = 3")
    connection.close()
    checks = {c["name"]: c for c in cli("doctor", "--json").json(code=1)}
    assert checks["case"]["detail"].endswith("The case is not what its history says.")
    assert checks["case"]["remedy"].startswith("restore a backup")
    (bank / "memory.sqlite").write_bytes(b"no database at all" * 1000)
    opens = cli("doctor", "--json").json(code=1)[-1]
    assert (opens["name"], opens["state"]) == ("opens", "problem")
    assert "is damaged or no store" in opens["detail"]


KILLED = """
import os, signal, sys
from pathlib import Path
from memory.store import CaseStore
from memory.types import CaseIn
store = CaseStore(Path(sys.argv[1]))
store.add(CaseIn(question="kept"), actor="test")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_log_of_a_killed_writer_is_put_away(cli: Cli, bank: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(bank)], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    log = cli("doctor", "--json").json(code=1)[0]
    assert (log["name"], log["state"]) == ("log", "problem")
    assert log["remedy"] == "end every writer, then: tfgrpo memory init"
    frozen = MemorySpec(path=bank)
    with (
        pytest.raises(NotReady, match=rf"tfgrpo memory init --store {bank}\.$"),
        opened(frozen, "frozen", load_pack("default"), len),
    ):
        pass
    cli("init")
    assert cli("doctor", "--json").json()[0]["state"] == "ok"
    assert cases(bank)[-1].question == "kept"
    CaseStore(bank, mode="frozen").close()


# episodes -----------------------------------------------------------------------------------------


def test_episodes_are_listed_and_told(cli: Cli, bank: Path) -> None:
    with CaseStore(bank) as store:
        for ns, name in (("maths", "e1"), ("web", "e1"), ("web", "e2")):
            episode = Episode(store, name, ns=ns, actor="test")
            episode.begin(f"Goal of {ns}", ["First.", "Second."])
            episode.mark(1, "done", "found it")
            episode.call("look", {"at": 3}, outcome="success", subtask=1)
        episode.close()
    rows = cli("episodes", "--json").json()
    assert [(r["ns"], r["name"], r["closed"]) for r in rows] == [
        ("maths", "e1", False), ("web", "e1", False), ("web", "e2", True),
    ]  # fmt: skip
    assert [step["state"] for step in rows[0]["steps"]] == ["done", "pending"]
    assert re.search(r"e2 +web +closed +1/2 +1 +Goal of web", cli("episodes").out)
    assert cli("episodes", "e1", "--ns", "maths").out.splitlines() == [
        "Goal: Goal of maths", "1. [done] First. -> found it", "2. [pending] Second.",
        '1. look {"at":3} -> success',
    ]  # fmt: skip
    twice = cli("episodes", "e1")
    assert twice.code == 2
    assert "2 episodes are named e1; name the namespace of one with --ns" in twice.err
    assert len(cli("episodes", "--ns", "web", "--json").json()) == 2


# everywhere ---------------------------------------------------------------------------------------


def test_hostile_cases_are_shown_as_text(cli: Cli, empty: Path, tmp_path: Path) -> None:
    file = tmp_path / "cases.jsonl"
    rows = [{"question": q, "plan": q, "tags": [q], "ns": q.replace("/", "-"), "run_id": q,
             "item_id": q} for q in HOSTILE]  # fmt: skip
    file.write_text("\n".join(map(json.dumps, rows)))
    assert cli("add", file, "--note", "[bold]\x1b[2J").code == 0
    with CaseStore(empty) as store:
        hits = tuple(Hit(i, 0.5, None, None, 0.0, text) for i, text in enumerate(HOSTILE, 1))
        store.retrievals.log(Retrieval(hits, "x", run_id="[/]\x1b[2J", policy={"[b]": "[/b]\x07"}))
        store.snapshot("[red]\x1b[1m")
    ids = [str(number) for number in range(1, len(HOSTILE) + 1)]
    commands = [["ls"], ["search", "A B C D E F G H"], ["history"], ["diff", "0"], ["why", "1"],
                ["rm", *ids], ["forget", "--unshown", "0"], ["stats"], ["snapshots"],
                ["revert", "0"], *(["show", number] for number in ids[:3])]  # fmt: skip
    for command in commands:
        ended = cli(*command)
        assert ended.code == 0, ended.err
        harmless(ended.out)
        harmless(ended.err)
    told = flat(cli("diff", "0").out)
    assert [text for text in HOSTILE.values() if flat(text) not in told] == []
    assert [r["question"] for r in cli("ls", "--json").json()["cases"]] == list(HOSTILE)


@pytest.mark.parametrize(
    "command",
    [["ls", "--kind", "lesson"], ["ls", "--limit", "0"], ["show"], ["show", "first"], ["rm"],
     ["search", "x", "--mode", "magic"], ["leaks"], ["nothing"]],
)  # fmt: skip
def test_misspelt_commands_end_with_2(cli: Cli, bank: Path, command: list[str]) -> None:
    ended = cli(*command)
    assert (ended.code, ended.out) == (2, "")


LIGHT = """
import sys
from cli.main import run
for arguments in ({commands}):
    try:
        run(["memory", *arguments.split()])
    except SystemExit as end:
        assert not end.code, (arguments, end.code)
print("MODULES", *sorted({{name.split(".")[0] for name in sys.modules}}), sep="\\n")
"""


def test_looking_loads_nothing_heavy(bank: Path) -> None:
    commands = ("--help", "ls --help", "ls", "show 1", "history", "search ten", "why 1", "stats",
                "diff 3", "snapshots", "verify", "spaces", "edit 1 --plan p", "rm 1 --yes",
                "episodes", "add --plan x", "forget --unshown 0")  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", LIGHT.format(commands=repr(commands)[1:-1])],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split("MODULES\n")[1].splitlines())
    assert "memory" in loaded
    assert not loaded & {"torch", "faiss", "transformers", "sentence_transformers", "scipy",
                         "openai", "matplotlib", "pyarrow"}  # fmt: skip
