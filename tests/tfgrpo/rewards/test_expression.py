"""Safe arithmetic, one name per solution, and all solutions."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from fractions import Fraction
from itertools import permutations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfgrpo.rewards.expression import (
    Operation,
    Tree,
    all_solutions,
    canonical_expression,
    evaluate,
    is_solution,
)


@pytest.mark.parametrize(
    ("text", "value", "leaves"),
    [
        ("18 - 14 + 8", Fraction(12), (18, 14, 8)),
        ("8/(3-8/3)", Fraction(24), (8, 3, 8, 3)),
        ("2 × 6 ÷ 4 − 1", Fraction(2), (2, 6, 4, 1)),
        (" 7 ", Fraction(7), (7,)),
        ("((((1))))", Fraction(1), (1,)),
    ],
)
def test_values_are_exact(text: str, value: Fraction, leaves: tuple[int, ...]) -> None:
    parsed = evaluate(text)
    assert (parsed.value, parsed.leaves) == (value, leaves)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "1_2",
        "0x0c",
        "012",
        "1.5+1",
        "3**2",
        "7//2",
        "-3+5",
        "+3",
        "3--5",
        "2(3)",
        "(2)(3)",
        "()",
        "1/0",
        "1/(2-2)",
        "1+2 # 3",
        "1+2\n",
        "\t1",
        "1\n+2",
        "True+1",
        "__import__('os')",
        "sqrt(9)",
        "٣+٤",
        "\uff11+\uff12",
        "(" * 32 + "1" + ")" * 31,
        "(" * 10_000 + "1" + ")" * 10_000,
        "9" * 65,
        "1+" * 5_000 + "1",
        "1+2" + " " * 300 + "+3",
    ],
)
def test_everything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expression|allowed|zero"):
        evaluate(text)


@settings(max_examples=300)
@given(st.text(alphabet="0123456789+-*/() ×÷−_x.\n", max_size=70) | st.text(max_size=70))
def test_nothing_but_value_error_is_raised(text: str) -> None:
    with contextlib.suppress(ValueError):
        evaluate(text)


def _write(tree: Tree) -> str:
    if isinstance(tree, int):
        return str(tree)
    return f"({_write(tree.left)}{tree.operator}{_write(tree.right)})"


TREES: st.SearchStrategy[Tree] = st.recursive(
    st.integers(0, 20),
    lambda children: st.builds(Operation, st.sampled_from("+-*/"), children, children),
    max_leaves=8,
)


def _shuffle(tree: Tree, flips: Sequence[bool]) -> Tree:
    """Commute + and * wherever `flips` says, and re-associate a+(b+c) to (a+b)+c."""
    if isinstance(tree, int):
        return tree
    left, right = _shuffle(tree.left, flips[1:]), _shuffle(tree.right, flips[2:])
    if tree.operator in "+*" and flips and flips[0]:
        left, right = right, left
    if tree.operator in "+*" and isinstance(right, Operation) and right.operator == tree.operator:
        return Operation(tree.operator, Operation(tree.operator, left, right.left), right.right)
    return Operation(tree.operator, left, right)


@given(TREES, st.lists(st.booleans(), min_size=8, max_size=8))
def test_commuting_and_associating_keep_the_form(tree: Tree, flips: list[bool]) -> None:
    assert canonical_expression(tree) == canonical_expression(_shuffle(tree, flips))


@given(TREES)
def test_the_form_is_a_fixed_point_of_equal_value(tree: Tree) -> None:
    form = canonical_expression(tree)
    try:
        value = evaluate(_write(tree)).value
        again = evaluate(form)
    except ValueError:
        return  # a division by zero, or more than 64 characters
    assert again.value == value
    assert canonical_expression(again.tree) == form


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("5-(3-4)", "4+5-3", True),
        ("6/(3/4)", "4*6/3", True),
        ("8/2/4", "8/(4*2)", True),
        ("2*(3+4)", "(4+3)*2", True),
        ("2*3+2*4", "2*(3+4)", False),
        ("5*1", "5/1", False),
        ("(9-4)*(7-2)", "(4-9)*(2-7)", False),
        ("5-3", "3-5", False),
    ],
)
def test_what_is_merged_and_what_is_not(a: str, b: str, same: bool) -> None:
    forms = [canonical_expression(evaluate(text).tree) for text in (a, b)]
    assert (forms[0] == forms[1]) is same


def _brute_force(numbers: Sequence[int], target: int, ops: str) -> set[str]:
    shapes = {
        2: ["{}{}{}"],
        3: ["({}{}{}){}{}", "{}{}({}{}{})"],
        4: [
            "(({}{}{}){}{}){}{}",
            "({}{}({}{}{})){}{}",
            "({}{}{}){}({}{}{})",
            "{}{}(({}{}{}){}{})",
            "{}{}({}{}({}{}{}))",
        ],
    }[len(numbers)]
    found = set()
    for order in set(permutations(numbers)):
        for signs in product(ops, repeat=len(numbers) - 1):
            parts = [str(order[0])]
            for sign, number in zip(signs, order[1:], strict=True):
                parts += [sign, str(number)]
            for shape in shapes:
                try:
                    parsed = evaluate(shape.format(*parts))
                except ValueError:
                    continue
                if parsed.value == target:
                    found.add(canonical_expression(parsed.tree))
    return found


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 9), min_size=2, max_size=3),
    st.integers(-5, 30),
    st.sampled_from(["+-*/", "+-*", "-/", "*/"]),
)
def test_all_solutions_equals_brute_force(numbers: list[int], target: int, ops: str) -> None:
    assert all_solutions(numbers, target, ops) == _brute_force(numbers, target, ops)


@pytest.mark.parametrize(
    ("numbers", "target"), [((3, 3, 8, 8), 24), ((4, 7, 8, 9), 24), ((0, 0, 1, 2), 0)]
)
def test_all_solutions_of_four_numbers(numbers: tuple[int, ...], target: int) -> None:
    solutions = all_solutions(numbers, target)
    assert solutions == _brute_force(numbers, target, "+-*/")
    assert all(is_solution(evaluate(text), numbers, target) for text in solutions)


def test_known_solutions() -> None:
    assert all_solutions([3, 3, 8, 8], 24) == {"8/(3-8/3)"}
    assert all_solutions([8, 14, 18], 12) == {"8+18-14"}
    assert all_solutions([5], 5) == {"5"}
    assert all_solutions([5], 6) == frozenset()


def test_a_solution_uses_every_number_exactly_once() -> None:
    assert is_solution(evaluate("18 - 14 + 8"), [8, 14, 18], 12)
    assert not is_solution(evaluate("18 - 6"), [8, 14, 18], 12)
    assert not is_solution(evaluate("18 - 14 + 8 + 8 - 8"), [8, 14, 18], 12)
    assert not is_solution(evaluate("6*4*1*1"), [2, 3, 8, 8], 24)
