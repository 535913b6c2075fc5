"""The house rules that no linter knows: whose packages these are, what help loads, one version."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("tfgrpo", "memory", "baselines", "cli")
HEAVY = ("torch", "transformers", "openai", "faiss", "sentence_transformers", "vllm", "datasets")
MACHINE_PATH = re.compile(r"(?<![\w.~$}])/(root|home|tmp|Users|private)/")
TEXT = {".py", ".md", ".toml", ".json", ".yml", ".yaml", ".cff", ".ipynb", ".jsonl", ".sh"}

HELP_OF_ALL = """
import sys
from typer.main import get_command
from typer.testing import CliRunner
from cli.main import app

def walk(command, path):
    result = CliRunner().invoke(app, [*path, "--help"])
    assert result.exit_code == 0, (path, result.output)
    for name, child in getattr(command, "commands", {}).items():
        walk(child, [*path, name])

walk(get_command(app), [])
print(*sorted({name.split(".")[0] for name in sys.modules}), sep="\\n")
"""
RUN = """
import sys
sys.argv = ["tfgrpo", *sys.argv[1:]]
try:
    from cli.main import run
    run()
except SystemExit as end:
    assert not end.code, end.code
print("MODULES", *sorted({name.split(".")[0] for name in sys.modules}), sep="\\n")
"""


def python(code: str, *arguments: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def heavy(modules: list[str]) -> set[str]:
    return set(modules) & set(HEAVY)


needs_cli = pytest.mark.skipif(
    not (ROOT / "cli" / "main.py").exists(), reason="the command line is not written yet"
)


@pytest.mark.parametrize("name", PACKAGES)
def test_the_packages_are_ours(name: str) -> None:
    """Other distributions have packages of these names."""
    assert importlib.import_module(name).__file__ == str(ROOT / name / "__init__.py")
    assert (ROOT / name / "py.typed").exists()


def test_no_test_folder_shadows_a_package() -> None:
    assert list((ROOT / "tests").rglob("__init__.py")) == []
    assert not (ROOT / "cli" / "memory.py").exists()


def test_test_files_have_unique_names() -> None:
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names))


@needs_cli
def test_the_help_of_every_command_loads_nothing_heavy() -> None:
    modules = python(HELP_OF_ALL)
    assert "cli" in modules
    assert heavy(modules) == set()


@needs_cli
@pytest.mark.parametrize(
    "arguments",
    [
        "--help", "--version", "learn --help", "learn --dry-run", "eval --dry-run",
        "tasks list", "tasks show sum,countdown", "runs list FOLDER",
        "experiences list LESSONS", "experiences history LESSONS",
        "experiences diff LESSONS LESSONS --json", "experiences show LESSONS E1",
        "experiences preview LESSONS",
    ],
)  # fmt: skip
def test_listing_loads_nothing_heavy(arguments: str, tmp_path: Path) -> None:
    lessons = tmp_path / "lessons.txt"
    lessons.write_text("Add the ones first.\n", encoding="utf-8")
    places = {"LESSONS": str(lessons), "FOLDER": str(tmp_path)}
    output = python(RUN, *(places.get(word, word) for word in arguments.split()))
    marker = output.index("MODULES")
    assert output[:marker]
    assert heavy(output[marker:]) == set()


def test_no_file_names_a_path_of_some_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in shipped_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if MACHINE_PATH.search(line)
    ]
    assert found == []


def shipped_files() -> list[Path]:
    """Text files of the tree outside tests and hidden folders."""
    top = [child for child in ROOT.iterdir() if not child.name.startswith((".", "tests"))]
    files = [f for child in top for f in ([child] if child.is_file() else child.rglob("*"))]
    files = [f for f in files if f.is_file() and f.suffix in TEXT and "__pycache__" not in f.parts]
    assert len(files) > 30
    return files


def test_one_version_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.+)$", citation, re.MULTILINE) == [project["version"]]
    assert re.findall(r"^## (\S+)", changelog, re.MULTILINE)[0] == project["version"]


def test_torch_is_bounded_above() -> None:
    """Without the bound, pip takes builds that were never tested here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "torch>=2.9,<2.14" in project["dependencies"]
