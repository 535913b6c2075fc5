"""What a Markdown page tells its reader to type, and what it says that comes of it.

Indented blocks and blocks fenced as sh, bash or shell are typed, in their order, in one shell.
Blocks fenced as text are printed. Other fenced blocks are files and drawings.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

SHELLS = ("sh", "bash", "shell")
FUNCTION = 'tfgrpo() { "$PYTHON" -P -m cli.main "$@"; }'
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})\s*(\w*)")
_HERE = re.compile(r"<<-?\s*(['\"]?)(\w+)\1")

Kind = Literal["typed", "printed", "other"]


@dataclass(frozen=True, slots=True)
class Block:
    """A block of a page without its indentation, ending in a line break."""

    kind: Kind
    text: str


def blocks(page: str) -> Iterator[Block]:
    """The code blocks of a page. What is indented inside of a list or a paragraph is none."""
    lines = page.splitlines()
    i = 0
    while i < len(lines):
        start = i
        if fence := _FENCE.match(lines[i]):
            mark, kind = fence.groups()
            i += 1
            while i < len(lines) and not lines[i].strip().startswith(mark):
                i += 1
            yield Block(_kind(kind), "\n".join(lines[start + 1 : i]) + "\n")
        elif _is_code(lines, i):
            while i + 1 < len(lines) and (not lines[i + 1].strip() or lines[i + 1][:4] == "    "):
                i += 1
            code = textwrap.dedent("\n".join(lines[start : i + 1])).strip("\n")
            yield Block("typed", code + "\n")
        i += 1


def _is_code(lines: list[str], i: int) -> bool:
    """Whether a block begins here: four blanks after an empty line, and after no item of a list."""
    before = [line for line in lines[:i] if line.strip()]
    in_list = bool(before) and re.match(r"\s*([-*+]|\d+[.)])\s", before[-1]) is not None
    new = i == 0 or not lines[i - 1].strip()
    return lines[i][:4] == "    " and bool(lines[i].strip()) and new and not in_list


def _kind(name: str) -> Kind:
    return "typed" if name in SHELLS else "printed" if name == "text" else "other"


def typed(page: str) -> str:
    """All that is typed, as one script."""
    return "\n".join(block.text for block in blocks(page) if block.kind == "typed")


def commands(script: str) -> Iterator[str]:
    """The commands of a script, each on one line: continued lines are joined, files left out."""
    lines = iter(script.splitlines())
    for line in lines:
        while line.endswith("\\"):
            line = line[:-1].rstrip() + " " + next(lines).strip()
        if line.strip() and not line.startswith("#"):
            yield line
        if here := _HERE.search(line):
            while next(lines).strip() != here[2]:
                pass


def words(command: str) -> list[str]:
    """The words of a command, up to where another one begins, without variables set for it."""
    found = shlex.split(command, comments=True)
    for end in ("|", "||", "&&", ">", "&"):
        found = found[: found.index(end)] if end in found else found
    while found and re.fullmatch(r"\w+=.*", found[0]):
        found = found[1:]
    return found


def leading(printed: str) -> list[str]:
    """The first cell of each line, with # for each number: what does not depend on the run."""
    cells = [re.split(r" {2,}", line.strip())[0] for line in printed.splitlines()]
    return [cell for cell in map(masked, cells) if cell]


def masked(text: str) -> str:
    return re.sub(r"[-+]?[0-9][0-9.,]*", "#", text)


def swapped(text: str, swaps: Mapping[str, str]) -> str:
    """`text` with each key replaced by its value; a key that is not there is an error."""
    for old, new in swaps.items():
        assert old in text, f"The page no longer says {old!r}."
        text = text.replace(old, new)
    return text


def run(script: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Type `script` in `folder`, which is also the home, without any key of the caller's."""
    own = {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "COLUMNS": "200", "HOME": str(folder)}
    hidden = ("API_KEY", "OPENAI_", "TFGRPO_")
    env = {k: v for k, v in os.environ.items() if not any(part in k for part in hidden)}
    return subprocess.run(
        ["bash", "-c", f"{FUNCTION}\nset -euo pipefail\n{script}"],
        cwd=folder,
        env=env | own | variables,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
