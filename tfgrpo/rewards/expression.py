"""Arithmetic expressions: parse without evaluation, exact value, canonical form, all solutions.

Model text reaches `ast.parse` only after a full match against a small alphabet, and nothing is ever
executed: underscores, hexadecimal, comments, names, calls, powers and floor division all fail.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from typing import TypeAlias

MAX_CHARACTERS = 64

_ALPHABET = re.compile(rf"[0-9+*/() \-]{{1,{MAX_CHARACTERS}}}")
_TO_ASCII = str.maketrans("×÷−", "*/-")
_OPERATORS: Mapping[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
}
_APPLY: Mapping[str, Callable[[Fraction, Fraction], Fraction]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
}


@dataclass(frozen=True, slots=True)
class Operation:
    """`left operator right`, with one of `+ - * /`."""

    operator: str
    left: Tree
    right: Tree


Tree: TypeAlias = int | Operation


@dataclass(frozen=True, slots=True)
class ParsedExpression:
    """`leaves` are the written integers from left to right."""

    value: Fraction
    leaves: tuple[int, ...]
    tree: Tree


def evaluate(text: str) -> ParsedExpression:
    """Parse an expression over non-negative integers with binary `+ - * /` (also `× ÷ −`).

    Raises ValueError for anything else, for more than 64 characters and for a division by zero.
    """
    text = text.strip(" ")
    if len(text) <= MAX_CHARACTERS:
        text = text.translate(_TO_ASCII)
    if not _ALPHABET.fullmatch(text):
        raise ValueError(f"not an arithmetic expression of at most {MAX_CHARACTERS} characters")
    try:
        body = ast.parse(text, mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"not a well-formed expression: {text}") from error
    leaves: list[int] = []
    value, tree = _read(body, leaves)
    return ParsedExpression(value, tuple(leaves), tree)


def is_solution(expression: ParsedExpression, numbers: Sequence[int], target: int) -> bool:
    """Whether the expression uses each of `numbers` exactly once and equals `target`."""
    return expression.value == target and sorted(expression.leaves) == sorted(numbers)


def canonical_expression(tree: Tree) -> str:
    """The normal form of `tree` modulo commutativity and associativity, itself an expression.

    Sums are flattened to signed terms and products to factors and divisors, each part sorted by
    length and then alphabet: `5-(3-4)` and `4+5-3` are one, and so are `6/(3/4)` and `4*6/3`.
    Nothing else is merged: not distribution, not the unit (`a*1`, `a/1`), and not products whose
    signs cancel (`(a-b)*(c-d)` and `(b-a)*(d-c)`).
    """
    if isinstance(tree, int):
        return str(tree)
    signed = tree.operator in "+-"
    forward, backward = ("+", "-") if signed else ("*", "/")
    parts: dict[bool, list[str]] = {False: [], True: []}
    for inverted, part in _flatten(tree, forward + backward, inverted=False):
        text = canonical_expression(part)
        bracketed = not signed and isinstance(part, Operation)
        parts[inverted].append(f"({text})" if bracketed else text)
    plus, minus = (sorted(parts[key], key=lambda t: (len(t), t)) for key in (False, True))
    return forward.join(plus) + "".join(backward + text for text in minus)


def all_solutions(numbers: Sequence[int], target: int, ops: str = "+-*/") -> frozenset[str]:
    """Canonical forms of every expression that uses each number exactly once and equals `target`.

    Dynamic programming over subsets that merges equal forms early: milliseconds for four numbers.
    Not for more than five, because the forms of n numbers are 6, 68, 1260 for n = 2, 3, 4.
    """
    everything = frozenset(range(len(numbers)))
    if len(numbers) < 2:
        return frozenset(str(n) for n in numbers if n == target)
    reachable: dict[frozenset[int], _Forms] = {
        frozenset({i}): {Fraction(n): {str(n): n}} for i, n in enumerate(numbers)
    }
    for size in range(2, len(numbers)):
        for chosen in combinations(range(len(numbers)), size):
            subset = frozenset(chosen)
            reachable[subset] = _combine(subset, reachable, ops)
    found: set[str] = set()
    for part in _proper_subsets(everything):
        rest = reachable[everything - part]
        for a, left in reachable[part].items():
            for operator, b in _partners(a, Fraction(target), rest, ops):
                for x in left.values():
                    for y in rest[b].values():
                        found.add(canonical_expression(Operation(operator, x, y)))
    return frozenset(found)


_Forms: TypeAlias = dict[Fraction, dict[str, Tree]]


def _read(node: ast.expr, leaves: list[int]) -> tuple[Fraction, Tree]:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        leaves.append(node.value)
        return Fraction(node.value), node.value
    if not isinstance(node, ast.BinOp) or type(node.op) not in _OPERATORS:
        raise ValueError("only integers and the binary operators + - * / are allowed")
    operator = _OPERATORS[type(node.op)]
    (a, left), (b, right) = _read(node.left, leaves), _read(node.right, leaves)
    if operator == "/" and b == 0:
        raise ValueError("division by zero")
    return _APPLY[operator](a, b), Operation(operator, left, right)


def _flatten(tree: Tree, family: str, inverted: bool) -> list[tuple[bool, Tree]]:
    if isinstance(tree, int) or tree.operator not in family:
        return [(inverted, tree)]
    flipped = inverted != (tree.operator == family[1])
    return _flatten(tree.left, family, inverted) + _flatten(tree.right, family, flipped)


def _proper_subsets(items: frozenset[int]) -> list[frozenset[int]]:
    return [
        frozenset(chosen)
        for size in range(1, len(items))
        for chosen in combinations(sorted(items), size)
    ]


def _combine(
    subset: frozenset[int], reachable: Mapping[frozenset[int], _Forms], ops: str
) -> _Forms:
    forms: _Forms = {}
    for part in _proper_subsets(subset):
        for a, left in reachable[part].items():
            for b, right in reachable[subset - part].items():
                for operator in ops:
                    if operator == "/" and b == 0:
                        continue
                    trees = forms.setdefault(_APPLY[operator](a, b), {})
                    for x in left.values():
                        for y in right.values():
                            tree = Operation(operator, x, y)
                            trees.setdefault(canonical_expression(tree), tree)
    return forms


def _partners(a: Fraction, target: Fraction, rest: _Forms, ops: str) -> list[tuple[str, Fraction]]:
    """Every (operator, b) with `a operator b = target` and b among `rest`."""
    wanted = {"+": target - a, "-": a - target}
    if a:
        wanted["*"] = target / a
        if target:
            wanted["/"] = a / target
    pairs = [(op, b) for op, b in wanted.items() if op in ops and b in rest]
    if not a and not target:
        pairs += [("*", b) for b in rest if "*" in ops]
        pairs += [("/", b) for b in rest if b and "/" in ops]
    return pairs
