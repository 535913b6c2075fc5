"""Pages as the command line makes them: a bank's says what the store says, and no more."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cli.bank_page import MOST_NEAR, READS_PER_CASE, bank_page
from cli.main import run
from memory.sqlite.utility import priors
from memory.store import CaseStore
from memory.types import Case, CaseIn, Hit, Outcome, Parent, Retrieval
from tests.tfgrpo.report.samples import data_of, rows_of

START = 1_790_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CaseStore]:
    """Five cases and an insight with everything that can befall them."""
    with CaseStore(tmp_path / "bank", clock=Clock()) as opened:
        opened.add_many(
            [
                CaseIn(
                    ns=f"maths/{i % 2}", question=f"What is {i} + 1?", plan=f"count {i}",
                    reward=float(i % 2), outcome="success" if i % 2 else "failure",
                    item_id=f"item-{i}", run_id="r", step=i, tags=("sum",), answer=str(i + 1),
                )
                for i in range(1, 6)
            ],
            actor="learn", reason="step 0",
        )  # fmt: skip
        lesson = CaseIn(kind="insight", plan="Count on.", parents=(Parent(1), Parent(3, "revises")))
        opened.add(lesson, actor="learn")
        opened.update(2, {"plan": "count twice"}, expected_version=1, actor="me", reason="typing")
        opened.archive([4], actor="me")
        opened.pin([3], actor="me")
        reads = [
            Retrieval(
                (Hit(1, 0.91, 0), Hit(3, 0.8, 1), Hit(5, 0.7, reason="same item")), "q",
                item_id=f"item-{n}", run_id="r",
            )
            for n in range(5)
        ]  # fmt: skip
        numbers = [opened.retrievals.log(read) for read in reads]
        outcomes = [Outcome(n, 1.0, 0.5 if n % 2 else -0.1, 0.5) for n in numbers[:4]]
        opened.retrievals.credit([*outcomes, Outcome(numbers[4], None)], actor="learn")
        yield opened


def test_every_case_is_told_as_the_store_tells_it(store: CaseStore) -> None:
    told = rows_of(bank_page(store), "cases")
    shown = store.retrievals.times_shown()
    assert list(told) == ["1", "2", "3", "4", "5", "6"]
    for name, row in told.items():
        case = store.get(int(name))
        assert row["problem"] == (case.question or None)
        assert (row["plan"], row["state"], row["namespace"]) == (case.plan, case.state, case.ns)
        assert (row["answer"], row["reward"], row["item"]) == (
            case.answer, case.reward, case.item_id,
        )  # fmt: skip
        assert row["shown"] == shown.get(case.id, 0)
        assert row["pinned"] == ("yes" if case.pinned else None)
        assert f"uid {case.uid}" in row["origin"].split("\n")
        assert row["created"] == int(case.created)
    assert told["6"]["made from"] == [("1", "from"), ("3", "revises")]


def test_utility_is_shrunk_with_its_interval_and_absent_where_untested(store: CaseStore) -> None:
    told = rows_of(bank_page(store), "cases")
    prior = priors(store.cases())
    for number, utility in store.utilities().items():
        value, low, high, n = told[str(number)]["utility"]
        middle, error = utility.shrunk(prior[number]), utility.standard_error()
        assert (value, n) == (pytest.approx(middle, rel=1e-5), utility.n)
        assert (low, high) == (
            pytest.approx(middle - 1.96 * error, rel=1e-3),
            pytest.approx(middle + 1.96 * error, rel=1e-3),
        )
    assert store.utilities().keys() == {1, 3}
    assert all(told[i]["utility"] is None for i in ("2", "4", "5", "6"))


def test_the_history_says_what_each_event_changed(store: CaseStore) -> None:
    told = rows_of(bank_page(store), "events")
    assert [int(number) for number in told] == [e.seq for e in reversed(store.history())]
    (update,) = (row for row in told.values() if row["operation"] == "update")
    assert update["change"] == "plan: count 2 → count twice"
    assert (update["by"], update["why"], update["case"]) == ("me", "typing", [("2",)])
    (archive,) = (row for row in told.values() if row["operation"] == "archive")
    assert archive["change"] == "state: active → archived"
    credits = [row for row in told.values() if row["operation"] == "credit"]
    assert [row["case"] for row in credits] == [[]]


def test_the_last_reads_of_each_case_are_told(store: CaseStore) -> None:
    made = bank_page(store)
    told = rows_of(made, "reads")
    assert list(told) == ["5", "4", "3"]
    assert len(told) == READS_PER_CASE
    assert told["3"]["cases"] == [("1", "rank 1, cosine 0.91"), ("3", "rank 2, cosine 0.80")]
    assert told["3"]["withheld"] == "same item 1"
    assert (told["3"]["reward"], told["3"]["advantage"]) == (1, 0.5)
    assert told["5"]["reward"] is told["5"]["advantage"] is None
    (view,) = (v for v in data_of(made)["views"] if v["key"] == "reads")
    assert view["blocks"][0]["note"] == (
        "For each case the last 3 that showed it, of the last 5 of 5 reads."
    )


def test_a_purged_case_leaves_no_word_on_the_page(store: CaseStore) -> None:
    store.update(5, {"plan": "a secret"}, expected_version=1, actor="me")
    assert "a secret" in bank_page(store)
    store.purge([5], confirm=True, actor="me")
    made = bank_page(store)
    assert "secret" not in made
    assert "5" not in rows_of(made, "cases")


def test_the_map_and_near_duplicates_come_from_the_active_space(store: CaseStore) -> None:
    assert [view["key"] for view in data_of(bank_page(store))["views"]] == [
        "overview", "cases", "history", "reads",
    ]  # fmt: skip
    rows = {1: (1.0, 0.0), 2: (0.99, 0.141), 3: (0.0, 1.0), 5: (0.985, 0.17)}
    embedded(store, rows)
    made = bank_page(store)
    told = rows_of(made, "cases")
    near = {name: [to for to, _ in row["near duplicates"]] for name, row in told.items()}
    assert near == {"1": ["2", "5"], "2": ["5", "1"], "3": [], "4": [], "5": ["2", "1"], "6": []}
    assert told["1"]["near duplicates"][0] == ("2", "cosine 0.990")
    data = data_of(made)
    (view,) = (v for v in data["views"] if v["key"] == "map")
    places = {data["strings"][key]: (x, y) for key, x, y in view["blocks"][0]["points"]}
    assert places.keys() == {"1", "2", "3", "5"}
    assert abs(places["1"][0] - places["2"][0]) < abs(places["1"][0] - places["3"][0])
    assert {0, 1000} <= {x for x, _ in places.values()}


def embedded(store: CaseStore, rows: dict[int, tuple[float, float]]) -> None:
    """Make these unit vectors those of the cases' questions, in the space that is searched."""
    cases: list[Case] = [store.get(number) for number in rows]
    store.vectors.register("two", 2, {})
    matrix = np.array(list(rows.values()), dtype=np.float32)
    store.vectors.put("two", "question", cases, matrix / np.linalg.norm(matrix, axis=1)[:, None])
    assert store.vectors.activate("two", ["question"], replacing=None)


