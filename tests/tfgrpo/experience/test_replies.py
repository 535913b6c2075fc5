"""Reading model replies. Names state the rule; several were bugs of earlier systems."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfgrpo.experience.edits import Add, Delete, Edit, Keep, Merge, Modify
from tfgrpo.experience.guard import clean
from tfgrpo.experience.library import EditContext, ExperienceLibrary
from tfgrpo.experience.replies import (
    find_json,
    json_schema,
    parse_operations,
    render_operations,
)
from tfgrpo.types import FinishReason

LIST = '[{"op": "add", "text": "Check parity."}, {"op": "delete", "id": "E2"}]'
EDITS = (Add("Check parity."), Delete("E2"))


def codes(text: str, finish_reason: FinishReason = "stop") -> list[str]:
    return [problem.code for problem in parse_operations(text, finish_reason).problems]


def only(text: str) -> Edit:
    parsed = parse_operations(text)
    assert parsed.problems == ()
    (edit,) = parsed.edits
    return edit


@pytest.mark.parametrize(
    "reply",
    [
        LIST,
        f'{{"operations": {LIST}}}',
        f'{{"contrast": "...", "ops": {LIST}, "dropped": []}}',
        f'{{"decisions": {LIST}}}',
        f'{{"edits": {LIST}}}',
        f"<think>maybe [1] or {{'a'}}, ```json\n[]\n```</think>\n{LIST}",
        f"the template opened the thought</think>{LIST}",
        f"Here you are:\n```json\n{LIST}\n```\nDone.",
        f"```\n{LIST}\n```",
        f"```python\n{LIST}```",
        f'First idea:\n```json\n[{{"op": "keep", "id": "E1"}}]\n```\nFinal:\n```json\n{LIST}\n```',
        f'Draft: [{{"op": "keep", "id": "E1"}}] but better {LIST}, as E2 is wrong [E2].',
        f"Since \\frac{{1}}{{2}} and [E1] agree: {LIST} That leaves nothing else: [].",
        '{"op": "add", "text": "Check parity."}\n{"op": "delete", "id": "E2"}',
        f"```json\n{LIST}",
        f'First:\n```json\n[{{"op": "keep", "id": "E1"}}]\n```\nFinal:\n```json\n{LIST}',
        f'```\nnotes\n```\n[{{"op": "keep", "id": "E1"}}]\n```json\n{LIST}',
        LIST.replace("}]", "},]").replace('y."}', 'y.",}'),
        LIST.replace("[{", "[ // all of it\n{").replace("}]", "} /* no more */ # end\n]"),
        LIST.replace("}]", "}, ...]"),
        LIST.replace("}]", "}, \u2026]"),
        LIST.replace('"', "'"),
        LIST.replace('"op"', "\u201cop\u201d").replace('"add"', "\u201cadd\u201d"),
        LIST.replace('"E2"', '"E2", "text": None, "sure": True, "odd": False'),
        f'Take care with {{"x" in prose.\n```json\n{LIST}\n```',
    ],
)
def test_a_list_is_found_in_whatever_surrounds_it(reply: str) -> None:
    parsed = parse_operations(reply)
    assert (parsed.edits, parsed.problems) == (EDITS, ())


def test_latex_backslashes_and_raw_line_breaks_do_not_break_a_text() -> None:
    assert only('[{"op": "add", "text": "Use \\sqrt{x}\nand \\{1\\}."}]') == Add(
        "Use \\sqrt{x} and \\{1\\}."
    )


def test_quotes_inside_other_quotes_survive_repair() -> None:
    assert only("""[{'op': 'add', 'text': 'Don\\'t say "easy".'}]""") == Add('Don\'t say "easy".')


@pytest.mark.parametrize(
    ("item", "edit"),
    [
        ({"option": "add", "experience": "x"}, Add("x")),
        ({"operation": "ADD", "content": "x", "id": None}, Add("x")),
        ({"Action": "Create", "lesson": "x"}, Add("x")),
        ({"op": "modify", "modified_from": "E7", "experience": "x"}, Modify("E7", "x")),
        ({"operation": "UPDATE", "id": "[e07].", "content": "x"}, Modify("E7", "x")),
        ({"op": "revise", "target_id": 7, "text": "x"}, Modify("E7", "x")),
        ({"op": "Edit", "target": "E7.", "text": "x"}, Modify("E7", "x")),
        ({"op": "merge", "merged_from": ["E1", "exp 2"], "text": "x"}, Merge(("E1", "E2"), "x")),
        ({"op": "merge", "ids": "E1, E2", "text": "x"}, Merge(("E1", "E2"), "x")),
        ({"operation": "DELETE", "id": "E3", "content": None}, Delete("E3")),
        ({"op": "remove", "targets": ["E3"]}, Delete("E3")),
        ({"op": "NONE", "id": None}, Keep("")),
        ({"op": "no change", "id": "E3"}, Keep("E3")),
        ({"op": "noop", "target": "E3", "why": "fits"}, Keep("E3", reason="fits")),
    ],
)
def test_fields_and_verbs_have_aliases(item: dict[str, Any], edit: Edit) -> None:
    assert only(json.dumps([item])) == edit
    assert only(json.dumps(item)) == edit


@pytest.mark.parametrize(
    ("item", "edit"),
    [
        ({"op": "add", "text": "x", "from": ["C1", "c2."]}, Add("x", evidence=("C1", "C2"))),
        (
            {"op": "modify", "id": "E1", "from": ["C3"], "text": "x"},
            Modify("E1", "x", evidence=("C3",)),
        ),
        (
            {"op": "merge", "targets": ["E1", "E2", "C3"], "text": "x"},
            Merge(("E1", "E2"), "x", evidence=("C3",)),
        ),
        ({"op": "merge", "from": ["C1", "C3"], "text": "x"}, Add("x", evidence=("C1", "C3"))),
        (
            {"op": "add", "text": "x", "evidence_pos": ["A1"], "evidence_neg": [2]},
            Add("x", evidence=("A1", "2")),
        ),
    ],
)
def test_candidate_ids_are_evidence_and_never_targets(item: dict[str, Any], edit: Edit) -> None:
    assert only(json.dumps(item)) == edit


def test_a_bare_number_beside_candidates_is_not_guessed_at() -> None:
    item = {"op": "merge", "from": ["C1", "2"], "text": "Check units."}
    edit = only(json.dumps(item))
    assert edit == Merge(("2",), "Check units.", evidence=("C1",))
    applied = ExperienceLibrary.empty().by_hand(Add("Try small cases."), Add("See parity.")).library
    outcome = applied.apply([edit], EditContext(0, "m", "v")).outcomes[0]
    assert outcome.code == "E_UNKNOWN_ID"


def test_one_item_may_delete_several_but_not_rewrite_several() -> None:
    reply = '[{"op": "delete", "ids": ["E1", "E2"]}, {"op": "modify", "ids": [1, 2], "text": "x"}]'
    assert parse_operations(reply).edits == (Delete("E1"), Delete("E2"))
    assert codes(reply) == ["E_MANY_TARGETS"]


def test_what_is_no_operation_is_named_and_costs_the_others_nothing() -> None:
    reply = json.dumps(
        [
            "add x",
            None,
            {"op": "replace", "text": "x"},
            {"text": "x"},
            {"op": "add", "text": ["x"]},
            {"op": "delete", "id": {"E": 1}},
            {"op": "delete", "id": True},
            {"op": "delete", "id": "E1"},
        ]
    )
    assert parse_operations(reply).edits == (Delete("E1"),)
    assert codes(reply) == [
        "E_NOT_OBJECT",
        "E_NOT_OBJECT",
        "E_UNKNOWN_OP",
        "E_UNKNOWN_OP",
        "E_BAD_FIELD",
        "E_BAD_FIELD",
        "E_BAD_FIELD",
    ]


@pytest.mark.parametrize("reply", ["[]", '{"operations": []}', "```json\n[]\n```", "None: []"])
def test_an_empty_list_is_an_answer(reply: str) -> None:
    parsed = parse_operations(reply)
    assert (parsed.edits, parsed.problems) == ((), ())


@pytest.mark.parametrize("reply", ["", "No change is needed.", "42", '"add"', "See [E3] and {x}."])
def test_a_reply_without_json_is_a_problem_of_its_own(reply: str) -> None:
    assert codes(reply) == ["E_NO_JSON"]


def test_a_missing_text_or_target_is_left_for_the_library_to_refuse() -> None:
    reply = '[{"op": "add"}, {"op": "modify", "text": "Check units."}, {"op": "merge"}]'
    edits = parse_operations(reply).edits
    applied = ExperienceLibrary.empty().apply(edits, EditContext(0, "m", "v"))
    assert [o.code for o in applied.outcomes] == ["E_EMPTY", "E_UNKNOWN_ID", "E_UNKNOWN_ID"]


@pytest.mark.parametrize("cut", range(1, len(LIST)))
@pytest.mark.parametrize("frame", ["{}", "```json\n{}", '{{"operations": {}', "Draft: [{{}}]. {}"])
def test_nothing_is_taken_from_a_list_that_is_not_closed(cut: int, frame: str) -> None:
    reply = frame.format(LIST[:cut])
    assert parse_operations(reply, "length").edits == ()
    assert codes(reply, "length") == ["E_TRUNCATED"]
    assert parse_operations(reply, "stop").edits == ()


def test_a_fenced_draft_before_a_truncated_list_is_not_applied() -> None:
    assert codes(f"```json\n{LIST}\n```\nBetter:\n```json\n{LIST[:-5]}", "length") == [
        "E_TRUNCATED"
    ]
    assert codes(f"```json\n{LIST}\n```\nBetter: {LIST[:-5]}") == ["E_TRUNCATED"]
    assert codes(f"Of {{'x:\n```json\n{LIST}\n```\nBetter:\n```json\n{LIST[:-5]}") == [
        "E_TRUNCATED"
    ]


def test_nothing_is_taken_from_the_middle_of_a_malformed_list() -> None:
    reply = '[{"op": "add", "text": "x"}} and {"op": "delete", "id": "E2"}]'
    assert parse_operations(reply).edits == ()
    assert codes(reply) == ["E_NO_JSON"]


def test_a_closed_list_is_whole_even_if_the_reply_then_ran_out() -> None:
    assert parse_operations(f"{LIST} Moreover,", "length").edits == EDITS


def test_a_reply_that_ran_out_while_thinking_is_truncated() -> None:
    assert codes(f"<think>perhaps {LIST}", "length") == ["E_TRUNCATED"]
    assert codes(f"<think>perhaps {LIST}") == ["E_NO_JSON"]


def test_a_draft_inside_a_thought_is_not_applied_whatever_precedes_the_thought() -> None:
    assert codes(f"[] <think>perhaps {LIST}</think> I cannot tell.") == []
    assert parse_operations(f"[] <think>perhaps {LIST}</think> I cannot tell.").edits == ()


def test_markup_inside_a_complete_document_is_text_and_no_thought() -> None:
    assert only('[{"op": "add", "text": "Close <think> before answering."}]') == Add(
        "Close <think> before answering."
    )


def test_a_copied_label_does_not_become_part_of_the_lesson() -> None:
    assert only('[{"op": "add", "text": "[E12] Check units."}]') == Add("Check units.")


def test_find_json_serves_replies_of_other_shapes() -> None:
    assert find_json('So: {"steps": [1, 2,], "error": None}') == (
        {"steps": [1, 2], "error": None},
        None,
    )
    document, problem = find_json("nothing")
    assert document is None
    assert problem is not None
    assert problem.code == "E_NO_JSON"


MB = 1_000_000


@pytest.mark.parametrize(
    "bomb",
    [
        "[" * MB,
        "{" * MB,
        '{"a":' * (MB // 5),
        "[" * (MB // 2) + "]" * (MB // 2),
        '[{"' * (MB // 3),
        "<think>" * (MB // 7),
        "</think>" * (MB // 8),
        "```" * (MB // 3),
        "```x\n" * (MB // 5),
        "[/*" * (MB // 3),
        "/*[" * (MB // 3),
        '["' + "\\" * MB,
        "['" + '"' * MB,
        '[{"' + "\u201c" * MB,
        "[ " * (MB // 2),
        "[" + " " * MB,
        "[" + "." * MB,
        "[" + "9" * MB + "]",
        '[{"op": "add", "text": "' + "x " * (MB // 2) + '"}]',
        '{"op":"add"}' * (MB // 60),
        '[{"op": "merge", "targets": [' + ",".join(['"C1", 2'] * (MB // 40)) + "]}]",
    ],
    ids=lambda bomb: ascii(bomb[:8]),
)
def test_a_megabyte_of_hostile_text_is_read_without_recursion_or_blow_up(bomb: str) -> None:
    """Quadratic work would take hours here; the test has no clock but would not come back."""
    parsed = parse_operations(bomb, "stop")
    assert parsed.edits or parsed.problems


@given(st.text(), st.sampled_from(["stop", "length", "content_filter", "other"]))
def test_any_text_at_all_is_answered(text: str, finish_reason: FinishReason) -> None:
    parse_operations(text, finish_reason)


@settings(max_examples=300)
@given(st.text(alphabet="[]{}\"',:/*#\\.\u201c\u201d`\nE1adop ", max_size=60))
def test_any_text_of_json_debris_is_answered(text: str) -> None:
    parse_operations(text)


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(st.integers(0, len(LIST)), st.sampled_from(["", '"', "]", "{", "\\", ",", "'"])),
        max_size=4,
    )
)
def test_mutated_json_yields_only_edits_that_the_library_can_judge(
    mutations: list[tuple[int, str]],
) -> None:
    text = LIST
    for at, new in mutations:
        text = text[:at] + new + text[at + 1 :]
    parsed = parse_operations(text)
    applied = ExperienceLibrary.empty().apply(parsed.edits, EditContext(0, "m", "v"))
    assert len(applied.outcomes) == len(parsed.edits)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["op", "text", "ids", "operations", "x"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_json_is_answered(document: Any) -> None:
    parse_operations(json.dumps(document))


LINES = st.text(max_size=30).map(clean).filter(lambda text: not text.startswith("["))
IDS = st.integers(1, 99).map(lambda n: f"E{n}")
BACKING: dict[str, st.SearchStrategy[Any]] = {
    "reason": LINES,
    "evidence": st.lists(
        st.sampled_from(["C1", "C2", "A0", "task-1"]), max_size=3, unique=True
    ).map(tuple),
}
WELL_FORMED: st.SearchStrategy[Edit] = st.one_of(
    st.builds(Add, LINES, **BACKING),
    st.builds(Modify, IDS, LINES, **BACKING),
    st.builds(Merge, st.lists(IDS, max_size=3, unique=True).map(tuple), LINES, **BACKING),
    st.builds(Delete, IDS, **BACKING),
    st.builds(Keep, IDS, **BACKING),
)


@given(st.lists(WELL_FORMED, max_size=4))
def test_rendered_edits_read_back_as_themselves(edits: list[Edit]) -> None:
    parsed = parse_operations(render_operations(edits))
    assert (parsed.edits, parsed.problems) == (tuple(edits), ())


@given(st.lists(WELL_FORMED, max_size=3))
def test_rendered_edits_obey_the_schema_that_models_are_given(edits: list[Edit]) -> None:
    operation = json_schema()["properties"]["operations"]["items"]
    for row in json.loads(render_operations(edits))["operations"]:
        assert set(row) == set(operation["required"]) == set(operation["properties"])
        assert row["op"] in operation["properties"]["op"]["enum"]
        assert isinstance(row["text"], str | None)


def test_the_schema_is_strict_and_flat() -> None:
    def objects(schema: Any) -> list[dict[str, Any]]:
        if not isinstance(schema, dict):
            return []
        here = [schema] if schema.get("type") == "object" else []
        return here + [found for value in schema.values() for found in objects(value)]

    found = objects(json_schema())
    assert len(found) == 2
    assert all(o["additionalProperties"] is False for o in found)
    assert all(o["required"] == list(o["properties"]) for o in found)
    assert not any(word in json.dumps(json_schema()) for word in ("$ref", "oneOf", "anyOf"))
