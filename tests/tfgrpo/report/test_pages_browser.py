"""Pages in a real browser, used as a person uses them. Skipped where there is no browser."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tfgrpo.report.browser import Browser
from tests.tfgrpo.report.hostile import PAYLOADS, TOUR
from tests.tfgrpo.report.samples import bank, case, library, spoken
from tfgrpo.report.pages.bank import render_bank
from tfgrpo.report.pages.library import render_library

pytestmark = pytest.mark.usefixtures("calm")
FOUND = "document.querySelectorAll('tbody tr').length"
ROW = "tbody tr th a"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("pages")
    (place / "bank.html").write_text(render_bank(bank()), encoding="utf-8")
    (place / "library.html").write_text(render_library(library()), encoding="utf-8")
    return place


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
