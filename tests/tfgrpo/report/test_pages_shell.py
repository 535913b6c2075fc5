"""Pages as files, read without a browser: nothing escapes, nothing is lost, equal bytes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from base64 import b64encode
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.tfgrpo.report.samples import bank, case, library, spoken
from tfgrpo.report.pages.bank import render_bank
from tfgrpo.report.pages.bank_records import Bank
from tfgrpo.report.pages.encoding import visible
from tfgrpo.report.pages.library import render_library
from tfgrpo.report.pages.parts import (
    Bars,
    Column,
    Compare,
    Link,
    Listing,
    Page,
    Prose,
    Scatter,
    State,
    View,
    table,
)
from tfgrpo.report.pages.shell import LIMITS, MOST_BYTES, render
from tfgrpo.types import Estimate

ROOT = Path(__file__).parents[3]
OUTSIDE = re.compile(r"https?:|//[a-z]|url\(|@import|\bsrc\s*=", re.IGNORECASE)
HOSTILE = (
    "</script><script>globalThis.ran = 1</script>",
    "<!--<script>",
    "]]><img src=x onerror=globalThis.ran=1>",
    "&lt;b&gt; &amp; \"'`${globalThis.ran=1}`",
    "{{7*7}} $title ${title} $$ %s {0}",
    "__proto__",
)


class Elements(HTMLParser):
    """The start tags of a file with their attributes, and the text inside each kind of element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, str] = {}
        self._open = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = f"{tag}#{dict(attrs).get('id', '')}"

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        self.inside[self._open] = self.inside.get(self._open, "") + data

    @property
    def data(self) -> Any:
        return json.loads(self.inside["script#data"])


def page_of(text: str, **more: Any) -> Page:
    """A page that tells `text` in every place that has one."""
    columns: tuple[Column[str], ...] = (
        Column(label="long", of=lambda t: t, kind="text"),
        Column(label="tag", of=lambda t: t, kind="tag", choice=True),
        Column(label="links", of=lambda t: (Link("k", t),), kind="links", to="t", back="Back"),
    )
    rows = table("t", "row", columns, [text], lambda _: "k", title="long")
    blocks = (
        Listing("t", text),
        Prose("Prose", text, exact=True),
        Bars("Bars", (text,), {text: (1.0,)}),
        Scatter("t", "tag", (("k", 0.5, 0.5),), text),
        Compare("t", (State(text, ()), State("b", (("k", text),)))),
    )
    return Page(text, text, (rows,), (View("v", "View", blocks),), **more)


@cache
def plain_tags() -> list[str]:
    return [tag for tag, _ in Elements(render(page_of("plain"))).tags]


@given(st.text(max_size=60))
@example("\x1b[31m\u202eturned\u2066\ud800\x00\u2028 \U000e0041")
def test_no_text_becomes_an_element_and_none_is_lost(text: str) -> None:
    found = Elements(render(page_of(text)))
    assert [tag for tag, _ in found.tags] == plain_tags()
    shown = visible(text)
    assert found.data["title"] == found.data["note"] == shown
    assert shown in found.data["strings"]
    columns = found.data["tables"]["t"]["rows"][0]
    told = found.data["strings"].index(shown)
    assert columns[1:3] == [told, told]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_stay_texts(text: str) -> None:
    for made in (
        render(page_of(text)),
        render_bank(spoken(bank(12), text)),
        render_library(spoken(library(), text)),
    ):
        found = Elements(made)
        assert [tag for tag, _ in found.tags] == plain_tags()
        assert text in found.data["strings"]
        assert made.count(text) == 0 or not set("<>&") & set(text)


def test_the_policy_admits_this_script_and_style_and_nothing_else() -> None:
    found = Elements(render(page_of("text")))
    (policy,) = (a["content"] or "" for _, a in found.tags if a.get("http-equiv"))
    told = dict(part.strip().split(" ", 1) for part in policy.split(";"))

    def hashed(text: str) -> str:
        return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    assert told == {
        "default-src": "'none'",
        "script-src": hashed(found.inside["script#"]),
        "style-src": hashed(found.inside["style#"]),
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    first = [tag for tag, attributes in found.tags].index("meta")
    assert "charset" in found.tags[first][1]
    assert "http-equiv" in found.tags[first + 1][1]


def test_the_file_names_nothing_outside_itself() -> None:
    found = Elements(render_library(library()))
    outside = [a for _, a in found.tags for name in ("src", "href", "action") if a.get(name)]
    assert [a["href"] for a in outside] == ["data:,", "#main"]
    for part in ("script#", "style#"):
        named = OUTSIDE.findall(found.inside[part].replace("http://www.w3.org/2000/svg", ""))
        assert named == []
    for sink in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "fetch",
    ):
        assert sink not in found.inside["script#"]


