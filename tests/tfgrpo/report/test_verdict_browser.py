"""The page of a verdict in a real browser, read as a person reads it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tfgrpo.report.browser import Browser
from tests.tfgrpo.report.hostile import PAYLOADS, TOUR
from tests.tfgrpo.report.simulated import SORTS
from tests.tfgrpo.report.verdicts import bare, small, small_drawings, spoken, verdict
from tfgrpo.report.pages.shell import render
from tfgrpo.report.pages.verdict import verdict_page

pytestmark = pytest.mark.usefixtures("calm")
PLACES = 11 + 10  # views, and a row of each table
STAMP = "Forced: the decoding settings differ."
LOADED = "[...pictures.values()].every(image => image.complete && image.naturalWidth > 0)"
SHOWN = "[...document.querySelectorAll('main img')].map(image => image.naturalWidth)"

LISTED = """DATA.views.flatMap(({ blocks }) => blocks).filter(({ kind }) => kind === "listing")
  .reduce((sum, { table }) => sum + DATA.tables[table].rows.length, 0)"""
WIDTHS = """(async () => {
  const rows = Object.entries(DATA.tables).map(([key, { rows }]) => address(key, rows[0][0]));
  const found = {};
  for (const place of [...DATA.views.map(({ key }) => `#${key}`), ...rows]) {
    const drawn = new Promise((done) => addEventListener("hashchange", done, { once: true }));
    location.hash = place;
    await drawn;
    found[place] = document.documentElement.scrollWidth;
  }
  return found;
})()"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("verdict") / "report.html"
    stamped = replace(small(), stamps=(STAMP,))
    path.write_text(render(verdict_page(stamped, small_drawings())), encoding="utf-8")
    return path


def test_one_far_effect_leaves_room_for_the_others(browser: Browser, report: Path) -> None:
    browser.open(report)
    cells = "[[1, 0, 2], [-3, -4, -1], [2, 1, 3], null, [-94, -96, -90]]"
    assert browser.run(f"farthest({cells})") == 4
    assert browser.run("farthest([[1, 0, 2], [-3, -4, -1], [7, 6, 8], [1, 0, 1]])") == 8
    assert browser.run("farthest([[1, 0, 2], [-94, -96, -90]])") == 96
    drawn = "[...whisker([{}], 4).children].map(x => x.tagName + (x.getAttribute('points') || ''))"
    assert browser.run(drawn.format("-94, -96, -90")) == ["line", "line", "polygon2,6 7,2 7,10"]
    assert browser.run(drawn.format("2, 1, 3")) == ["line", "line", "circle"]


def test_the_verdict_is_what_a_reader_sees_first(browser: Browser, report: Path) -> None:
    browser.open(report)
    assert browser.text("h1") == "base and 2 other arms"
    assert browser.texts(".stamps li") == [STAMP]
    first = browser.run("document.querySelector('main .finding p').getBoundingClientRect().bottom")
    assert first < 900
    library = next(j for j in small().judgements if j.b == "library")
    found = browser.texts(".finding")[0]
    assert library.sentence in found
    gap = library.claims[0].comparison.difference
    told = f"+{100 * gap.value:.1f} [+{100 * gap.low:.1f}, +{100 * gap.high:.1f}]"
    assert re.sub(r"\s+", " ", found).find(f"pass@1, points {told} ✓ better") > 0
    browser.click(".finding h3 a")
    assert browser.text("h2.view") == "Arm library"
    assert browser.texts("h3") == [
        "Differences (18)", "Measures (31)", "Views of diversity (15)", "Runs (3)", "Cost (1)",
        "Replies shown (2)", "Samples (1)",
    ]  # fmt: skip


def test_every_view_is_reached_and_every_figure_is_seen(browser: Browser, report: Path) -> None:
    browser.open(report)
    titles = browser.texts("nav a")
    seen = 0
    for n, title in enumerate(titles, 1):
        browser.click(f"nav a:nth-child({n})")
        assert browser.text("nav a[aria-current]") == title
        assert browser.texts(".stamps li") == [STAMP]
        browser.wait_for(LOADED)
        widths = browser.run(SHOWN)
        assert all(width > 700 for width in widths)
        seen += len(widths)
        captions = browser.texts(".drawing figcaption")
        assert len(captions) == len(widths)
        assert all(browser.run("[...document.images].map(image => image.alt.length > 20)"))
    assert titles == [
        "Verdict", "Arms", "Curves", "Differences", "Entropy", "Diversity", "Solved", "Costs",
        "Faults", "Disagreements", "Settings",
    ]  # fmt: skip
    assert seen == len(small_drawings())


def test_an_arm_leads_to_its_differences_and_a_problem_to_what_was_answered(
    browser: Browser, report: Path
) -> None:
    browser.open(report, "#arms?sort=-pass@1, %25")
    assert browser.texts("tbody th a")[0] == "library"
    browser.open(report, "#differences?measure=pass@1, points&verdict=better")
    assert browser.text(".count") == "1 of 27 differences"
    assert browser.texts("tbody .chip") == ["library"]
    browser.open(report, "#problems")
    browser.click("tbody a[href='#problems/t0001']")
    assert "What is 17 + 23?" in browser.texts("pre")
    assert "Replies (3)" in browser.texts("h3")
    browser.click("tbody tr:nth-child(2) th a")
    assert browser.texts("pre") == ["17 + 23 = 41"]
    assert browser.texts(".facts .tag") == ["✕ wrong"]


