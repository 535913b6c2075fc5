"""The report as files: whole, light, and the same bytes every time."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import pytest

from tests.tfgrpo.report.samples import data_of, rows_of
from tests.tfgrpo.report.simulated import SORTS, Sort
from tests.tfgrpo.report.verdicts import bare, rich, small, small_drawings, verdict
from tfgrpo.report.figures.endpoints import endpoints
from tfgrpo.report.figures.sketch import rendered
from tfgrpo.report.figures.style import rules
from tfgrpo.report.pages.shell import MOST_BYTES, render
from tfgrpo.report.pages.verdict import verdict_page
from tfgrpo.report.tables import tables
from tfgrpo.report.verdict import write_report
from tfgrpo.verdict.record import Verdict

ROOT = Path(__file__).parents[3]
HEIGHT = re.compile(rb'height="([\d.]+)pt"')
VIEWS = [
    "verdict", "arms", "curves", "differences", "entropy", "diversity", "solved", "costs", "faults",
    "problems", "settings",
]  # fmt: skip


def page(found: Verdict) -> str:
    return render(verdict_page(found, small_drawings()))


def views(text: str) -> list[str]:
    return [view["key"] for view in data_of(text)["views"]]


STABLE = """
import hashlib, sys
from pathlib import Path
from tests.tfgrpo.report.verdicts import small
from tfgrpo.report.verdict import write_report
for path in write_report(small(), Path(sys.argv[1])):
    print(path.name, hashlib.sha256(path.read_bytes()).hexdigest())
