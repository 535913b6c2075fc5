"""Code of others by its name: found where Python looks, and told what to do where it is not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tfgrpo.modules import install
from tfgrpo.errors import ConfigError
from tfgrpo.plugins import load_function, offered

CODE = """
class Kind:
    @staticmethod
    def grade():
        return "static"

def grade():
    return "plain"

number = 3
"""


def test_functions_by_module_and_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, tmp_path, CODE)
    assert load_function("users_own:grade", "tfgrpo.rewards")() == "plain"
    assert load_function("users_own:Kind.grade", "tfgrpo.rewards")() == "static"


def test_functions_by_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = offered("tfgrpo.rewards")
    install(
        monkeypatch, tmp_path, CODE, rewards__my_own="users_own:Kind.grade [extra]",
        tasks__other="users_own:grade",
    )  # fmt: skip
    assert load_function("plugin:my-own", "tfgrpo.rewards")() == "static"
    assert offered("tfgrpo.rewards") == tuple(sorted({*before, "my-own"}))
    with pytest.raises(ConfigError, match=r"offers 'my-own' as an entry point of tfgrpo\.tasks"):
        load_function("plugin:my-own", "tfgrpo.tasks")
    with pytest.raises(ConfigError, match=r"offers 'x' .* \(known: .*other.*\); install"):
        load_function("plugin:x", "tfgrpo.tasks")


def test_a_name_that_two_packages_offer_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one_of_two", "two_of_two"):
        (tmp_path / name).mkdir()
        install(monkeypatch, tmp_path / name, CODE, name, rewards__twin=f"{name}:grade")
    with pytest.raises(ConfigError, match=r"Several packages offer 'twin' .* MODULE:FUNCTION"):
        load_function("plugin:twin", "tfgrpo.rewards")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("users_own:absent", r"module users_own has no absent; correct the name"),
        ("users_own:Kind.absent", r"module users_own has no Kind\.absent"),
        ("users_own:number", r"users_own:number is no function"),
        ("nowhere:f", r"no module nowhere among .* PYTHONPATH=FOLDER"),
        ("users_own.part:f", r"no module users_own\.part among"),
    ],
)
def test_what_is_not_there(
    target: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, tmp_path, CODE)
    with pytest.raises(ConfigError, match=message):
        load_function(target, "tfgrpo.rewards")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import nowhere", r"users_own cannot be imported \(ModuleNotFoundError: .*'nowhere'"),
        ("1 / 0", r"users_own cannot be imported \(ZeroDivisionError"),
        ("def f(:", r"users_own cannot be imported \(SyntaxError"),
    ],
)
def test_a_module_that_breaks_says_why(
    code: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, tmp_path, code)
    with pytest.raises(ConfigError, match=message):
        load_function("users_own:f", "tfgrpo.rewards")


def test_the_current_folder_is_not_searched(tmp_path: Path) -> None:
    (tmp_path / "users_own.py").write_text(CODE)
    code = (
        "from tfgrpo.errors import ConfigError\n"
        "from tfgrpo.plugins import load_function\n"
        "try:\n    print(load_function('users_own:grade', 'tfgrpo.rewards')())\n"
        "except ConfigError as error:\n    print(error)"
    )

    def said(**more: str) -> str:
        return subprocess.run(
            [sys.executable, "-P", "-c", code],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **more},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    assert "no module users_own" in said()
    assert said(PYTHONPATH=f"{Path(__file__).parents[2]}{os.pathsep}.") == "plain\n"
