"""Search by words: what it finds, in which order, and that its index follows the cases."""

from __future__ import annotations

import math
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from memory.errors import InvalidCase, NotReady
from memory.sqlite import changes
from memory.sqlite.database import FILE_NAME
from memory.sqlite.history import Stamp
from memory.sqlite.keywords import MOST_WORDS
from memory.sqlite.schema import MIGRATIONS, migrate
from memory.store import CaseStore
from memory.types import CaseFilter, CaseIn
from tests.memory.store_places import memory_folder

EVERYTHING = CaseFilter(states=("active", "archived", "deleted"))
WORDS = st.sampled_from(["ape", "bee", "cat", "dog", "eel"])
PHRASES = st.lists(WORDS, max_size=4).map(" ".join)
TOLD = st.builds(
    CaseIn,
    question=PHRASES,
    plan=PHRASES.map(lambda text: text or "ape"),
    answer=st.none() | PHRASES,
    reason=PHRASES,
    tags=st.lists(WORDS, max_size=2).map(tuple),
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CaseStore]:
    with CaseStore(tmp_path / "store") as opened:
        yield opened
        assert opened.verify() == []


def add(store: CaseStore, *questions: str) -> list[int]:
    return [r.id for r in store.add_many([CaseIn(question=q) for q in questions], actor="test")]


def found(store: CaseStore, text: str, wanted: CaseFilter = EVERYTHING) -> list[int]:
    return [case.id for case, _ in store.keyword_search(text, wanted, 1000)]


def tampered(folder: Path, statement: str) -> None:
    other = sqlite3.connect(folder / FILE_NAME)
    with other:
        other.execute(statement)
    other.close()


def texts(case: CaseIn) -> list[str]:
    fields = (case.question, case.plan, case.answer or "", case.reason, *sorted(set(case.tags)))
    return " ".join(fields).split()


def bm25(documents: dict[int, list[str]], words: Iterable[str]) -> dict[int, float]:
    """Robertson and Zaragoza (2009), eq. 3.15 with k1 = 1.2 and b = 0.75.

    The weight of a word that most documents hold would be negative; SQLite puts 1e-6 there.
    """
    mean = sum(map(len, documents.values())) / len(documents)
    scores: dict[int, float] = {}
    for word in words:
        holding = [n for n, document in documents.items() if word in document]
        weight = math.log((len(documents) - len(holding) + 0.5) / (len(holding) + 0.5))
        for n in holding:
            count = documents[n].count(word)
            damping = count + 1.2 * (0.25 + 0.75 * len(documents[n]) / mean)
            part = max(weight, 1e-6) * count * 2.2 / damping
            scores[n] = scores.get(n, 0.0) + part
    return scores


@settings(max_examples=40)
@given(st.lists(TOLD, min_size=1, max_size=8), st.lists(WORDS, min_size=1, unique=True))
def test_scores_are_those_of_bm25(cases: list[CaseIn], words: list[str]) -> None:
    with tempfile.TemporaryDirectory(dir=memory_folder()) as name, CaseStore(Path(name)) as store:
        documents = {
            result.id: texts(case)
            for case, result in zip(cases, store.add_many(cases, actor="test"), strict=True)
            if result.status == "created"
        }
        expected = bm25(documents, words)
        hits = store.keyword_search(" ".join(words), EVERYTHING, 1000)
        assert {case.id: pytest.approx(score) for case, score in hits} == expected
        assert hits == sorted(hits, key=lambda hit: (-hit[1], hit[0].id))
        assert store.keyword_search(" ".join(words), EVERYTHING, 2) == hits[:2]


@given(st.text())
def test_no_text_breaks_a_query(text: str) -> None:
    assert _THREE[0].keyword_search(text) == _THREE[0].keyword_search(f" {text}\n")


_THREE: list[CaseStore] = []