"""


def test_equal_verdicts_give_equal_bytes_in_every_process(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-c", STABLE, str(tmp_path)], cwd=ROOT, capture_output=True, text=True,
        check=True, env={**os.environ, "PYTHONHASHSEED": "3", "TZ": "Asia/Tokyo", "LC_ALL": "C",
                         "MPLBACKEND": "svg"},
    ).stdout  # fmt: skip
    here = {"report.html": page(small()).encode()}
    for drawing in small_drawings():
        here |= {f"{drawing.name}.png": drawing.png, f"{drawing.name}.svg": drawing.svg}
    here |= {name: text.encode() for name, text in tables(small()).items()}
    digests = [f"{name} {hashlib.sha256(data).hexdigest()}" for name, data in here.items()]
    assert told.splitlines() == digests
    assert (tmp_path / "figures" / "gains.svg").read_bytes() == here["gains.svg"]
    assert (tmp_path / "report.html").read_bytes() == here["report.html"]


def test_a_users_own_plot_settings_change_nothing() -> None:
    with mpl.rc_context({"font.size": 30, "axes.grid": False, "lines.linewidth": 9}):
        with rules():
            sketch = endpoints(small())
            assert sketch is not None
            assert rendered(sketch, ()) == small_drawings()[0]
        assert mpl.rcParams["font.size"] == 30


def test_a_page_has_a_view_for_everything_that_was_found() -> None:
    text = page(small())
    assert views(text) == VIEWS
    arms = rows_of(text, "arms")
    assert list(arms) == ["base", "library", "grpo"]
    best = small().arm("library").curve[1]
    assert arms["library"]["pass@1, %"][0] == pytest.approx(100 * best.value, rel=1e-5)
    assert arms["base"]["seeds"] is None
    assert arms["grpo"]["seeds"] == 3
    found = rows_of(text, "differences")
    assert [row["verdict"] for row in found.values()][:9].count(None) == 0
    assert {row["verdict"] for row in list(found.values())[9:]} == {None}


def test_views_of_diversity_are_told_against_the_base_without_a_test() -> None:
    found = small()
    told = rows_of(page(found), "diversity")
    assert len(told) == len(found.diversity) == 2 * (8 + 7)
    for row, d in zip(told.values(), found.diversity, strict=True):
        by = 100 if d.name == "forking_share" else 1
        assert row["arm"] == [(d.b,)]
        assert row["difference"] == pytest.approx(
            [by * d.difference.value, by * d.difference.low, by * d.difference.high, d.difference.n]
        )
        assert row["samples"] == ("matched" if d.of == "all" else "matched, correct only")
        assert not {"p", "Holm p"} & row.keys()


def test_failures_are_told_apart_from_wrong_answers_and_by_what_failed() -> None:
    text = page(small())
    told = rows_of(text, "faults")
    library = next(f for f in small().fates if f.arm == "library")
    row = told["library"]
    assert (row["right"], row["wrong"], row["no answer"], row["never graded"]) == (
        library.right, library.wrong, 5, 3,
    )  # fmt: skip
    assert row["asked for"] == row["right"] + row["wrong"] + 5 + 3
    assert (row["at the stage"], row["of the class"]) == ("refused 3", "rate limit 12, refusal 3")
    assert (row["faults"], row["lost to"], row["tokens in vain"]) == (15, "refusal 3", 321)
    assert (told["grpo"]["never graded"], told["grpo"]["faults"]) == (0, None)
    costs = rows_of(text, "costs")
    assert [costs[name]["faults"] for name in ("base", "library", "grpo")] == [None, 15, None]
    assert costs["library"]["tokens in vain"] == 321
    facts = data_of(text)["views"][0]["blocks"][-1]["items"]
    assert ["never graded", "3", "samples, neither right nor wrong"] in facts


def test_where_nothing_failed_nothing_is_said_of_faults() -> None:
    full = small()
    sound = tuple(replace(fate, failures={}, faults={}) for fate in full.fates)
    text = page(replace(full, fates=sound))
    assert views(text) == [view for view in VIEWS if view != "faults"]
    assert rows_of(text, "faults") == {}
    assert all(row["faults"] is None for row in rows_of(text, "costs").values())
    facts = data_of(text)["views"][0]["blocks"][-1]["items"]
    assert "never graded" not in [label for label, *_ in facts]


def test_what_was_not_found_has_no_view_and_no_error(tmp_path: Path) -> None:
    files = write_report(bare(), tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in files] == [
        "report.html", "arms.csv", "measures.csv", "curves.csv",
    ]  # fmt: skip
    text = files[0].read_text(encoding="utf-8")
    assert views(text) == ["verdict", "arms", "settings"]
    full = small()
    for changed, gone in (
        (replace(full, disagreements=()), "problems"),
        (replace(full, arms=tuple(replace(a, cost=None) for a in full.arms)), "costs"),
    ):
        made = render(verdict_page(changed, ()))
        assert gone in views(render(verdict_page(full, ())))
        assert gone not in views(made)


def test_findings_come_first_and_those_of_learning_before_those_of_controls() -> None:
    data = data_of(render(verdict_page(rich(), ())))
    block = data["views"][0]["blocks"][0]
    assert block["kind"] == "findings"
    assert [item[0] for item in block["items"]][:2] == ["library", "case memory"]
    assert [item[0] for item in block["items"]][-2:] == ["placebo", "base T=1.2"]
    (first, *_) = (item for item in block["items"] if item[0] == "grpo")
    claim = next(j for j in rich().judgements if j.b == "grpo").claims[0]
    assert first[1] == next(j for j in rich().judgements if j.b == "grpo").sentence
    assert first[3][0][2:4] == [claim.verdict, {"better": "good", "worse": "bad"}[claim.verdict]]


def test_stamps_are_on_the_page_and_in_the_figures() -> None:
    stamps = ("Forced: the split differs.", "Only 40 problems.")
    text = render(verdict_page(replace(small(), stamps=stamps), ()))
    assert data_of(text)["stamps"] == list(stamps)
    with rules():
        sketch = endpoints(small())
        assert sketch is not None
        stamped = rendered(sketch, stamps)
    plain = small_drawings()[0]
    heights = [float(found[1]) for d in (plain, stamped) if (found := HEIGHT.search(d.svg))]
    assert heights[1] - heights[0] == pytest.approx(2 * 0.145 * 72 + 7.2, abs=0.1)


@pytest.mark.slow
def test_sixteen_arms_and_long_transcripts_fit_into_two_megabytes(tmp_path: Path) -> None:
    more = (
        Sort("reinforce", "weights", 0.9, 1.4, 0.4, 3),
        Sort("sft", "weights", 0.5, 1.2, 0.5, 3),
        Sort("direct", "context", 0.2, 1.0, 0.6, 3),
    )
    stamps = ("Forced: the decoding settings differ.",)
    found = verdict((*SORTS, *more), replies=20, text=" step by step" * 400, stamps=stamps)
    assert len(found.arms) == 16
    report, *_ = write_report(found, tmp_path)
    assert report.stat().st_size <= MOST_BYTES
    assert data_of(report.read_text(encoding="utf-8"))["cut"]
