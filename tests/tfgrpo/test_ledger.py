"""Sums, prices and FLOPs of what a run consumed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfgrpo.ledger import Ledger, Price, flops, update_flops
from tfgrpo.types import Usage

USAGE = Usage(
    calls=2,
    prompt_tokens=1000,
    cached_tokens=400,
    completion_tokens=300,
    reasoning_tokens=100,
    seconds=1.5,
)
COUNT = st.integers(0, 10**9)
USAGES = st.builds(Usage, COUNT, COUNT, st.just(0), COUNT, COUNT, COUNT.map(float))
LEDGERS = st.dictionaries(
    st.sampled_from(["rollout", "compare", "evaluate", "update"]), USAGES, max_size=4
).map(Ledger)


def test_flops_by_hand() -> None:
    assert flops(USAGE, parameters=10) == 2 * 10 * (600 + 300)
    assert update_flops(tokens=300, parameters=10) == 6 * 10 * 300


def test_price_by_hand() -> None:
    price = Price(prompt=2.0, cached=0.5, completion=8.0)
    assert price.cost(USAGE) == pytest.approx((600 * 2 + 400 * 0.5 + 300 * 8) / 1e6)


@pytest.mark.parametrize(
    ("price", "usage", "cost"),
    [
        (Price(), Usage(), 0.0),
        (Price(), USAGE, None),
        (Price(prompt=2.0, completion=8.0), USAGE, None),
        (Price(prompt=2.0, completion=8.0), Usage(prompt_tokens=500_000), 1.0),
        (Price(prompt=0.0, cached=0.0, completion=0.0), USAGE, 0.0),
    ],
)
def test_an_unknown_price_is_not_guessed(price: Price, usage: Usage, cost: float | None) -> None:
    assert price.cost(usage) == cost


def test_cost_is_known_only_if_every_used_line_is_priced() -> None:
    ledger = Ledger({"rollout": USAGE, "compare": Usage(completion_tokens=1_000_000)})
    cheap, dear = Price(1.0, 1.0, 1.0), Price(10.0, 10.0, 10.0)
    assert ledger.cost({"rollout": cheap}) is None
    assert ledger.cost({"rollout": cheap, "compare": dear}) == pytest.approx(0.0013 + 10.0)


def test_rows_follow_the_phases_and_end_with_the_total() -> None:
    ledger = Ledger({"update": USAGE, "compare": USAGE, "rollout": USAGE})
    rows = ledger.rows()
    assert [name for name, _ in rows] == ["rollout", "compare", "update", "total"]
    assert rows[-1][1] == USAGE + USAGE + USAGE


def test_a_ledger_handed_out_never_changes() -> None:
    before = Ledger({"rollout": USAGE})
    after = before.plus("rollout", USAGE).plus("compare", USAGE)
    assert before.total == USAGE
    assert after.by_phase["rollout"].calls == 4
    assert after.by_phase["compare"] == USAGE


@given(LEDGERS, LEDGERS, LEDGERS)
def test_ledgers_add_up_in_any_order(a: Ledger, b: Ledger, c: Ledger) -> None:
    assert dict((a + b).by_phase) == dict((b + a).by_phase)
    assert dict(((a + b) + c).by_phase) == dict((a + (b + c)).by_phase)
    assert (a + b).total == a.total + b.total
    assert flops((a + b).total, 7) == flops(a.total, 7) + flops(b.total, 7)


@given(LEDGERS)
def test_json_round_trip(ledger: Ledger) -> None:
    again = Ledger.from_json(json.loads(json.dumps(ledger.to_json())))
    assert dict(again.by_phase) == dict(ledger.by_phase)
