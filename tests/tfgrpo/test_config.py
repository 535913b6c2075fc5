"""Every problem of a configuration at once, each with its key; shorthands; round trips."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tfgrpo.config import (
    AbacusSpec,
    CodeReward,
    CustomReward,
    EvalSpec,
    FewShot,
    Gold,
    LearnSpec,
    OpenAISpec,
    ProceduralSpec,
    SamplingSpec,
    TransformersSpec,
    Vote,
    parse_model,
    parse_tasks,
)
from tfgrpo.errors import ConfigError
from tfgrpo.settings import dump, known_keys, load, merged, to_toml
from tfgrpo.types import SamplingParams

TOML = """
tasks = "sum,countdown"
group_size = 4
[model]
kind = "openai"
model = "gpt-5-mini"
base_url = "http://localhost:8000/v1"
[sampling]
temperature = 1
"""


def problems(*overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(LearnSpec, overrides=overrides)
    first, *lines, last = str(caught.value).split("\n")
    assert first.startswith("The configuration has")
    assert last == "Correct the file or the options."
    return [line.strip() for line in lines]


def write(folder: Path, text: str) -> Path:
    path = folder / "spec.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_file_and_overrides_in_this_order(tmp_path: Path) -> None:
    spec = load(
        LearnSpec,
        write(tmp_path, TOML),
        overrides=["model.model=gpt-5", "epochs=2", "sampling.stop=['###']"],
        defaults={"epochs": 7, "group_size": 7, "seed": 7},
    )
    assert spec.tasks == ProceduralSpec(families=("sum", "countdown"))
    assert spec.model == OpenAISpec(model="gpt-5", base_url="http://localhost:8000/v1")
    assert spec.sampling == SamplingSpec(temperature=1.0, stop=("###",))
    assert (spec.epochs, spec.group_size, spec.seed) == (2, 4, 7)


def test_all_problems_are_told_at_once_each_with_its_key() -> None:
    assert problems(
        "tasks=sum",
        "group_siz=4",
        "temperature=0.5",
        "sampling.top_p=2",
        'epochs="8"',
        "seed=true",
        "dropout=nan",
        "model.kind=opena",
        "evidence.min_share=0.2",
        "pack=[1",
        "noequals",
        "quite_other=1",
    ) == [
        "pack: [1 is no TOML value (Unclosed array (at end of document))",
        "--set noequals: write KEY=VALUE, for example --set sampling.top_p=0.95",
        "model.kind: 'opena' is none of abacus, transformers, vllm, openai; did you mean openai?",
        "evidence.min_share: belongs to another kind of evidence; set evidence.kind first",
        "sampling.top_p: should be less than or equal to 1, not 2",
        'epochs: should be a valid integer, not "8"',
        "dropout: should be a finite number, not NaN",
        "seed: should be a valid integer, not true",
        "group_siz: unknown key; did you mean group_size?",
        "temperature: unknown key; did you mean sampling.temperature?",
        f"quite_other: unknown key; known are {', '.join(LearnSpec.model_fields)}",
    ]


def test_keys_inside_a_variant_lose_its_tag() -> None:
    assert problems(
        "tasks={kind='procedural', familes=['sum']}", "reflector.kind=transformers"
    ) == [
        "tasks.families: is missing",
        "tasks.familes: unknown key; did you mean tasks.families?",
        "reflector.path: is missing",
    ]
    assert problems("tasks.families=['sum']")[0] == "tasks.kind: is missing"
    assert problems("tasks={kind='procedural', families=['sum', 3]}") == [
        "tasks.families.1: should be a valid string, not 3"
    ]


def test_a_bad_shorthand_is_one_problem() -> None:
    assert problems("tasks=sum,,countdown", "model=gpt") == [
        "tasks: 'sum,,countdown' names no tasks; write FAMILY,FAMILY or jsonl:PATH or "
        "hf:ID[:SUBSET] or gym:NAME or set:NAME[@PATH] or MODULE:FUNCTION or plugin:NAME.",
        "model: 'gpt' names no model; write abacus, the folder of a training run, hf/PATH-OR-ID, "
        "vllm/PATH-OR-ID, openai/NAME or NAME@http://URL.",
    ]


def test_one_problem_is_no_plural() -> None:
    with pytest.raises(ConfigError, match=r"^The configuration has a problem:\n  tasks: is miss"):
        load(LearnSpec)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("plain", "plain"),
        ("two words", "two words"),
        ('"quoted"', "quoted"),
        ("a=b", "a=b"),
        ("1.2.3", "1.2.3"),
        ('x"\nseed = 5', 'x"\nseed = 5'),
        ("1\nseed = 5", "1\nseed = 5"),
    ],
)
def test_bare_strings_need_no_quotes(raw: str, expected: str) -> None:
    assert load(LearnSpec, overrides=["tasks=sum", f"pack={raw}"]).pack == expected


def test_changing_the_kind_drops_the_keys_of_the_old_variant(tmp_path: Path) -> None:
    spec = load(LearnSpec, write(tmp_path, TOML), overrides=["model.kind=abacus"])
    assert spec.model == AbacusSpec()
    spec = load(LearnSpec, write(tmp_path, TOML), ["model=hf/some/model", "model.dtype=float32"])
    assert spec.model == TransformersSpec(path="some/model", dtype="float32")


def test_a_default_variant_is_set_key_by_key() -> None:
    spec = load(LearnSpec, overrides=["tasks=sum", "model.max_batch_rows=4", "evidence=vote"])
    assert spec.model == AbacusSpec(max_batch_rows=4)
    assert spec.evidence == Vote(min_share=0.5)
    policy = load(EvalSpec, overrides=["tasks=sum", "policy=fewshot", "policy.shots=2"]).policy
    assert policy == FewShot(shots=2)


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("sum", {"kind": "procedural", "families": ["sum"]}),
        ("sum, countdown", {"kind": "procedural", "families": ["sum", "countdown"]}),
        ("jsonl:a/b.jsonl", {"kind": "jsonl", "path": "a/b.jsonl"}),
        ("jsonl:C:odd", {"kind": "jsonl", "path": "C:odd"}),
        ("hf:openai/gsm8k", {"kind": "hub", "dataset": "openai/gsm8k"}),
        ("hf:openai/gsm8k:main", {"kind": "hub", "dataset": "openai/gsm8k", "subset": "main"}),
        ("gym:chain_sum", {"kind": "gym", "name": "chain_sum"}),
        ("set:gsm8k", {"kind": "set", "name": "gsm8k"}),
        ("set:gsm8k@a@b.jsonl", {"kind": "set", "name": "gsm8k", "path": "a@b.jsonl"}),
        ("mine.tasks:Source.load", {"kind": "custom", "target": "mine.tasks:Source.load"}),
        ("plugin:my-own", {"kind": "custom", "target": "plugin:my-own"}),
    ],
)
def test_task_strings(text: str, table: dict[str, Any]) -> None:
    assert parse_tasks(text) == table
    assert dump(load(EvalSpec, overrides=[f"tasks={text}"]).tasks).items() >= table.items()


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("abacus", {"kind": "abacus"}),
        ("hf/Qwen/Qwen3-0.6B", {"kind": "transformers", "path": "Qwen/Qwen3-0.6B"}),
        ("hf/./weights", {"kind": "transformers", "path": "./weights"}),
        ("vllm/Qwen/Qwen3-0.6B", {"kind": "vllm", "path": "Qwen/Qwen3-0.6B"}),
        ("openai/gpt-5-mini", {"kind": "openai", "model": "gpt-5-mini"}),
        (
            "Qwen/Q3@https://host:8000/v1",
            {"kind": "openai", "model": "Qwen/Q3", "base_url": "https://host:8000/v1"},
        ),
    ],
)
def test_model_strings(text: str, table: dict[str, Any]) -> None:
    assert parse_model(text) == table
    spec = load(EvalSpec, overrides=["tasks=sum", f"model={text}"])
    assert dump(spec.model).items() >= table.items()


@pytest.mark.parametrize(
    "text", ["", "gpt", "openai/", "hf/", "vllm/", "@http://x", "name@host", "abacus/x"]
)
def test_strings_that_name_no_model(text: str) -> None:
    with pytest.raises(ConfigError, match="names no model"):
        parse_model(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ",",
        "sum,",
        "jsonl:",
        "hf:",
        "hf:a:",
        "gym:",
        "set:",
        "set:a@",
        "set:@a",
        "a://x",
        "a:b:c",
    ],
)
def test_strings_that_name_no_tasks(text: str) -> None:
    with pytest.raises(ConfigError, match="names no tasks"):
        parse_tasks(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("words", "words"),
        ("mine:grade", {"kind": "custom", "target": "mine:grade", "style": "tfgrpo"}),
        ("trl-chat:a.b:f", {"kind": "custom", "target": "a.b:f", "style": "trl-chat"}),
        ("dspy:plugin:x", {"kind": "custom", "target": "plugin:x", "style": "dspy"}),
    ],
)
def test_reward_strings(text: str, value: object) -> None:
    reward = dump(load(EvalSpec, overrides=["tasks=sum", f"reward={text}"]))["reward"]
    assert reward == value or reward.items() >= value.items()  # type: ignore[attr-defined]
    spec = load(LearnSpec, overrides=["tasks=sum", f"reward={text}"])
    assert load(LearnSpec, defaults=dump(spec)) == spec


def test_a_reward_is_set_key_by_key_and_can_be_taken_back() -> None:
    own = ["tasks=sum", "reward=mine:grade", "reward.threshold=0.5"]
    assert load(EvalSpec, overrides=own).reward == CustomReward(target="mine:grade", threshold=0.5)
    assert load(EvalSpec, overrides=[*own, "reward=exact"]).reward == "exact"
    assert load(EvalSpec, overrides=["tasks=sum"]).reward == "exact"


def test_rewards_that_nobody_knows() -> None:
    for text in ("sympy", "", "trl:f", "mine:", "trl:a:b:c"):
        (said,) = problems("tasks=sum", f"reward={text}")
        assert said.startswith(f"reward: '{text}' names no reward; write exact, numeric,")
    assert problems("tasks=sum", "reward={kind='custom', target='f'}") == [
        'reward.target: should be MODULE:FUNCTION or plugin:NAME, not "f"'
    ]
    assert problems("tasks=sum", "reward=mine:grade", "reward.treshold=1") == [
        "reward.treshold: unknown key; did you mean reward.threshold?"
    ]


def test_code_runs_only_where_it_is_allowed() -> None:
    (said,) = problems("tasks=sum", "reward=code")
    assert "--set reward.allow_code_execution=true" in said
    spec = load(
        LearnSpec, overrides=["tasks=sum", "reward=code", "reward.allow_code_execution=true"]
    )
    assert spec.reward == CodeReward(allow_code_execution=True)


def test_unreadable_files_are_told_with_their_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(LearnSpec, tmp_path / "missing.toml")
    with pytest.raises(ConfigError, match=r"spec\.toml is no TOML: .*end of document"):
        load(LearnSpec, write(tmp_path, "tasks = "))
    (tmp_path / "spec.toml").write_bytes(b'pack = "\xff"')
    with pytest.raises(ConfigError, match="is no TOML"):
        load(LearnSpec, tmp_path / "spec.toml")


LEARN_SPECS = st.builds(
    LearnSpec,
    tasks=st.builds(ProceduralSpec, families=st.lists(st.text(min_size=1), min_size=1)),
    model=st.builds(AbacusSpec) | st.builds(OpenAISpec, model=st.text(min_size=1)),
    reflector=st.none() | st.builds(TransformersSpec, path=st.text(min_size=1)),
    evidence=st.builds(Gold) | st.builds(Vote, min_share=st.floats(0, 1)),
    sampling=st.builds(
        SamplingSpec,
        temperature=st.floats(0, 2),
        max_tokens=st.integers(1, 9999),
        stop=st.lists(st.text(), max_size=3),
    ),
    seed=st.integers(-(2**63), 2**63 - 1),
)


@given(LEARN_SPECS)
def test_a_dumped_spec_loads_as_itself(spec: LearnSpec) -> None:
    assert load(LearnSpec, defaults=dump(spec)) == spec


@given(spec=LEARN_SPECS)
def test_toml_loads_as_itself(tmp_path_factory: pytest.TempPathFactory, spec: LearnSpec) -> None:
    path = write(tmp_path_factory.getbasetemp(), to_toml(spec))
    assert load(LearnSpec, path) == spec


@given(st.lists(st.sampled_from(["tasks=sum", "epochs=x", "seed=1", "a.b=c", "model=?", "pack"])))
def test_whatever_is_set_ends_in_a_spec_or_one_config_error(overrides: list[str]) -> None:
    bad = {"epochs=x", "a.b=c", "model=?", "pack"} & set(overrides)
    if bad or "tasks=sum" not in overrides:
        with pytest.raises(ConfigError):
            load(LearnSpec, overrides=overrides)
    else:
        assert load(LearnSpec, overrides=overrides).tasks == ProceduralSpec(families=("sum",))


def test_specs_are_frozen_and_closed() -> None:
    spec = AbacusSpec()
    with pytest.raises(ValidationError, match="frozen"):
        spec.max_batch_rows = 2
    with pytest.raises(ValidationError, match="extra"):
        AbacusSpec.model_validate({"extra": 1})


def test_merging_leaves_its_arguments_alone() -> None:
    below = {"a": {"x": 1, "y": 2}, "b": 1}
    assert merged(below, {"a": {"y": 3}, "c": 4}) == {"a": {"x": 1, "y": 3}, "b": 1, "c": 4}
    assert below == {"a": {"x": 1, "y": 2}, "b": 1}


def test_known_keys_follow_the_chosen_variant() -> None:
    chosen = set(known_keys(LearnSpec, {"model": {"kind": "openai"}}))
    assert {"model.base_url", "sampling.top_p", "reflector.path"} <= chosen
    assert "model.path" not in chosen


def test_sampling_serves_both_arms() -> None:
    spec = SamplingSpec(temperature=0.5, top_p=0.9, max_tokens=8, stop=("x",))
    assert spec.params(seed=3) == SamplingParams(0.5, 0.9, 8, ("x",), 3)


def test_the_schema_loads_nothing_heavy() -> None:
    code = (
        "import sys, tfgrpo.config, tfgrpo.settings, tfgrpo.runs, tfgrpo.ledger\n"
        "print({'torch', 'numpy', 'transformers', 'openai'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "set()\n"


def test_a_password_in_an_address_is_refused_before_it_is_written_down() -> None:
    with pytest.raises(ConfigError, match="put the key into the variable"):
        load(EvalSpec, None, ["tasks='sum'", "model.kind='openai'", "model.model='m'",
                              "model.base_url='http://me:secret@host/v1'"])  # fmt: skip
    model = {"kind": "openai", "model": "m", "base_url": "http://host/v1/a@b"}
    assert isinstance(load(EvalSpec, None, ["tasks='sum'"], {"model": model}).model, OpenAISpec)
