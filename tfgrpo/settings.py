"""Read a frozen pydantic model from TOML and `--set a.b=value`, with every problem told at once."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from tfgrpo.errors import ConfigError

M = TypeVar("M", bound=BaseModel)
Table = Mapping[str, Any]
_NOTHING: Table = MappingProxyType({})
_KEY = re.compile(r"[\w-]+(\.[\w-]+)*")


@dataclass(frozen=True, slots=True)
class Shorthand:
    """Marks a field, inside `Annotated`, whose table may be written as a string that `parse` reads.

    `parse` raises ConfigError on a string that stands for nothing.
    """

    parse: Callable[[str], dict[str, Any]]


def load(
    model: type[M],
    path: Path | None = None,
    overrides: Sequence[str] = (),
    defaults: Table = _NOTHING,
) -> M:
    """An instance of `model`: `defaults` over its own, the TOML file over these, then overrides.

    Tables merge key by key, but a table that changes its `kind` replaces the one below, whose keys
    belong to another variant. Types are strict: "8" is no number and 8 no string. Raises
    ConfigError, which lists all problems, each with its dotted key.
    """
    problems: list[str] = []
    failed: set[str] = set()
    data = _own_defaults(model)
    layers = [defaults, _read(path), *_parsed(overrides, problems)]
    for layer in layers:
        table = dict(layer)
        for name, parse in _shorthands(model):
            if isinstance(table.get(name), str):
                try:
                    table[name] = parse(table[name])
                except ConfigError as error:
                    problems.append(f"{name}: {error}")
                    failed.add(name)
        data = merged(data, table)
    try:
        instance = model.model_validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as error:
        told = [_problem(model, data, detail) for detail in error.errors(include_url=False)]
        problems += [text for key, text in told if key.split(".")[0] not in failed]
    if problems:
        raise ConfigError(_listed(problems))
    return instance


def dump(instance: BaseModel) -> dict[str, Any]:
    """All values, defaults included, as plain JSON values."""
    return instance.model_dump(mode="json")


def to_toml(instance: BaseModel) -> str:
    """A TOML file that `load` reads back as an equal instance; None is left out."""
    import tomli_w

    return tomli_w.dumps(instance.model_dump(mode="json", exclude_none=True))


def merged(below: Table, above: Table) -> dict[str, Any]:
    """`above` over `below`; see `load` for the rule about `kind`."""
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        result[key] = value
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            kind = old.get("kind")
            if value.get("kind", kind) == kind:
                result[key] = merged(old, value)
    return result


def known_keys(model: type[BaseModel], data: object = None, prefix: str = "") -> Iterator[str]:
    """All dotted keys of `model`; where `data` names a `kind`, those of that variant only."""
    for name, field in model.model_fields.items():
        yield prefix + name
        child = data.get(name) if isinstance(data, Mapping) else None
        for variant in _variants(field.annotation, child):
            yield from known_keys(variant, child, f"{prefix}{name}.")


def _variants(annotation: Any, data: object) -> list[type[BaseModel]]:
    found = list(_models(annotation))
    kind = data.get("kind") if isinstance(data, Mapping) else None
    return [m for m in found if "kind" in m.model_fields and _kind(m) == kind] or found


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


def _kind(model: type[BaseModel]) -> object:
    return model.model_fields["kind"].default


def _own_defaults(model: type[BaseModel]) -> dict[str, Any]:
    """The default tables, so that one key of a default variant can be set without its `kind`."""
    fields = {name: field.default for name, field in model.model_fields.items()}
    return {name: dump(value) for name, value in fields.items() if isinstance(value, BaseModel)}


def _shorthands(model: type[BaseModel]) -> list[tuple[str, Callable[[str], dict[str, Any]]]]:
    fields = model.model_fields.items()
    return [(n, m.parse) for n, f in fields for m in f.metadata if isinstance(m, Shorthand)]


def _read(path: Path | None) -> Table:
    if path is None:
        return _NOTHING
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}); check the path.") from None
    except ValueError as error:
        raise ConfigError(f"{path} is no TOML: {error}; correct the file.") from None


def _parsed(overrides: Sequence[str], problems: list[str]) -> Iterator[Table]:
    """One nested table for each `a.b=value` that can be read."""
    for text in overrides:
        key, equals, raw = text.partition("=")
        key = key.strip()
        if not equals or not _KEY.fullmatch(key):
            problems.append(f"--set {text}: write KEY=VALUE, for example --set sampling.top_p=0.95")
            continue
        try:
            value = _value(raw.strip())
        except ValueError as error:
            problems.append(f"{key}: {raw.strip()} is no TOML value ({error})")
            continue
        for part in reversed(key.split(".")):
            value = {part: value}
        yield value


def _value(raw: str) -> Any:
    """A TOML value; what is none is a string, unless it begins like a quoted or nested value."""
    try:
        table = tomllib.loads(f"value = {raw}")
    except tomllib.TOMLDecodeError:
        if raw[:1] in ('"', "'", "[", "{"):
            raise
        return raw
    return table["value"] if table.keys() == {"value"} else raw


def _problem(model: type[BaseModel], data: object, detail: Any) -> tuple[str, str]:
    """The dotted key of one pydantic error, and the line that tells it."""
    key = _dotted(detail["loc"], data)
    context = detail.get("ctx", {})
    match detail["type"]:
        case "extra_forbidden" if key in known_keys(model):
            table = key.rpartition(".")[0]
            return key, f"{key}: belongs to another kind of {table}; set {table}.kind first"
        case "extra_forbidden":
            known = list(dict.fromkeys(known_keys(model, data)))
            return key, f"{key}: unknown key{_nearest(key, known)}"
        case "missing":
            return key, f"{key}: is missing"
        case "union_tag_invalid":
            tags = re.findall(r"'([^']*)'", context["expected_tags"])
            tag = str(context["tag"])
            return key, f"{key}.kind: {tag!r} is none of {', '.join(tags)}{_nearest(tag, tags)}"
        case "union_tag_not_found":
            return key, f"{key}.kind: is missing"
    message = re.sub(r"^(Input|Value error,) ", "", detail["msg"])
    return key, f"{key}: {message}, not {json.dumps(detail['input'], default=str)}"


def _dotted(location: Sequence[str | int], data: Any) -> str:
    """A pydantic location without the tags of unions, which it holds beside the keys."""
    parts: list[str] = []
    for step in location:
        if isinstance(data, Mapping) and step not in data and step == data.get("kind"):
            continue
        parts.append(str(step))
        if isinstance(data, Mapping):
            data = data.get(step)
        elif isinstance(data, list | tuple) and isinstance(step, int):
            data = data[step]
    return ".".join(parts)


def _nearest(word: str, choices: Sequence[str]) -> str:
    """The choice of the same name in another table, or else the closest one in the same table."""
    table, _, name = word.rpartition(".")
    named = [(choice.rpartition("."), choice) for choice in choices]
    elsewhere = [choice for (_, _, other), choice in named if other == name]
    siblings = {other: choice for (where, _, other), choice in named if where == table}
    near = elsewhere or [siblings[other] for other in get_close_matches(name, siblings)]
    return f"; did you mean {near[0]}?" if near else f"; known are {', '.join(siblings.values())}"


def _listed(problems: Sequence[str]) -> str:
    count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
    lines = "\n".join(f"  {problem}" for problem in problems)
    return f"The configuration has {count}:\n{lines}\nCorrect the file or the options."
