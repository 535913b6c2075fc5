"""Pages in a real browser, used as a person uses them. Skipped where there is no browser."""

from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tfgrpo.report.browser import Browser, browser_path
from tests.tfgrpo.report.samples import bank, case, library, spoken
from tfgrpo.report.pages.bank import render_bank
from tfgrpo.report.pages.library import render_library

PATH = browser_path()
pytestmark = pytest.mark.skipif(
    PATH is None, reason="no chromium or chrome is on PATH; the pages are tested as files alone"
)
FOUND = "document.querySelectorAll('tbody tr').length"
ROW = "tbody tr th a"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(PATH or "", tmp_path_factory.mktemp("profile")) as opened:
        opened.resize(1280, 900)
        yield opened


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("pages")
    (place / "bank.html").write_text(render_bank(bank()), encoding="utf-8")
    (place / "library.html").write_text(render_library(library()), encoding="utf-8")
    return place


@pytest.fixture(autouse=True)
def _calm(browser: Browser) -> Iterator[None]:
    """No page may ask for anything but itself, nor complain."""
    browser.resize(1280, 900)
    browser.requests.clear()
    browser.messages.clear()
    yield
    browser.settle()
    assert [r for r in browser.requests if not r.startswith(("file:", "about:", "data:"))] == []
    assert browser.messages == []


def test_typing_in_the_search_narrows_the_table(browser: Browser, folder: Path) -> None:
    browser.open(folder / "bank.html")
    browser.click("nav a[href='#cases']")
    assert browser.text(".count") == "60 cases"
    browser.press("/", 191)
    browser.type("ones of 42,")
    assert browser.text(".count") == "1 of 60 cases"
    assert browser.texts(ROW) == ["42"]
    browser.type(" carry FAILURE")
    assert browser.texts(ROW) == ["42"]
    browser.type(" nowhere")
    assert browser.text(".count") == "0 of 60 cases"
    assert browser.run("location.hash").startswith("#cases?q=ones+of+42")


def test_the_address_holds_the_search_the_filters_and_the_order(
    browser: Browser, folder: Path
) -> None:
    browser.open(folder / "bank.html", "#cases?q=run-1&outcome=failure&sort=-shown")
    ids = [int(text) for text in browser.texts(ROW)]
    wanted = [i for i in range(1, 61) if i % 3 == 0 and i % 2]
    assert ids == sorted(wanted, key=lambda i: (-(i % 5), i))
    assert browser.run("document.querySelector('input[type=search]').value") == "run-1"
    assert browser.run("document.querySelector('select[name=outcome]').value") == "=failure"
    assert browser.run("document.querySelector('[aria-sort]').innerText") == "shown"


def test_headings_sort_and_untested_cases_come_last_either_way(
    browser: Browser, folder: Path
) -> None:
    browser.open(folder / "bank.html", "#cases")
    tested = [str(i) for i in range(4, 61, 4)]
    browser.click("th.of-estimate button")
    assert browser.texts(ROW)[:15] == tested[::-1]
    browser.click("th.of-estimate button")
    assert browser.texts(ROW)[:15] == tested
    browser.click("th.of-estimate button")
    assert browser.texts(ROW) == [str(i) for i in range(1, 61)]
    assert browser.texts("td.of-estimate")[0] == "untested"


def test_a_case_link_opens_its_page_with_all_that_is_known(browser: Browser, folder: Path) -> None:
    browser.open(folder / "bank.html", "#cases?q=ones+of+4&sort=-utility")
    browser.click("tbody a[href='#cases/4']")
    assert browser.text("h2.view") == "Case 4"
    assert "Add the ones of 4, then carry." in browser.texts("pre")
    facts = dict(zip(browser.texts("dt"), browser.texts("dd"), strict=True))
    assert re.sub(r"\s+", " ", facts["utility"]) == "−0.42 [−0.72, −0.02] n = 9"
    assert facts["created"] == "2026-09-21 14:17"
    assert facts["run"] == "learn-1"
    assert browser.texts("h3")[-2:] == ["History (1)", "Last reads that showed it (2)"]
    assert "rank 2, cosine 0.80" in browser.texts("td.how")
    browser.click("a.up")
    assert browser.run("location.hash") == "#cases?q=ones+of+4&sort=-utility"


def test_parents_children_and_near_duplicates_lead_to_each_other(
    browser: Browser, folder: Path
) -> None:
    browser.open(folder / "bank.html", "#cases/50")
    assert [text.split("\n")[0] for text in browser.texts(".links a")] == ["25", "49"]
    assert browser.texts(".links .how") == ["revises", "cosine 0.971"]
    browser.click(".links a[href='#cases/25']")
    assert browser.text("h2.view") == "Case 25"
    assert "Made from it (2)" in browser.texts("h3")
    browser.click("tbody a[href='#cases/51']")
    assert browser.text("h2.view") == "Case 51"
    browser.click("a[rel=next]")
    assert browser.text("h2.view") == "Case 52"


