"""A verdict as CSV: exact numbers, harmless texts, nothing invented."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tfgrpo.report.verdicts import bare, rich, small, spoken
from tfgrpo.report.pages.encoding import visible
from tfgrpo.report.tables import FORMULA, cell, tables

FILES = [
    "arms.csv", "measures.csv", "differences.csv", "curves.csv", "solved.csv", "interaction.csv",
    "training.csv", "strategies.csv", "diversity_gains.csv", "shares.csv", "samples.csv",
    "faults.csv",
]  # fmt: skip


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_every_number_comes_back_exactly() -> None:
    found = rich()
    made = {name: rows(text) for name, text in tables(found).items()}
    assert list(made) == FILES
    curves = {
        (r["arm"], int(r["k"])): tuple(float(r[n]) for n in ("value", "low", "high"))
        for r in made["curves.csv"]
        if r["kind"] == "pass@k"
    }
    assert curves == {
        (arm.name, k): (e.value, e.low, e.high) for arm in found.arms for k, e in arm.curve.items()
    }
    gaps = {(r["arm"], r["against"], r["measure"]): r for r in made["differences.csv"]}
    for judgement in (*found.judgements, *found.duels):
        for name, difference in judgement.differences.items():
            row = gaps[judgement.b, judgement.a, name]
            assert float(row["value"]) == difference.problems.difference.value
            assert float(row["p"]) == difference.problems.p_value
            assert tuple(json.loads(row["by_seed"])) == difference.by_seed
            assert (row["declared"] == "yes") == any(
                claim.comparison.name == name for claim in judgement.claims
            )
    solved = {(r["arm"], r["against"], r["times_right"]): r for r in made["solved.csv"]}
    for judgement in found.judgements:
        row = solved[judgement.b, judgement.a, "1"]
        assert tuple(json.loads(row["gained_problems"])) == judgement.solved.b_only
        assert int(row["lost"]) == len(judgement.solved.a_only)
        assert float(row["p"]) == judgement.solved.p_value
    steps = [r for r in made["training.csv"] if (r["arm"], r["seed"]) == ("grpo", "1")]
    run = next(t for t in found.trajectories if (t.name, t.seed) == ("grpo", 1))
    assert tuple(float(r["entropy"]) for r in steps) == run.entropy


def test_what_sets_arms_apart_and_what_failed_comes_back_exactly() -> None:
    found = rich()
    made = {name: rows(text) for name, text in tables(found).items()}
    views = [
        (r["arm"], r["against"], r["measure"], r["of"], float(r["value"]), float(r["low"]),
         int(r["problems"]))
        for r in made["diversity_gains.csv"]
    ]  # fmt: skip
    of = {"all": "matched", "correct": "matched, correct only"}
    assert views == [
        (d.b, d.a, d.name, of[d.of], d.difference.value, d.difference.low, d.difference.n)
        for d in found.diversity
    ]
    assert not any("p" in r for r in made["diversity_gains.csv"])
    shares = {(r["problem"], r["arm"]): float(r["share"]) for r in made["shares.csv"]}
    assert shares == {
        (p.task_id, arm): share for p in found.problems_by_arm for arm, share in p.shares.items()
    }
    for fate in found.fates:
        told = {r["fate"]: int(r["samples"]) for r in made["samples.csv"] if r["arm"] == fate.arm}
        asked = next(a for a in found.arms if a.name == fate.arm).reading.samples
        assert sum(told.values()) == asked + fate.failed
        assert told.get("never graded: refused", 0) == fate.failed
        faults = {r["class"]: r for r in made["faults.csv"] if r["arm"] == fate.arm}
        assert {name: int(r["times"]) for name, r in faults.items()} == {
            kind: count.seen for kind, count in fate.faults.items()
        }
        assert sum(int(r["read_tokens_in_vain"]) for r in faults.values()) == 100 * fate.failed


def test_what_is_undefined_is_empty_and_what_is_missing_has_no_file() -> None:
    made = tables(bare())
    assert list(made) == ["arms.csv", "measures.csv", "curves.csv"]
    (first, _) = rows(made["measures.csv"])
    assert (first["value"], first["low"], first["high"]) == ("0.5", "", "")
    assert rows(made["arms.csv"])[0]["making_flops"] == ""
    assert cell(math.nan) == cell(math.inf) == cell(None) == ""
    assert (cell(True), cell(False), cell(0), cell(-0.5)) == ("yes", "no", "0", "-0.5")


def test_stamps_stand_in_every_row() -> None:
    stamps = ("Forced: the split differs.", "Only 40 problems.")
    for text in tables(replace(small(), stamps=stamps)).values():
        assert {row["stamps"] for row in rows(text)} == {" ".join(stamps)}


@given(st.text() | st.builds("".join, st.tuples(st.sampled_from(FORMULA), st.text())))
def test_no_text_is_a_formula_and_none_is_lost(text: str) -> None:
    told = cell(text)
    assert not told.startswith(FORMULA)
    assert told.removeprefix("'") == visible(text).removeprefix("'")
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow([told, "next"])
    assert next(csv.reader(io.StringIO(line.getvalue(), newline=""))) == [told, "next"]


@pytest.mark.parametrize("text", ["=HYPERLINK(A1)", '@SUM(1)|"x"', "+1\n-2", "\tx", "\x1b[0m"])
def test_hostile_names_stay_in_their_cells(text: str) -> None:
    for made in tables(spoken(text)).values():
        found = rows(made)
        assert all(None not in row and None not in row.values() for row in found)
        assert not any(
            value.startswith(FORMULA) and not _is_number(value)
            for row in found
            for value in row.values()
        )


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
