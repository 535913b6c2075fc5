"""Experience libraries as files: the log inside a learning run, or one exported JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfgrpo.canonical import canonical_json
from tfgrpo.errors import ConfigError, RunError
from tfgrpo.experience.edits import Add
from tfgrpo.experience.guard import approximate_tokens, word_count
from tfgrpo.experience.judging import Limits
from tfgrpo.experience.library import ExperienceLibrary, replay
from tfgrpo.runs import RunDir

OPS = "ops.jsonl"
EDITED = "library.json"  # a person's version beside a run's own log, which stays as it was written
FORMAT = "tfgrpo-library-1"


def load_library(path: Path) -> ExperienceLibrary:
    """The library of a learning run (as edited by hand, if it was), of an export, or of a list.

    A JSON file holds an export, a list of texts, or the flat `{"G0": "text"}` of the reference
    implementation; any other file is read as one lesson a line. Raises ConfigError if `path` is
    none of these.
    """
    if path.is_dir():
        edited = path / EDITED
        if edited.is_file():
            return load_library(edited)
        run = RunDir.open(path)
        return replay(run.read_rows(OPS), _limits(run.config))
    if not path.is_file():
        raise ConfigError(f"There is no library at {path}; give a learning run or a file.")
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text) if path.suffix == ".json" else text.splitlines()
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is no UTF-8 text; save it as UTF-8.") from None
    except ValueError as error:
        raise ConfigError(f"{path} is no JSON ({error}); export the library again.") from None
    if isinstance(data, Mapping) and data.get("format") == FORMAT:
        return _exported(data, path)
    texts = list(data.values()) if isinstance(data, Mapping) else data
    if isinstance(texts, list) and all(isinstance(t, str) for t in texts):
        return _imported([text for text in texts if text.strip()], path)
    raise ConfigError(f"{path} holds no library; give a list of texts or an exported library.")


def export_json(library: ExperienceLibrary) -> str:
    """One JSON text from which `load_library` rebuilds the library with its whole history."""
    limits = library.limits
    return canonical_json({"format": FORMAT, "limits": limits, "ops": library.to_ops()})


def _exported(data: Mapping[str, Any], path: Path) -> ExperienceLibrary:
    try:
        return replay(data["ops"], Limits(**data["limits"]))
    except (KeyError, TypeError):
        raise ConfigError(f"{path} is a damaged export; export the library again.") from None


def _imported(texts: list[str], path: Path) -> ExperienceLibrary:
    """Every text, under limits that leave room for all: a policy is evaluated as it is given."""
    usual, lines = Limits(), "\n".join(f"[E{i}] {text}" for i, text in enumerate(texts, 1))
    limits = Limits(
        max(usual.max_entries, len(texts)),
        max(usual.max_tokens, approximate_tokens(lines)),
        max([usual.max_words, *map(word_count, texts)]),
    )
    applied = ExperienceLibrary.empty(limits).by_hand(*(Add(text) for text in texts))
    refused = [outcome for outcome in applied.outcomes if not outcome.accepted]
    if refused:
        told = "; ".join(f"{o.code} {o.detail}" for o in refused)
        raise ConfigError(f"{path} has lessons that cannot be used: {told}. Remove or mend them.")
    return applied.library


def _limits(settings: Mapping[str, Any]) -> Limits:
    given = settings.get("limits")
    if not isinstance(given, Mapping):
        raise RunError("This run holds no experience library; give the folder of a learning run.")
    return Limits(**given)