def test_the_map_shows_the_question_and_opens_the_case(browser: Browser, folder: Path) -> None:
    browser.open(folder / "bank.html", "#map")
    assert browser.run("document.querySelectorAll('.point').length") == 2 * 24 + 2  # with legend
    x, y = browser.run(
        "(() => { const b = document.querySelector('.map > svg path').getBoundingClientRect();"
        "return [b.x + b.width / 2, b.y + b.height / 2] })()"
    )
    browser.point(x, y)
    assert "What is 1 + 1?" in browser.text(".card")
    browser.click(".map > svg .meant")
    assert browser.text("h2.view") == "Case 1"
    browser.open(folder / "bank.html", "#map")
    browser.run("document.querySelector('.map > svg').focus()")
    browser.press("ArrowRight", 39)
    first = browser.text(".card")
    browser.press("ArrowRight", 39)
    assert browser.text(".card") != first
    browser.press("Enter", 13)
    assert browser.text("h2.view").startswith("Case ")


def test_the_map_fades_what_the_search_does_not_find(browser: Browser, folder: Path) -> None:
    browser.open(folder / "bank.html", "#map?q=ones+of+42,")
    shown = "document.querySelectorAll('.map > svg .point:not(.off)').length"
    assert browser.run(shown) == 1
    browser.press("/", 191)
    browser.type("nowhere")
    assert browser.run(shown) == 0


def test_an_experience_leads_to_the_rollouts_that_taught_it(browser: Browser, folder: Path) -> None:
    browser.open(folder / "library.html", "#lessons")
    browser.click("tbody a[href='#lessons/E1']")
    assert "History (2)" in browser.texts("h3")
    browser.click(".links a")
    assert browser.text("h2.view") == "Group 0/t1"
    assert "What is 18 + 24?" in browser.texts("pre")
    assert browser.texts("h3")[2] == "Rollouts (2)"
    assert browser.texts("td.of-tag .tag")[:2] == ["✕ wrong", "✓ right"]
    browser.click("tbody tr:nth-child(2) a")
    assert browser.text("h2.view") == "Rollout 0/t1/1"
    assert "Attempt 1:\n8 + 4 = 12, carry 1." in browser.texts("pre")


def test_refused_edits_are_told_with_their_reason(browser: Browser, folder: Path) -> None:
    browser.open(folder / "library.html", "#edits?fate=refused")
    assert browser.texts(ROW) == ["3"]
    row = browser.text("tbody tr")
    assert "✕ refused" in row
    assert "E_LEAK" in row
    assert "names the answer of a problem" in row


def test_any_two_states_can_be_compared_word_by_word(browser: Browser, folder: Path) -> None:
    browser.open(folder / "library.html", "#changes")
    assert browser.text(".count") == "2 added, 0 changed, 0 removed, 0 the same"
    browser.run(
        "(s => { s.value = '1'; s.dispatchEvent(new Event('change')) })"
        "(document.querySelector('select[name=from]'))"
    )
    assert browser.text(".count") == "1 added, 1 changed, 0 removed, 0 the same"
    assert browser.texts(".changed del") == ["go on."]
    assert browser.texts(".changed ins") == ["carry."]
    browser.open(folder / "library.html", "#changes?from=2&to=1")
    assert browser.text(".count") == "0 added, 1 changed, 1 removed, 0 the same"


def test_a_link_to_what_is_not_there_says_so(browser: Browser, folder: Path) -> None:
    for fragment in ("#cases/999", "#cases/%E0%A4%A", "#cases/<b>"):
        browser.open(folder / "bank.html", fragment)
        assert browser.text("main p").startswith("There is no case ")
    for fragment in ("#nowhere", "#__proto__/1", "#constructor/name", "#?q=x"):
        browser.open(folder / "bank.html", fragment)
        assert browser.run("document.querySelectorAll('.tiles').length") == 1


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1280, "dark")])
def test_nothing_runs_over_the_edge(
    browser: Browser, folder: Path, width: int, scheme: str
) -> None:
    long = replace(
        case(1), question="w" * 3000, plan="v" * 3000, ns="n" * 300, item="i" * 300,
        outcome="o" * 300,
    )  # fmt: skip
    page = folder / "long.html"
    held = replace(bank(8), cases=(long, *bank(8).cases[1:]))
    page.write_text(render_bank(spoken(held, "x" * 400)), encoding="utf-8")
    browser.resize(width, 844, scheme)
    for name in (page, folder / "bank.html"):
        for fragment in ("", "#cases", "#cases/1", "#map", "#history", "#reads"):
            browser.open(name, fragment)
            assert browser.run("document.documentElement.scrollWidth") <= width, fragment


def test_a_print_has_every_row(browser: Browser, folder: Path, tmp_path: Path) -> None:
    page = folder / "many.html"
    page.write_text(render_bank(bank(150)), encoding="utf-8")
    browser.open(page, "#cases")
    assert browser.run(FOUND) == 100
    browser.print(tmp_path / "cases.pdf")
    assert browser.run(FOUND) == 150


