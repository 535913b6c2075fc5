"""Every indented command of docs/tasks.md, in its order, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def blocks(page: str) -> list[str]:
    """The indented blocks of a page, without their indentation; fenced ones are no commands."""
    unfenced = re.sub(r"^```.*?^```$", "", page, flags=re.DOTALL | re.MULTILINE)
    found = re.findall(r"^(?: {4}.*\n|\n(?= {4}))+", unfenced, re.MULTILINE)
    return [textwrap.dedent(block).strip("\n") + "\n" for block in found]


@pytest.mark.slow
def test_the_page_runs_as_it_stands(tmp_path: Path) -> None:
    found = blocks((ROOT / "docs" / "tasks.md").read_text(encoding="utf-8"))
    commands = [line for block in found for line in block.split("\n") if line.startswith("tfgrpo ")]
    assert len(commands) == 9
    script = 'tfgrpo() { "$PYTHON" -P -m cli.main "$@"; }\nset -euo pipefail\n' + "".join(found)
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    grades = re.findall(r" (\S+) +(yes|no) ", done.stdout)
    # The gold twice; a reply that is right for one problem only; theirs twice; code; gsm8k.
    assert sorted(grades[:4]) == [("0", "no"), *[("1", "yes")] * 3]
    assert grades[4:] == [("1", "yes")] * 4
    assert "pass@2" in done.stdout
    assert "asked and learned from: none" in done.stdout
