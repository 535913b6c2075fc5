"""The shipped weights still have the skills that their card states: coarse bounds, few samples."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from baselines.abacus.card import Card, Size, markdown, measure
from cli.wiring import abacus_path
from tfgrpo.llm.transformers_local import TransformersChat

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def card() -> Iterator[Card]:
    model = TransformersChat(str(abacus_path()), "cpu")
    try:
        yield asyncio.run(measure(model, Size(problems=16, samples=32), seed=1))
    finally:
        model.close()


def test_the_weights_are_small_enough_to_ship() -> None:
    assert sum(p.stat().st_size for p in abacus_path().iterdir()) < 8_000_000


def test_it_solves_some_problems_in_every_style_and_some_styles_are_better(card: Card) -> None:
    assert 0.3 < card.pass_at_1 < 0.6
    assert card.pass_at_64 > 0.9
    assert min(family.gap for family in card.families.values()) > 0.25
    for family in card.families.values():
        assert all(share > 0.05 for share, _ in family.styles.values())


def test_it_follows_lessons_in_unseen_words_and_ignores_others(card: Card) -> None:
    assert card.follows_new_sentence > 0.9
    assert card.irrelevant_shift < 0.09


def test_it_compares_and_edits(card: Card) -> None:
    assert card.summarises > 0.8
    assert card.compares > 0.7
    assert card.edits_valid > 0.9
    assert card.edits_right > 0.8


def test_the_card_prints_every_figure(card: Card) -> None:
    assert markdown(card).count("\n| ") >= 4 + 12