def test_not_more_than_the_nearest_duplicates_are_named(tmp_path: Path) -> None:
    with CaseStore(tmp_path) as store:
        store.add_many([CaseIn(question=f"q {i}") for i in range(9)], actor="me")
        embedded(store, {i: (1.0, i / 1000) for i in range(1, 10)})
        told = rows_of(bank_page(store), "cases")["1"]["near duplicates"]
        assert [to for to, _ in told] == ["2", "3", "4", "5", "6"]
        assert len(told) == MOST_NEAR


def test_a_snapshot_has_the_page_of_its_time(store: CaseStore, tmp_path: Path) -> None:
    before = bank_page(store, "Then")
    store.snapshot("then")
    store.add(CaseIn(question="later"), actor="me")
    with CaseStore(tmp_path / "bank", mode="ro", snapshot="then") as past:
        assert bank_page(past, "Then") == before
    assert "later" in bank_page(store)


def test_an_empty_store_has_a_page(tmp_path: Path) -> None:
    with CaseStore(tmp_path) as store:
        made = bank_page(store, "Empty & new")
    assert data_of(made)["title"] == "Empty & new"
    assert "<title>Empty &amp; new</title>" in made


def test_equal_stores_have_equal_pages(store: CaseStore) -> None:
    assert bank_page(store) == bank_page(store)


def test_experiences_html_writes_the_page_of_a_library(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lessons, target = tmp_path / "lessons.txt", tmp_path / "page.html"
    lessons.write_text("Add the ones first.\n", encoding="utf-8")
    with pytest.raises(SystemExit) as end:
        run(["experiences", "html", str(lessons), str(target)])
    assert not end.value.code
    told = rows_of(target.read_text(encoding="utf-8"), "lessons")
    assert [row["text"] for row in told.values()] == ["Add the ones first."]
    before = lessons.read_bytes()
    with pytest.raises(SystemExit) as end:
        run(["experiences", "html", str(lessons), str(lessons)])
    assert end.value.code == 2
    assert "ends in .html" in capsys.readouterr().err
    assert lessons.read_bytes() == before


HEAVY = ("torch", "transformers", "faiss", "sentence_transformers", "openai", "matplotlib", "scipy")


def test_pages_are_made_without_anything_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from cli.bank_page import bank_page;"
        "from memory.store import CaseStore; from tfgrpo.experience.page import library_page;"
        "folder = Path(sys.argv[1]); (folder / 'l.txt').write_text('Go slowly.');"
        "library_page(folder / 'l.txt'); bank_page(CaseStore(folder / 'bank'));"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert set(done.stdout.split()) & set(HEAVY) == set()