@pytest.fixture(scope="module", autouse=True)
def _three_cases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with CaseStore(tmp_path_factory.mktemp("three")) as store:
        add(store, 'say "cat" AND NOT dog', "Café ÉCLAIR 東京 3 + 4", "NEAR(a b) OR c*")
        _THREE.append(store)
        yield
        _THREE.clear()


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("", []), (" \n", []), ("?!", []), ('"', []), ("*", []), ("\x00", []), ("\ud800", []),
        ('"cat', [1]), ("cat OR", [1, 3]), ("NOT", [1]), ("-cat", [1]), ("question:cat", []),
        ("cat\x00dog", [1]), ("cat\ud800dog", []), ("say AND unheard", [1]), ("c*", [3]),
        ("cafe eclair", [2]), ("CAFÉ", [2]), ("東京", [2]), ("東", []), ("3+4", [2]),
        ("4+3", []), ("NEAR(a", [3]), ("^a", [3]), ("{a b}", [3]), ("';DROP TABLE cases", []),
        ("caf", []), ("unheard " * 100_000 + "cat", [1]),
    ],
)  # fmt: skip
def test_operators_quotes_and_signs_are_plain_text(query: str, ids: list[int]) -> None:
    assert sorted(found(_THREE[0], query)) == ids


def test_words_beyond_the_most_are_left_out(store: CaseStore) -> None:
    add(store, "cat")
    others = " ".join(f"w{i}" for i in range(MOST_WORDS - 1))
    assert found(store, f"{others} cat") == [1]
    assert found(store, f"{others} another cat") == []


def test_every_field_that_speaks_is_searched(store: CaseStore) -> None:
    case = CaseIn(question="ape", plan="bee", answer="cat", reason="dog", tags=("eel", "fox gnu"))
    store.add(case, actor="test")
    for word in ("ape", "bee", "cat", "dog", "eel", "fox", "gnu"):
        assert found(store, word) == [1]
    assert found(store, "default") == []


def test_a_filter_and_a_limit_choose_among_the_hits(store: CaseStore) -> None:
    a, b, c = add(store, "cat", "cat cat", "cat cat cat")
    store.archive([b], actor="test")
    store.pin([c], actor="test")
    assert set(found(store, "cat", CaseFilter())) == {a, c}
    assert found(store, "cat", CaseFilter(states=("archived",))) == [b]
    assert found(store, "cat", CaseFilter(pinned=False)) == [a]
    assert store.keyword_search("cat", limit=0) == []
    with pytest.raises(InvalidCase, match="0 or more"):
        store.keyword_search("cat", limit=-1)


