"""Code of others by its name: MODULE:FUNCTION, or plugin:NAME for a package's entry point.

Only what Python finds anyway is imported: installed packages and the folders in PYTHONPATH. The
current folder is not added.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any, Literal

from tfgrpo.errors import ConfigError

Group = Literal["tfgrpo.tasks", "tfgrpo.rewards"]


def load_function(target: str, group: Group) -> Callable[..., Any]:
    """The function that `target` names; `group` is where a plugin's entry point is looked up.

    Raises ConfigError if there is none, or if importing it fails.
    """
    source, _, name = target.partition(":")
    found = _entry_point(name, group) if source == "plugin" else _attribute(source, name)
    if not callable(found):
        raise ConfigError(f"{target} is no function; name one, or a class that can be called.")
    function: Callable[..., Any] = found
    return function


def offered(group: Group) -> tuple[str, ...]:
    """The names of the entry points that installed packages offer in `group`."""
    return tuple(sorted({entry.name for entry in entry_points(group=group)}))


def _attribute(module: str, path: str) -> Any:
    found = _imported(module)
    for part in path.split("."):
        if not hasattr(found, part):
            raise ConfigError(
                f"The module {module} has no {path}; correct the name after the colon."
            )
        found = getattr(found, part)
    return found


def _imported(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise _broken(module, error) from error
        raise ConfigError(
            f"There is no module {error.name} among the installed packages and the folders in "
            "PYTHONPATH (the current folder is not searched by itself); run the command again with "
            "PYTHONPATH=FOLDER before it, or install what holds it."
        ) from error
    except Exception as error:  # whatever code of others raises on import
        raise _broken(module, error) from error


def _entry_point(name: str, group: Group) -> Any:
    entries = list(entry_points(group=group, name=name))
    if not entries:
        known = ", ".join(offered(group)) or "none"
        raise ConfigError(
            f"No installed package offers {name!r} as an entry point of {group} (known: {known}); "
            "install the package that does."
        )
    if len(entries) > 1:
        values = ", ".join(entry.value for entry in entries)
        raise ConfigError(
            f"Several packages offer {name!r} in {group} ({values}); name the function itself as "
            "MODULE:FUNCTION."
        )
    module, _, path = entries[0].value.partition(":")
    return _attribute(module.strip(), path.split("[")[0].strip())


def _broken(module: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"The module {module} cannot be imported ({type(error).__name__}: {error}); correct it, or "
        "install what it needs."
    )
