"""How functions written for other libraries are called with one reply, and what they answer.

A style is named by the user and never guessed from a signature. `arguments` gives what a style
passes, `result` what it takes from the answer. Every style is called with one reply at a time.

    tfgrpo     grade(text, answer, task)                              bool, number, Score
    trl        reward(prompts=[...], completions=[...], **columns)    [number]
    trl-chat   the same with messages instead of texts                [number]
    verl       score(data_source=, solution_str=, ground_truth=, extra_info=)
                                                                      number, {"score": number}
    dspy       metric(example, prediction, trace=None)                bool, number, .score
    verifiers  reward(prompt=, completion=, answer=, state=, info=, task=), those that it names
                                                                      number
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tfgrpo.errors import ConfigError
from tfgrpo.rewards.extract import extract_answer
from tfgrpo.types import Task

Function = Callable[..., Any]
Arguments = tuple[tuple[Any, ...], dict[str, Any]]

_OPTIONAL = ("trace", "pred_name", "pred_trace")  # what GEPA passes besides, absent here


class Fields(dict[str, Any]):
    """Values by key and by attribute, as examples and predictions of DSPy have them."""

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(f"there is no field {name!r}, only {', '.join(self)}")
        return self[name]


@dataclass(frozen=True, slots=True)
class Style:
    """`arguments` for a function, a reply and its task; `result` raises ValueError."""

    arguments: Callable[[Function, str, Task], Arguments]
    result: Callable[[Any], Any]


def call(style: Style, function: Function, text: str, task: Task) -> Any:
    """What `function` says of one reply, in the words of its style; a coroutine is run to its end.

    Raises whatever the function raises, and ValueError for an answer of another form.
    """
    args, kwargs = style.arguments(function, text, task)
    value = function(*args, **kwargs)
    return style.result(asyncio.run(_awaited(value)) if inspect.isawaitable(value) else value)


def check(style: Style, function: Function, name: str, task: Task) -> None:
    """Raise ConfigError unless `function` can be called in its style for tasks like `task`."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # written in C, which tells nothing
        return
    args, kwargs = style.arguments(function, "", task)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        known = style.arguments(_anything, "", task)[1]
        given = [f"argument {i + 1}" for i in range(len(args))] + sorted(known)
        raise ConfigError(
            f"{name}{signature} cannot be called ({error}); what it can get is {', '.join(given)}. "
            "Correct it, name another style, or add what it misses to the metadata of the tasks."
        ) from error


def _anything(*args: Any, **kwargs: Any) -> None:
    """A function to which a style gives all that it has."""


async def _awaited(value: Any) -> Any:
    return await value


def _native(function: Function, text: str, task: Task) -> Arguments:
    return (text, task.answer, task), {}


def _trl(function: Function, text: str, task: Task) -> Arguments:
    given = {"prompts": [task.prompt], "completions": [text], **_columns(task)}
    return (), _named(function, given)


def _trl_chat(function: Function, text: str, task: Task) -> Arguments:
    prompt, completion = _messages(text, task)
    return (), _named(
        function, {"prompts": [prompt], "completions": [completion], **_columns(task)}
    )


def _columns(task: Task) -> dict[str, list[Any]]:
    """The gold under each of its usual names, and the metadata, as columns of one row."""
    row = {"solution": task.answer, "ground_truth": task.answer, **task.metadata}
    return {str(key): [value] for key, value in (row | {"answer": task.answer}).items()}


def _verl(function: Function, text: str, task: Task) -> Arguments:
    return (), {
        "data_source": task.metadata.get("data_source", task.dataset),
        "solution_str": text,
        "ground_truth": task.answer,
        "extra_info": dict(task.metadata),
    }


def _dspy(function: Function, text: str, task: Task) -> Arguments:
    example = Fields({**task.metadata, "question": task.prompt, "answer": task.answer})
    # A reply without a final answer is wrong, not a fault of the metric: hence no None.
    prediction = Fields({"answer": extract_answer(text).answer or "", "text": text})
    return (example, prediction), {name: None for name in _OPTIONAL if name in _required(function)}


def _verifiers(function: Function, text: str, task: Task) -> Arguments:
    prompt, completion = _messages(text, task)
    given = {
        "prompt": prompt,
        "completion": completion,
        "answer": task.answer,
        "info": dict(task.metadata),
        "task": task.dataset,
    }
    return (), _named(function, {**given, "state": dict(given)})


def _messages(text: str, task: Task) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    user = {"role": "user", "content": task.prompt}
    return [user], [{"role": "assistant", "content": text}]


def _named(function: Function, given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the given values that the function has a name for, or all if it takes any."""
    known = _parameters(function)
    if known is None or any(p.kind is p.VAR_KEYWORD for p in known.values()):
        return dict(given)
    return {name: value for name, value in given.items() if name in known}


def _required(function: Function) -> set[str]:
    known = _parameters(function) or {}
    return {name for name, p in known.items() if p.default is p.empty}


def _parameters(function: Function) -> Mapping[str, inspect.Parameter] | None:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return None


def _as_is(value: Any) -> Any:
    return value


def _only(value: Any) -> Any:
    """The one reward of a list of rewards."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if not isinstance(value, list | tuple) or len(value) != 1:
        raise ValueError(f"gave {_shown(value)} and not a list of one reward")
    return value[0]


def _scored(value: Any) -> Any:
    """The score of a table or an object that has one, else the value itself."""
    if isinstance(value, Mapping):
        if "score" not in value:
            raise ValueError(f"gave {_shown(value)}, which has no score")
        return value["score"]
    return getattr(value, "score", value)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


STYLES: Mapping[str, Style] = {
    "tfgrpo": Style(_native, _as_is),
    "trl": Style(_trl, _only),
    "trl-chat": Style(_trl_chat, _only),
    "verl": Style(_verl, _scored),
    "dspy": Style(_dspy, _scored),
    "verifiers": Style(_verifiers, _as_is),
}
