"""How pages are read, and that what they tell to type exists: options, links, examples."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from cli.main import app, run
from tests.docs.commands import Block, blocks, commands, leading, swapped, typed, words
from tests.docs.commands import run as run_script

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
EXAMPLES = sorted((ROOT / "examples").glob("*.toml"))
PAGE = """# A page

    export KEY=sk-1     # from the provider
    tfgrpo learn --tasks sum \\
        --limit 2

Text.

    cat > rows <<'END'
    {"question": 1}

    tfgrpo is no command here
    END
    X=1 tfgrpo eval "a b" --n 2 > out || echo "ended with $?"

- An item

    with a paragraph of its own, which is no code.

```sh
tfgrpo doctor NAME
```

```toml
a = 1
```

```text
total          202          20.9k
pass@8      92.7 [67.4, 99.3]
```
"""


def test_a_page_is_read_as_its_reader_does() -> None:
    found = list(blocks(PAGE))
    assert [block.kind for block in found] == ["typed", "typed", "typed", "other", "printed"]
    assert found[2] == Block("typed", "tfgrpo doctor NAME\n")
    assert found[1].text.startswith("cat > rows <<'END'\n{\"question\": 1}\n\ntfgrpo is no")
    assert list(commands(typed(PAGE))) == [
        "export KEY=sk-1     # from the provider",
        "tfgrpo learn --tasks sum --limit 2",
        "cat > rows <<'END'",
        'X=1 tfgrpo eval "a b" --n 2 > out || echo "ended with $?"',
        "tfgrpo doctor NAME",
    ]
    assert [words(line) for line in commands(typed(PAGE))][1:4] == [
        ["tfgrpo", "learn", "--tasks", "sum", "--limit", "2"],
        ["cat"],
        ["tfgrpo", "eval", "a b", "--n", "2"],
    ]
    assert leading(found[4].text) == ["total", "pass@#"]


def test_a_swap_that_the_page_has_no_place_for_is_told() -> None:
    assert swapped("a b a", {"a": "c", "c b": "d"}) == "d c"
    with pytest.raises(AssertionError, match="no longer says 'x'"):
        swapped("a b a", {"x": "c"})


def test_a_script_stops_at_the_first_command_that_fails(tmp_path: Path) -> None:
    done = run_script("echo one > kept\nfalse\necho two > lost\n", tmp_path)
    assert done.returncode == 1
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_script_sees_no_key_of_the_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", "secret")
    monkeypatch.setenv("OPENAI_BASE_URL", "secret")
    assert "secret" not in run_script("env", tmp_path).stdout


def parsed(command: Any, arguments: list[str], name: str = "tfgrpo") -> str:
    """The command that `arguments` name, after its own parser has accepted them all."""
    with command.make_context(name, list(arguments)) as context:
        if not hasattr(command, "commands"):
            return name
        rest = [*context._protected_args, *context.args]
        return parsed(command.commands[rest[0]], rest[1:], f"{name} {rest[0]}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_and_option_of_a_page_exists(page: Path) -> None:
    whole = get_command(app)
    for command in commands(typed(page.read_text(encoding="utf-8"))):
        if command.startswith("tfgrpo ") and "--help" not in words(command):
            assert parsed(whole, words(command)[1:]).startswith("tfgrpo ")


def places(page: str) -> set[str]:
    """The headings of a page as links name them."""
    headings = re.findall(r"^#+ +(.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_inside_of_the_repository_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://")):
            path, _, place = target.partition("#")
            found = (page.parent / path).resolve() if path else page
            assert found.exists(), target
            assert not place or place in places(found.read_text(encoding="utf-8")), target


@pytest.mark.parametrize(
    "example", sorted((ROOT / "examples").glob("*.toml")), ids=lambda p: p.name
)
def test_every_example_is_what_its_own_command_takes(
    example: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [line.lstrip("# ") for line in example.read_text(encoding="utf-8").splitlines()]
    (command,) = [line.partition("  ")[0] for line in lines if line.startswith("tfgrpo ")]
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as end:
        run([*shlex.split(command)[1:], "--dry-run"])
    assert not end.value.code
    assert "[model]" in capsys.readouterr().out