class FollowsTheCases(RuleBasedStateMachine):
    """After any change, a word finds the cases that hold it, and the index is as a fresh one."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=memory_folder())
        self.store = CaseStore(Path(self.folder.name))
        self.seqs = [0]

    def pick(self, number: int) -> int:
        ids = [case.id for case in self.store.cases(EVERYTHING)]
        return ids[number % len(ids)]

    @rule(case=TOLD)
    def add(self, case: CaseIn) -> None:
        self.store.add(case, actor="test")
        self.seqs.append(self.store.seq)

    @precondition(lambda self: self.store.cases(EVERYTHING))
    @rule(number=st.integers(0, 20), answer=st.none() | PHRASES)
    def change(self, number: int, answer: str | None) -> None:
        case = self.store.get(self.pick(number))
        fields = {"answer": answer, "reason": "eel", "tags": ("bee",)}
        self.store.update(case.id, fields, expected_version=case.version, actor="test")

    @precondition(lambda self: self.store.cases(EVERYTHING))
    @rule(number=st.integers(0, 20))
    def delete(self, number: int) -> None:
        self.store.delete([self.pick(number)], actor="test")

    @precondition(lambda self: self.store.cases(EVERYTHING))
    @rule(number=st.integers(0, 20))
    def purge(self, number: int) -> None:
        self.store.purge([self.pick(number)], confirm=True, actor="test")

    @rule(number=st.integers(0, 20))
    def revert(self, number: int) -> None:
        seq = self.seqs[number % len(self.seqs)]
        self.store.revert(seq, dry_run=False)

    @invariant()
    def words_find_their_cases(self) -> None:
        cases = self.store.cases(EVERYTHING)
        for word in ("ape", "eel"):
            assert sorted(found(self.store, word)) == [c.id for c in cases if word in texts(c)]

    def teardown(self) -> None:
        assert self.store.verify() == []
        self.store.close()
        self.folder.cleanup()


FollowsTheCases.TestCase.settings = settings(max_examples=15, stateful_step_count=12)
TestFollowsTheCases = FollowsTheCases.TestCase


def test_a_purge_leaves_no_word_behind(tmp_path: Path) -> None:
    """Taking a case out of the index alone would leave its words there, marked as gone."""
    words = ("zanzibar", "quokka", "wombats", "xylophon")
    with CaseStore(tmp_path) as store:
        add(store, *(f"kept {i}" for i in range(30)))
        secret = CaseIn(question="Zanzibar?", plan="Quokka!", answer="wombats", tags=("Xylophon",))
        number = store.add(secret, actor="test").id
        add(store, *(f"later {i}" for i in range(30)))
    for word in words:
        assert word.encode() in (tmp_path / FILE_NAME).read_bytes()
    with CaseStore(tmp_path) as store:
        store.purge([number], confirm=True, actor="test")
        for file in tmp_path.iterdir():
            for word in words:
                assert word.encode() not in file.read_bytes().lower()
        assert found(store, " ".join(words)) == []
        assert len(found(store, "kept")) == 30
        assert store.verify() == []


def test_an_older_store_learns_its_words_when_it_is_opened(tmp_path: Path) -> None:
    old = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    migrate(old, MIGRATIONS[:1])
    for question in ("cat", "dog"):
        changes.add_case(old, Stamp("test", 0.0), CaseIn(question=question))
    old.close()
    for mode in ("ro", "frozen"):
        with pytest.raises(NotReady, match="open it for writing once"):
            CaseStore(tmp_path, mode=mode)
    with CaseStore(tmp_path) as store:
        assert found(store, "dog") == [2]
        add(store, "dog eel")
        assert found(store, "dog") == [2, 3]
        assert store.verify() == []


def test_a_frozen_store_is_searched_and_left_alone(tmp_path: Path) -> None:
    with CaseStore(tmp_path) as store:
        add(store, "cat", "dog")
        expected = store.keyword_search("dog")
    before = (tmp_path / FILE_NAME).read_bytes()
    with CaseStore(tmp_path, mode="frozen") as frozen:
        assert frozen.keyword_search("dog") == expected
        assert frozen.verify() == []
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {FILE_NAME: before}


def test_a_snapshot_is_searched_as_it_was(tmp_path: Path) -> None:
    with CaseStore(tmp_path) as store:
        (number, _) = add(store, "cat cat", "dog")
        store.archive([number], actor="test")
        store.add(CaseIn(question="gnu", tags=("cat", "x y")), actor="test")
        store.snapshot("then")
        expected = {w: store.keyword_search(w, EVERYTHING) for w in ("cat", "dog", "y", "")}
        store.update(number, {"question": "eel"}, expected_version=2, actor="test")
        add(store, "cat")
    with CaseStore(tmp_path, mode="frozen", snapshot="then") as past:
        for word, hits in expected.items():
            assert past.keyword_search(word, EVERYTHING) == hits
        assert found(past, "cat", CaseFilter()) == [3]


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO keywords (keywords, rowid, question, tags) VALUES ('delete', 1, 'cat', '[]')",
        "INSERT INTO keywords (rowid, question) VALUES (77, 'cat')",
        "INSERT INTO keywords (keywords) VALUES ('delete-all')",
        "UPDATE keywords_data SET block = zeroblob(9) WHERE id > 10",
    ],
)
def test_an_index_out_of_step_is_told_and_mended(tmp_path: Path, statement: str) -> None:
    with CaseStore(tmp_path) as store:
        add(store, "cat", "dog")
    tampered(tmp_path, statement)
    with CaseStore(tmp_path) as store:
        problems = store.verify()
        assert {p.code for p in problems} == {"keywords"}
        assert "purge with no ids" in problems[0].text
        store.purge([], confirm=True, actor="test")
        assert store.verify() == []
        assert found(store, "cat") == [1]


def test_words_of_two_cases_that_changed_places_are_told(tmp_path: Path) -> None:
    with CaseStore(tmp_path) as store:
        add(store, "cat", "dog")
    tampered(
        tmp_path,
        """INSERT INTO keywords (keywords, rowid, question, tags) VALUES
           ('delete', 1, 'cat', '[]'), ('delete', 2, 'dog', '[]')""",
    )
    tampered(tmp_path, "INSERT INTO keywords (rowid, question) VALUES (1, 'dog'), (2, 'cat')")
    with CaseStore(tmp_path) as store:
        assert [(p.code, p.case_id) for p in store.verify()] == [("keywords", 1), ("keywords", 2)]
