"""Modules and packages of a user, as real files on the module path."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest


def install(
    patch: pytest.MonkeyPatch, folder: Path, code: str, name: str = "users_own", **entries: str
) -> None:
    """Put a module on the path; `entries` are its entry points, `GROUP__NAME="users_own:f"`."""
    (folder / f"{name}.py").write_text(textwrap.dedent(code), encoding="utf-8")
    if entries:
        info = folder / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = []
        for key, value in entries.items():
            group, _, entry = key.partition("__")
            lines += [f"[tfgrpo.{group}]", f"{entry.replace('_', '-')} = {value}"]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    patch.syspath_prepend(str(folder))
    sys.modules.pop(name, None)
