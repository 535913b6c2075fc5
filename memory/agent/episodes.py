"""The other two memories of a memory-augmented decision process (arXiv 2508.16153, section 3).

The subtask memory holds the goal of one episode, its steps in order, and what came of them; the
tool memory holds the calls that were made. Both are cases of a store, of the kinds `subtask` and
`tool` in the namespace `<ns>/episodes/<id>`, so that history, export and purge hold for them. They
are read in their order and never found by likeness.

The `plan` of such a case is JSON that names its position, which keeps two equal records two.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

from memory.agent.transcript import (
    StepState,
    Subtask,
    TokenCounter,
    ToolCall,
    render_calls,
    render_plan,
)
from memory.errors import CaseNotFound, InvalidCase, StoreError
from memory.sqlite.codec import canonical_json
from memory.types import STATES, Case, CaseFilter, CaseIn, ChangeSet, Kind, Parent, Verdict

if TYPE_CHECKING:
    from memory.store import CaseStore

_OUTCOMES: dict[str, Verdict] = {"done": "success", "failed": "failure"}


class Episode:
    """One episode in a store; whoever opens it again goes on with it.

    Every method is all-or-nothing. A closed episode is still read, but no longer written.

    Raises:
        InvalidCase: on construction, if the id cannot be a part of a namespace.
    """

    def __init__(
        self,
        store: CaseStore,
        episode_id: str,
        *,
        ns: str = "default",
        actor: str,
        run_id: str | None = None,
    ) -> None:
        if not episode_id or "/" in episode_id:
            raise InvalidCase(f"{episode_id!r} cannot name an episode; give letters, no slash.")
        self.ns = f"{ns}/episodes/{episode_id}"
        self._store = store
        self._actor = actor
        self._run_id = run_id

    def begin(self, goal: str, steps: Sequence[str]) -> list[Subtask]:
        """Set the goal and the first plan. Raises StoreError if there is a goal already."""
        with self._store.transaction():
            if self.goal is not None:
                raise StoreError(f"{self.ns} has a goal already; plan it anew, or begin another.")
            self._add("subtask", goal, {"position": 0})
            return self.replan(steps)

    def replan(self, steps: Sequence[str]) -> list[Subtask]:
        """Drop what is still pending, and append these steps; returns the new ones."""
        with self._store.transaction():
            for step in self.subtasks():
                if step.state == "pending":
                    self.mark(step.position, "dropped")
            added = [
                self._add("subtask", text, {"position": self._next("subtask"), "state": "pending"})
                for text in steps
            ]
        return [_subtask(case) for case in added]

    def mark(self, position: int, state: StepState, result: str | None = None) -> Subtask:
        """Say where a step stands; a result of None leaves the earlier one."""
        if state not in get_args(StepState):
            raise InvalidCase(f"No step is {state!r}; use {', '.join(get_args(StepState))}.")
        with self._store.transaction():
            self._require_open()
            case = self._at("subtask", position)
            fields = {
                "plan": canonical_json({**_body(case), "state": state}),
                "outcome": _OUTCOMES.get(state, "unknown"),
                "answer": case.answer if result is None else result,
            }
            changed = self._store.update(
                case.id, fields, expected_version=case.version, actor=self._actor
            )
        return _subtask(changed)

    def call(
        self,
        name: str,
        arguments: Mapping[str, Any],
        *,
        outcome: Verdict = "unknown",
        result: str | None = None,
        cost: float | None = None,
        seconds: float | None = None,
        subtask: int | None = None,
    ) -> ToolCall:
        """Append a call that was made. Raises InvalidCase if its arguments are no JSON."""
        body = {"arguments": dict(arguments), "cost": cost, "seconds": seconds, "subtask": subtask}
        with self._store.transaction():
            parents = () if subtask is None else (Parent(self._at("subtask", subtask).id, "for"),)
            case = self._add(
                "tool",
                name,
                {"position": self._next("tool"), **body},
                outcome=outcome,
                answer=result,
                parents=parents,
            )
        return _call(case)

    def close(self) -> ChangeSet:
        """Archive all records. Raises StoreError if one of them is pinned."""
        with self._store.transaction():
            ids = [c.id for c in (*self._records("subtask"), *self._records("tool"))]
            return self._store.archive(ids, actor=self._actor, reason="episode closed")

    @property
    def goal(self) -> str | None:
        heads = (c for c in self._records("subtask") if _body(c)["position"] == 0)
        return next((case.question for case in heads), None)

    def subtasks(self) -> list[Subtask]:
        """The steps by position."""
        return [_subtask(c) for c in self._records("subtask") if _body(c)["position"]]

    def calls(self, subtask: int | None = None) -> list[ToolCall]:
        """The calls by position, of all steps or of one."""
        found = [_call(case) for case in self._records("tool")]
        return [call for call in found if subtask in (None, call.subtask)]

    def render_plan(self, budget: int, count: TokenCounter) -> str:
        """Goal and steps in at most `budget` tokens, see `memory.agent.transcript`."""
        return render_plan(self.goal, self.subtasks(), budget, count)

    def render_calls(self, budget: int, count: TokenCounter, subtask: int | None = None) -> str:
        """Calls in at most `budget` tokens, of all steps or of one."""
        return render_calls(self.calls(subtask), budget, count)

    def _records(self, kind: Kind, states: Iterable[Any] = ("active", "archived")) -> list[Case]:
        wanted = CaseFilter(ns=self.ns, kind=kind, states=tuple(states))
        found = [case for case in self._store.cases(wanted) if case.ns == self.ns]
        return sorted(found, key=lambda case: int(_body(case)["position"]))

    def _at(self, kind: Kind, position: int) -> Case:
        for case in self._records(kind):
            if position > 0 and _body(case)["position"] == position:
                return case
        raise CaseNotFound(f"{self.ns} has no {kind} {position}; list them to see which there are.")

    def _next(self, kind: Kind) -> int:
        return 1 + max((_body(c)["position"] for c in self._records(kind, STATES)), default=0)

    def _add(self, kind: Kind, question: str, body: Mapping[str, Any], **more: Any) -> Case:
        self._require_open()
        try:
            plan = canonical_json(body)
        except (TypeError, ValueError) as error:
            raise InvalidCase(f"{question} has no JSON arguments ({error}); give such.") from error
        case = CaseIn(
            ns=self.ns, kind=kind, question=question, plan=plan, run_id=self._run_id, **more
        )
        result = self._store.add(case, actor=self._actor)
        if result.status != "created":
            raise StoreError(f"This record of {self.ns} was deleted; begin another episode.")
        return self._store.get(result.id)

    def _require_open(self) -> None:
        records = [*self._records("subtask", STATES), *self._records("tool", STATES)]
        if records and all(case.state != "active" for case in records):
            raise StoreError(f"{self.ns} is closed; begin another episode.")


def _body(case: Case) -> dict[str, Any]:
    return dict(json.loads(case.plan))


def _subtask(case: Case) -> Subtask:
    body = _body(case)
    return Subtask(case.id, body["position"], case.question, body["state"], case.answer)


def _call(case: Case) -> ToolCall:
    body = _body(case)
    return ToolCall(
        case.id,
        body["position"],
        case.question,
        body["arguments"],
        case.outcome,
        case.answer,
        body["cost"],
        body["seconds"],
        body["subtask"],
    )