def test_differences_in_other_units_are_drawn_to_scales_of_their_own(
    browser: Browser, report: Path
) -> None:
    """The farthest end of each measure reaches as far, be it 12 points or 0.4 answers."""
    browser.open(report, "#differences")
    reaches: dict[str, float] = browser.run(
        "(() => { const most = {}; for (const tr of document.querySelectorAll('tbody tr')) {"
        "const name = tr.querySelector('[data-label=measure]').innerText;"
        "for (const end of ['x1', 'x2']) { const x = Math.abs("
        "tr.querySelector('.reach').getAttribute(end) - 40); most[name] = Math.max(most[name] || 0,"
        "x) } } return most })()"
    )
    assert len(reaches) == 9
    assert all(reach == pytest.approx(38) for reach in reaches.values())


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1200, "dark")])
def test_nothing_runs_over_the_edge(
    browser: Browser, report: Path, tmp_path: Path, width: int, scheme: str
) -> None:
    long = tmp_path / "long.html"
    long.write_text(render(verdict_page(spoken("x" * 400), small_drawings())), encoding="utf-8")
    browser.resize(width, 844, scheme)
    for page in (report, long):
        browser.open(page)
        widths = browser.run(WIDTHS)
        assert len(widths) == PLACES
        assert {place: w for place, w in widths.items() if w > width} == {}


def test_figures_stand_on_a_light_panel_in_the_dark(browser: Browser, report: Path) -> None:
    browser.resize(1200, 900, "dark")
    browser.open(report, "#curves")
    colours = "[document.documentElement, document.querySelector('.panel')]"
    told = browser.run(f"{colours}.map(e => getComputedStyle(e).backgroundColor)")
    assert told == ["rgb(21, 23, 26)", "rgb(255, 255, 255)"]


def test_a_print_has_every_view_and_then_the_page_is_as_it_was(
    browser: Browser, report: Path, tmp_path: Path
) -> None:
    browser.open(report, "#arms")
    browser.wait_for(LOADED)
    browser.run(
        "(addEventListener('beforeprint', () => { globalThis.printed ="
        "[...document.querySelectorAll('h2.view')].map(h => h.textContent).concat("
        "document.querySelectorAll('main img').length, document.querySelectorAll('tbody tr')"
        ".length) }), 0)"
    )
    browser.print(tmp_path / "report.pdf")
    *titles, images, rows = browser.run("globalThis.printed")
    assert titles == browser.run("DATA.views.map(({ title }) => title)")
    assert images == len(small_drawings())
    assert rows == browser.run(LISTED)
    browser.wait_for("document.querySelectorAll('h2.view').length === 1")
    assert browser.run("document.querySelectorAll('tbody tr').length") == 3


def test_a_page_of_next_to_nothing_can_be_read(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "bare.html"
    page.write_text(render(verdict_page(bare(), ())), encoding="utf-8")
    browser.open(page)
    assert browser.texts("nav a") == ["Verdict", "Arms", "Settings"]
    assert browser.run("document.querySelectorAll('.stamps').length") == 0
    browser.click("nav a:nth-child(2)")
    assert browser.texts("td.of-estimate")[0] == "50.0 [?, ?]"


def test_hostile_texts_are_shown_and_nothing_in_them_happens(
    browser: Browser, tmp_path: Path, listener: tuple[int, list[str]]
) -> None:
    port, asked = listener
    page = tmp_path / "report.html"

    def tour(text: str) -> list[object]:
        made = render(verdict_page(spoken(text), small_drawings()))
        page.write_text(made, encoding="utf-8")
        browser.open(page)
        kinds = list(browser.run(TOUR).values())
        return [*kinds, browser.run("globalThis.ran ?? 'nothing ran'")]

    clean = tour("plain")
    assert len(clean) == PLACES + 1
    for i in range(0, len(PAYLOADS), 4):
        text = "\n".join(PAYLOADS[i : i + 4]).replace("PORT", str(port))
        assert tour(text) == clean, text
    assert asked == []


def test_a_script_in_a_figure_does_not_run(
    browser: Browser, tmp_path: Path, listener: tuple[int, list[str]]
) -> None:
    """Figures are images: even one that was tampered with runs nothing and loads nothing."""
    port, asked = listener
    live = (
        "<svg xmlns='http://www.w3.org/2000/svg' width='800' height='80' "
        "onload='parent.ran = 1'><script>parent.ran = 1; top.ran = 1</script>"
        f"<image href='http://127.0.0.1:{port}/image' width='9' height='9'/></svg>"
    )
    drawn = [replace(small_drawings()[0], svg=live.encode())]
    (tmp_path / "page.html").write_text(render(verdict_page(small(), drawn)), encoding="utf-8")
    browser.open(tmp_path / "page.html")
    browser.wait_for(LOADED)
    assert browser.run("globalThis.ran ?? 'nothing ran'") == "nothing ran"
    assert asked == []


def test_long_transcripts_are_cut_with_a_note(browser: Browser, tmp_path: Path) -> None:
    found = verdict(SORTS[:2], 20, replies=1, text=" step by step" * 3000)
    (tmp_path / "page.html").write_text(render(verdict_page(found, ())), encoding="utf-8")
    browser.open(tmp_path / "page.html", "#replies/1")
    assert browser.text(".cut").startswith("Cut: the first 20,000 of 39,0")