PAYLOADS = (
    "<script>globalThis.ran = 1</script>",
    "</script><script>globalThis.ran = 1</script>",
    "<img src='http://127.0.0.1:PORT/img' onerror='globalThis.ran = 1'>",
    "<svg onload='globalThis.ran = 1'><use href='http://127.0.0.1:PORT/use'/></svg>",
    "<iframe srcdoc='<script>parent.ran = 1</script>'></iframe>",
    "javascript:globalThis.ran=1",
    "{{7*7}} ${7*7} #{7*7} <%= 7*7 %>",
    "\u202eright to left\u2066 שלום",
    "\x1b]8;;http://127.0.0.1:PORT/osc\x07link\x1b]8;;\x07",
    "<style>@import 'http://127.0.0.1:PORT/css'; * { display: none }</style>",
    "<!-- <script> -->",
    "'\"><b id=main>bold</b>",
)


@pytest.fixture
def listener() -> Iterator[tuple[int, list[str]]]:
    """A server on this machine that notes what it is asked for."""
    asked: list[str] = []

    class Noting(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Noting)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1], asked
    server.shutdown()
    thread.join()
    server.server_close()


# Goes to every view and to one row of each table, and names the kinds of elements found there.
TOUR = """(async () => {
  const rows = Object.entries(DATA.tables).flatMap(([key, { rows }]) =>
    rows.slice(0, 1).map((row) => address(key, row[0])));
  const found = {};
  for (const place of [...DATA.views.map(({ key }) => `#${key}`), ...rows]) {
    const drawn = new Promise((done) => addEventListener("hashchange", done, { once: true }));
    location.hash = place;
    await drawn;
    const all = [...document.querySelectorAll("*")].map((element) => element.localName);
    found[place] = [...new Set(all)].sort();
  }
  return found;
})()"""


def test_hostile_texts_are_shown_and_nothing_in_them_happens(
    browser: Browser, tmp_path: Path, listener: tuple[int, list[str]]
) -> None:
    port, asked = listener
    page = tmp_path / "page.html"

    def tour(text: str) -> list[object]:
        found = []
        for made in (render_bank(spoken(bank(4), text)), render_library(spoken(library(), text))):
            page.write_text(made, encoding="utf-8")
            browser.open(page)
            found += [browser.run(TOUR), browser.run("globalThis.ran ?? 'nothing ran'")]
        return found

    clean = tour("plain")
    assert [len(places) for places in clean[::2]] == [8, 11]  # type: ignore[arg-type]
    for i in range(0, len(PAYLOADS), 4):
        text = "\n".join(PAYLOADS[i : i + 4]).replace("PORT", str(port))
        assert tour(text) == clean, text
    assert asked == []


def test_a_hostile_text_is_read_as_it_is_written(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    for text, shown in (
        (PAYLOADS[1], PAYLOADS[1]),
        ("{{7*7}} <%= 7*7 %>", "{{7*7}} <%= 7*7 %>"),
        ("a\u202eb\x1b[31mc\x00", "a⟨U+202E⟩b⟨U+001B⟩[31mc⟨U+0000⟩"),
        ("two  spaces\n\ttab", "two  spaces\n\ttab"),
    ):
        page.write_text(render_bank(spoken(bank(2), text)), encoding="utf-8")
        browser.open(page, "#cases/1")
        assert browser.texts("pre") == [shown] * 4, text
    long = replace(case(1), plan="long " * 250_000)
    page.write_text(render_bank(replace(bank(1), cases=(long,))), encoding="utf-8")
    browser.open(page, "#cases/1")
    assert browser.text(".cut") == "Cut: the first 20,000 of 1,250,000 characters."


def test_without_the_escapes_and_the_policy_a_hostile_text_would_run(
    browser: Browser, tmp_path: Path
) -> None:
    """The two walls: each alone holds, and the payload is a live one."""
    text = "</script><script>globalThis.ran = 1</script>"
    safe = render_bank(spoken(bank(2), text))
    bare = safe.replace(r"\u003c", "<").replace(r"\u003e", ">")
    lawless = re.sub(r"<meta http-equiv.*?>\n", "", bare, count=1)
    assert lawless != bare != safe
    results = []
    for made in (safe, re.sub(r"<meta http-equiv.*?>\n", "", safe, count=1), bare, lawless):
        (tmp_path / "page.html").write_text(made, encoding="utf-8")
        browser.open(tmp_path / "page.html")
        results.append(browser.run("globalThis.ran"))
    assert results == [None, None, None, 1]
    browser.messages.clear()


def test_the_policy_forbids_markup_from_strings_and_the_network(
    browser: Browser, folder: Path
) -> None:
    browser.open(folder / "bank.html")
    with pytest.raises(RuntimeError, match="TrustedHTML"):
        browser.run("document.body.innerHTML = '<b>no</b>'")
    refused = browser.run("fetch('http://127.0.0.1:9/').then(() => 'sent', String)")
    assert refused.startswith("TypeError")
    assert any("Content Security Policy" in message for message in browser.messages)
    browser.messages.clear()
    browser.requests.clear()