def test_what_cannot_be_seen_is_written_out() -> None:
    assert visible("a\u202eb\x1b[31m\x00") == "a⟨U+202E⟩b⟨U+001B⟩[31m⟨U+0000⟩"
    assert visible("x\ud800y\u200bz\U000e0041") == "x⟨U+D800⟩y⟨U+200B⟩z⟨U+E0041⟩"
    assert visible("one\r\ntwo\rthree\tfour\n") == "one\ntwo\nthree\tfour\n"
    kept = "שלום עולם مرحبا \u200f 👩\u200d🔬 é ü − ✓"
    assert visible(kept) == kept


def test_long_texts_are_cut_with_a_note_and_short_ones_are_not() -> None:
    long = replace(case(1), plan="x" * 1_000_000)
    found = Elements(render_bank(replace(bank(3), cases=(long, case(2), case(3))))).data
    (number,) = (i for i, text in enumerate(found["strings"]) if text.startswith("xxx"))
    assert found["limit"] == LIMITS[0]
    assert found["strings"][number] == "x" * LIMITS[0] + " …"
    assert found["cut"] == {str(number): 1_000_000}


def test_many_long_texts_are_cut_so_far_that_the_page_stays_light() -> None:
    cases = tuple(
        replace(case(i), question=f"{i} " + "q" * 3000, plan=f"{i} " + "ü" * 3000)
        for i in range(1, 501)
    )
    text = render_bank(Bank(title="Long", seq=1, digest="00", cases=cases))
    found = Elements(text).data
    assert len(text.encode()) <= MOST_BYTES
    assert found["limit"] == 1_000  # 500 cases of 1,000 + 2,000 bytes fit, twice as much does not
    assert len(found["cut"]) == 1_000


def test_two_thousand_usual_cases_need_no_cut() -> None:
    usual = "Using 382, 958 and 739 once each, make 655. Show every step on a line of its own. "
    cases = tuple(replace(case(i), plan=f"{usual} {i}", question=f"{i} {usual}")
                  for i in range(1, 2001))  # fmt: skip
    text = render_bank(replace(bank(2000), cases=cases))
    assert len(text.encode()) < MOST_BYTES
    assert Elements(text).data["cut"] == {}


STABLE = """
import hashlib
from tests.tfgrpo.report.samples import bank, library
from tfgrpo.report.pages.bank import render_bank
from tfgrpo.report.pages.library import render_library
print(hashlib.sha256((render_bank(bank()) + render_library(library())).encode()).hexdigest())
"""


def test_equal_input_gives_equal_bytes_in_every_process() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", STABLE], cwd=ROOT, capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "TZ": zone, "LC_ALL": "C"},
        ).stdout
        for seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo"))
    }  # fmt: skip
    text = render_bank(bank()) + render_library(library())
    assert digests == {hashlib.sha256(text.encode()).hexdigest() + "\n"}


def test_what_is_not_finite_is_undefined() -> None:
    nan = float("nan")
    columns: tuple[Column[float], ...] = (
        Column(label="n", of=lambda v: v, kind="number"),
        Column(label="e", of=lambda v: Estimate(v, nan, float("inf"), 1, "none"), kind="estimate"),
    )
    rows = table("t", "row", columns, [0.1 + 0.2, nan], str, title="n")
    found = Elements(render(Page("p", "", (rows,), ()))).data["tables"]["t"]["rows"]
    assert [row[1:] for row in found] == [[0.3, [0.3, None, None, 1]], [None, [None] * 3 + [1]]]


def test_a_page_that_names_what_it_lacks_is_refused() -> None:
    base = page_of("x")
    for block in (Listing("nowhere"), Scatter("t", "tag", (("lost", 0.1, 0.1),)),
                  Scatter("t", "colourless", ())):  # fmt: skip
        with pytest.raises(ValueError, match=r"nowhere|lost|colourless"):
            render(replace(base, views=(View("v", "V", (block,)),)))
    with pytest.raises(ValueError, match="same key"):
        table("t", "row", base.tables[0].columns, ["a", "b"], lambda _: "k", title="long")


def test_an_empty_bank_and_an_empty_library_have_pages() -> None:
    made = render_bank(Bank(title="Empty", seq=0, digest="", cases=()))
    assert [view["key"] for view in Elements(made).data["views"]] == ["overview", "cases"]
    bare = replace(library(), lessons=(), edits=(), states=(), steps=(), groups=(), attempts=())
    views = Elements(render_library(bare)).data["views"]
    assert [view["key"] for view in views] == ["overview", "lessons", "edits"]
