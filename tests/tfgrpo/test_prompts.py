"""Prompt packs: contracts, slots, and a library that leaves no trace when it is empty."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tfgrpo.errors import ConfigError
from tfgrpo.experience.context_policy import ContextPolicy
from tfgrpo.experience.edits import Add
from tfgrpo.experience.library import ExperienceLibrary
from tfgrpo.llm.scripted import ScriptedModel
from tfgrpo.policy import BlockPolicy
from tfgrpo.prompts import CONTRACTS, REQUIRED, PromptPack, load_pack, pack_names
from tfgrpo.types import Message, Task

PACKS = pack_names()
every_pack = pytest.mark.parametrize("pack", [load_pack(name) for name in PACKS], ids=PACKS)
TASK = Task("t1", "What is 1+1?", "2", "sum", "test")
MODEL = ScriptedModel([])

CopyPack = Callable[..., Path]


@pytest.fixture
def copy_pack(tmp_path: Path) -> CopyPack:
    """Write the default pack to a folder of its own, some of its files replaced or left out."""

    def write(**changed: str | None) -> Path:
        for part, template in load_pack("default").templates.items():
            text = changed.get(part, f"# system\n{template.system}# user\n{template.user}")
            if text is not None:
                (tmp_path / f"{part}.md").write_text(text, encoding="utf-8")
        return tmp_path

    return write


def joined(messages: tuple[Message, ...]) -> str:
    return "\n".join(message.content for message in messages)


@every_pack
def test_every_pack_keeps_the_contracts(pack: PromptPack) -> None:
    assert pack.templates.keys() == CONTRACTS.keys() == REQUIRED.keys()
    for part, template in pack.templates.items():
        assert REQUIRED[part] <= template.slots <= CONTRACTS[part]
        messages = pack.render(part, **{slot: f"<{slot}>" for slot in CONTRACTS[part]})
        assert all(f"<{slot}>" in joined(messages) for slot in template.slots)
        assert "{{" not in joined(messages)
        # Library and cases are no prompts: their text goes into the slot of `solve`.
        is_block = part in ("library", "cases", "case")
        assert messages[-1].role == ("system" if is_block else "user")


def test_the_shipped_packs_are_these() -> None:
    assert set(PACKS) >= {"abacus", "default"}
    assert len({load_pack(name).version for name in PACKS}) == len(PACKS)


def test_a_users_folder_is_a_pack(copy_pack: CopyPack) -> None:
    default = load_pack("default")
    own = load_pack(str(copy_pack()))
    assert own.templates == default.templates
    assert own.version.split("@")[1] == default.version.split("@")[1]
    assert own.placebo == ()


def test_the_version_changes_with_any_template(copy_pack: CopyPack) -> None:
    own = load_pack(str(copy_pack(repair="# system\n# user\nAgain: {{problems}}\n")))
    assert own.version.split("@")[1] != load_pack("default").version.split("@")[1]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"solve": "# system\n{{library}}\n# user\n{{question}} {{hint}}\n"}, "unknown.*hint"),
        ({"solve": "# system\n{{library}}\n# user\nGo\n"}, "lacks.*question"),
        ({"solve": "# system\n# user\n{{question}}\n"}, "lacks.*library"),
        ({"solve": "{{library}}{{question}}"}, "headings; add both"),
        ({"repair": None, "direct": None}, "lacks direct.md, repair.md; add these files"),
    ],
)
def test_a_broken_pack_is_refused(
    copy_pack: CopyPack, changed: dict[str, str | None], message: str
) -> None:
    folder = copy_pack(**changed)
    with pytest.raises(ConfigError, match=message):
        load_pack(str(folder))


def test_an_unknown_pack_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="no prompt pack 'nonsense'; use one of abacus, default"):
        load_pack("nonsense")


@every_pack
def test_a_slot_without_a_value_is_a_bug(pack: PromptPack) -> None:
    with pytest.raises(KeyError):
        pack.render("solve", library="")


@every_pack
def test_slots_inside_values_stay_text(pack: PromptPack) -> None:
    block = pack.library_block("[E1] say {{question}} and {{gold}} \\1 \\g<0>")
    text = joined(pack.render("solve", library=block, question="{{library}} {{lines}}?"))
    assert "[E1] say {{question}} and {{gold}} \\1 \\g<0>" in text
    assert text.count("{{library}} {{lines}}?") == 1
    assert text.count("[E1]") == 1


@every_pack
def test_an_empty_library_leaves_no_trace(pack: PromptPack) -> None:
    base = BlockPolicy(MODEL, pack).render(TASK, 0)
    assert ContextPolicy(MODEL, pack, ExperienceLibrary.empty()).render(TASK, 0) == base
    assert pack.library_block("") == ""
    assert base.shown == ()
    for message in base.messages:
        assert message.content == message.content.strip()
        assert "\n\n\n" not in message.content


@every_pack
def test_the_library_precedes_the_question(pack: PromptPack) -> None:
    library = ExperienceLibrary.empty().by_hand(Add("Add the ones first.")).library
    prompt = ContextPolicy(MODEL, pack, library).render(TASK, 0)
    text = joined(prompt.messages)
    assert prompt.shown == ("E1",)
    assert 0 <= text.index("[E1] Add the ones first.") < text.index(TASK.prompt)
    assert prompt.messages[-1] == Message("user", TASK.prompt)


@every_pack
def test_placebo_lines_are_distinct_and_short(pack: PromptPack) -> None:
    assert len(set(pack.placebo)) == len(pack.placebo) >= 10
    assert all(0 < len(line) < 120 and line == line.strip() for line in pack.placebo)
