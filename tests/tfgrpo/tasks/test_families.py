"""The generated families: gold, keys, splits, verifiers, readers of strategies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import fields
from itertools import permutations, product
from random import Random

import pytest

from baselines.abacus.solvers import SOLVERS
from tfgrpo.errors import ConfigError, GradingError
from tfgrpo.rewards.expression import canonical_expression, evaluate
from tfgrpo.tasks.families import FAMILIES
from tfgrpo.tasks.families.base import Instance
from tfgrpo.tasks.families.countdown import COUNTDOWN, grade_expression
from tfgrpo.tasks.procedural import FamilyReward, ProceduralTasks, make_task
from tfgrpo.tasks.split import SPLITS, task_id_of
from tfgrpo.types import Score, Task

NAMES = tuple(FAMILIES)
every_family = pytest.mark.parametrize("name", NAMES)

ARABIC = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")
FULL_WIDTH = str.maketrans("0123456789", "０１２３４５６７８９")
GARBAGE = (
    "", "Answer:", "Answer: ", "Answer: ?", "Answer: none", "no idea", "\x00\x1b[31m", "Answer: [",
    "Answer: 0", "Answer: 1", "Answer: 42", "Answer: 1,2,3", "Answer: -5", "Answer: 1e3",
    "Answer: nan", "Answer: __import__('os')", "Answer: 5%", "\\boxed{}", "Answer: 1\nAnswer: 2",
)  # fmt: skip
LONG = (
    "9" * 10_000, "Answer: " + "9" * 10_000, "Answer: " + "1+" * 5_000, "Answer: " + "(" * 10_000,
    "\\boxed{" * 1_500, "Answer: " + "1," * 5_000, "Answer: " + " " * 10_000, "1+1=" * 2_500,
    "= " * 5_000, "Answer: " * 1_250, "ones " * 2_000,
)  # fmt: skip


def drawn(name: str, count: int, seed: int = 0) -> list[Task]:
    rng = Random(seed)
    return [make_task(FAMILIES[name], dict(FAMILIES[name].draw(rng))) for _ in range(count)]


def score(task: Task, text: str) -> Score:
    outcome = FamilyReward().score(task, text)
    assert isinstance(outcome, Score)
    return outcome


def solutions(instance: Instance) -> frozenset[str]:
    assert COUNTDOWN.solutions is not None
    return COUNTDOWN.solutions(instance)


# gold and garbage ---------------------------------------------------------------------------------


@every_family
def test_gold_is_right_and_is_read_without_the_gold(name: str) -> None:
    for task in drawn(name, 300):
        graded = score(task, f"Some steps.\nAnswer: {task.answer}")
        assert (graded.reward, graded.correct) == (1.0, True)
        assert graded.answer == FamilyReward().read(task, f"\\boxed{{{task.answer}}}")


@every_family
def test_the_gold_of_another_problem_is_wrong_unless_it_solves_this_one(name: str) -> None:
    tasks = drawn(name, 300)
    lucky = 0
    for task, other in zip(tasks, [*tasks[1:], tasks[0]], strict=True):
        if score(task, f"Answer: {other.answer}").correct:
            lucky += 1
            golds = solutions(task.metadata["instance"]) if name == "countdown" else {task.answer}
            assert other.answer in golds
    assert lucky <= 3


@every_family
def test_constants_garbage_and_long_texts_are_wrong(name: str) -> None:
    tasks = drawn(name, 20)
    pairs = [*product(tasks, GARBAGE), *product(tasks[:1], LONG)]
    for task, text in pairs:
        graded = score(task, text)
        assert (graded.reward, graded.correct) == (0.0, False), text[:40]


@every_family
def test_only_ascii_digits_are_digits(name: str) -> None:
    for task in drawn(name, 20):
        assert task.answer is not None
        for alphabet in (ARABIC, FULL_WIDTH):
            assert not score(task, f"Answer: {task.answer.translate(alphabet)}").correct


@every_family
def test_two_answers_are_a_hedge(name: str) -> None:
    first, second = drawn(name, 2)
    assert not score(first, f"Answer: {first.answer}\nAnswer: {second.answer}").correct


# ids and splits -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "key"), [("sum", "terms"), ("sort", "numbers"),
                                           ("countdown", "numbers")])  # fmt: skip
def test_order_makes_no_new_problem(name: str, key: str) -> None:
    rng = Random(1)
    for _ in range(30):
        instance = dict(FAMILIES[name].draw(rng))
        task = make_task(FAMILIES[name], instance)
        for order in permutations(instance[key]):
            same = make_task(FAMILIES[name], {**instance, key: list(order)})
            assert (same.task_id, same.split) == (task.task_id, task.split)


def test_other_families_and_other_numbers_are_other_problems() -> None:
    assert task_id_of("sum", "10+20+30") != task_id_of("product", "10+20+30")
    found = {make_task(FAMILIES["sort"], {"numbers": [1, 2, 3, 4, n]}).task_id for n in range(5, 9)}
    assert len(found) == 4


@every_family
def test_no_seed_carries_a_problem_across_splits(name: str) -> None:
    """Generators that index by seed give the tests of seed s as the training of seed s + 1."""
    found = {
        (split, seed): ProceduralTasks([name]).tasks(split, 80 if split == "train" else 16, seed)
        for split in SPLITS
        for seed in (0, 1)
    }
    for one, other in product(found, repeat=2):
        if one[0] != other[0]:
            assert {t.task_id for t in found[one]}.isdisjoint(t.task_id for t in found[other])
            assert keys(found[one]).isdisjoint(keys(found[other]))


def keys(tasks: Sequence[Task]) -> set[str]:
    return {FAMILIES[t.dataset].key(t.metadata["instance"]) for t in tasks}


def test_tasks_are_distinct_seeded_and_of_the_split_asked_for() -> None:
    both = ProceduralTasks(["sum", "countdown"])
    tasks = both.tasks("train", 51, 3)
    assert len({t.task_id for t in tasks}) == 51
    assert {t.split for t in tasks} == {"train"}
    assert Counter(t.dataset for t in tasks) == {"sum": 26, "countdown": 25}
    assert tasks == both.tasks("train", 51, 3)
    assert tasks != both.tasks("train", 51, 4)


@pytest.mark.parametrize(("small", "large"), [(1, 2), (5, 40), (7, 9), (40, 41)])
def test_a_larger_limit_extends_a_smaller_one(small: int, large: int) -> None:
    mixed = ProceduralTasks(NAMES)
    assert mixed.tasks("train", small, 0) == mixed.tasks("train", large, 0)[:small]


def test_a_family_draws_alike_alone_and_in_company() -> None:
    mixed = [t for t in ProceduralTasks(NAMES).tasks("dev", 20, 5) if t.dataset == "sort"]
    assert tuple(mixed) == ProceduralTasks(["sort"]).tasks("dev", 5, 5)


def test_an_unknown_family_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="no task family sums; choose from sum, product"):
        ProceduralTasks(["sum", "sums"])


# the gold withheld --------------------------------------------------------------------------------


@every_family
def test_without_gold_only_the_question_is_left(name: str) -> None:
    task = drawn(name, 1)[0]
    bare = task.without_gold()
    kept = ("task_id", "prompt", "dataset", "split")
    assert {f.name for f in fields(Task)} == {*kept, "answer", "metadata"}
    assert all(getattr(bare, name) == getattr(task, name) for name in kept)
    assert bare.answer is None
    assert dict(bare.metadata) == {}
    with pytest.raises(GradingError, match="grade it by vote"):
        FamilyReward().score(bare, f"Answer: {task.answer}")
    assert FamilyReward().read(bare, f"Answer: {task.answer}") is not None


@pytest.mark.parametrize("name", ["sum", "product", "sort"])
def test_the_most_frequent_answers_are_no_strategy(name: str) -> None:
    """What 64 guesses that ignore the question would get: the floor of pass@64."""
    family = ProceduralTasks([name])
    train = Counter(t.answer for t in family.tasks("train", 3000, 0))
    guesses = {answer for answer, _ in train.most_common(64)}
    test = family.tasks("test", 500, 0)
    share = sum(t.answer in guesses for t in test) / len(test)
    assert share < 0.10, f"64 constant guesses solve {100 * share:.1f}% of {name}"


# strategies ---------------------------------------------------------------------------------------


@every_family
def test_modes_are_the_solvers_styles(name: str) -> None:
    assert set(FAMILIES[name].modes) == set(SOLVERS[name])
    assert len(set(FAMILIES[name].modes)) == 4


@pytest.mark.parametrize(("name", "style"), [(n, s) for n in NAMES for s in SOLVERS[n]])
def test_each_solver_is_read_as_its_own_style(name: str, style: str) -> None:
    rng = Random(2)
    for task in drawn(name, 200, seed=3):
        trace = SOLVERS[name][style](task.metadata["instance"], rng)
        assert FAMILIES[name].read_mode(trace) == style, trace
        assert score(task, trace).mode == style


@pytest.mark.parametrize(
    ("name", "style"),
    [(n, s) for n in NAMES for s in SOLVERS[n]
     if (n, s) not in {("sort", "leading"), ("countdown", "trial"), ("countdown", "pairs")}],
)  # fmt: skip
def test_solvers_who_compute_compute_right(name: str, style: str) -> None:
    rng = Random(4)
    for task in drawn(name, 100, seed=5):
        assert score(task, SOLVERS[name][style](task.metadata["instance"], rng)).correct


@every_family
def test_no_strategy_is_read_off_nothing(name: str) -> None:
    assert FAMILIES[name].read_mode("") is None
    assert FAMILIES[name].read_mode("I do not know.") is None


# countdown ----------------------------------------------------------------------------------------

INSTANCE: Instance = {"numbers": [3, 4, 5, 20], "target": 17}
SHAPES = {
    2: ("{a}{o}{b}",),
    3: ("({a}{o}{b}){p}{c}", "{a}{o}({b}{p}{c})"),
    4: (
        "(({a}{o}{b}){p}{c}){q}{d}", "({a}{o}({b}{p}{c})){q}{d}", "({a}{o}{b}){p}({c}{q}{d})",
        "{a}{o}(({b}{p}{c}){q}{d})", "{a}{o}({b}{p}({c}{q}{d}))",
    ),
}  # fmt: skip


def every_expression(numbers: list[int]) -> Iterator[str]:
    """All orders, all operators and all bracketings, with no thought of equal ones."""
    for size, shapes in SHAPES.items():
        for chosen in permutations(numbers, size):
            for operators in product("+-*", repeat=size - 1):
                names = dict(zip("abcd", chosen, strict=False)) | dict(
                    zip("opq", operators, strict=False)
                )
                yield from (shape.format(**names) for shape in shapes)


def test_solutions_are_those_of_a_brute_force() -> None:
    rng = Random(6)
    instances = [*(COUNTDOWN.draw(rng) for _ in range(3)), {"numbers": [2, 2, 3, 3], "target": 12}]
    for instance in instances:
        hits = {e for e in every_expression(instance["numbers"]) if eval(e) == instance["target"]}
        canonical = {canonical_expression(evaluate(hit).tree) for hit in hits}
        assert canonical == solutions(instance)
        assert len(canonical) > 1


def test_every_solution_is_right_and_keeps_its_name() -> None:
    for task in drawn("countdown", 15, seed=7):
        for solution in solutions(task.metadata["instance"]):
            graded = score(task, f"Answer: {solution}")
            assert graded.correct
            assert graded.answer == solution


def test_the_gold_is_one_of_the_solutions() -> None:
    for task in drawn("countdown", 50, seed=8):
        assert task.answer in solutions(task.metadata["instance"])


def test_orders_of_one_solution_have_one_name() -> None:
    texts = ("3*4+5", "5+4*3", "(5+(3*4))", "3 * 4 + 5 = 17", "3×4+5")
    assert {grade_expression(INSTANCE, text) for text in texts} == {(True, "5+3*4")}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("20-3", "right"),
        ("5+3*4", "right"),
        ("4*4+1", "a foreign number"),
        ("3*3+4+4", "numbers twice"),
        ("12+5", "a foreign number"),
        ("17", "no calculation"),
        ("20/4+3*4", "division"),
        ("(20-3)*4/4", "division and a number twice"),
        ("20÷4+3*4", "division"),
        ("20-4", "another value"),
        ("20--3", "unary minus"),
        ("2**4+1", "a power"),
        ("", "nothing"),
    ],
)
def test_the_rules_of_the_game(text: str, why: str) -> None:
    assert grade_expression(INSTANCE, text)[0] == (why == "right")


def test_a_single_number_is_no_solution_even_if_it_is_the_target() -> None:
    assert grade_expression({"numbers": [3, 4, 5, 20], "target": 20}, "20") == (False, "20")
    assert all(t.metadata["instance"]["target"] not in t.metadata["instance"]["numbers"]
               for t in drawn("countdown", 100))  # fmt: skip
