"""What a result depends on besides its configuration."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = ("tfgrpo", "torch", "transformers", "openai", "numpy", "faiss-cpu", "vllm")


def environment(seed: object = None) -> dict[str, Any]:
    """What a result depends on besides its configuration: versions, commit, machine type, time."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "commit": _commit(Path(__file__).resolve()),
        "seed": seed,
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit(file: Path) -> str | None:
    """The commit of this code, with `+` if files differ from it; None if git does not track it."""
    if _git(file.parent, ["ls-files", "--error-unmatch", file.name]) is None:
        return None
    commit = _git(file.parent, ["rev-parse", "HEAD"])
    changed = _git(file.parent, ["status", "--porcelain", "--untracked-files=no"])
    return commit and commit + ("+" if changed else "")


def _git(folder: Path, arguments: Sequence[str]) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
