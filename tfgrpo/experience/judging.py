"""How a proposed operation is judged against a library, and what it changes.

The order of the rules is the one of the log codes: is the entry known, is it pinned, may the text
stand there, who wins a conflict, is it said already, do the caps hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tfgrpo.errors import ConfigError
from tfgrpo.experience.edits import (
    Add,
    Claim,
    Code,
    Delete,
    Edit,
    Keep,
    Merge,
    Modify,
    Operation,
    Rollback,
    SetStatus,
    targets_of,
)
from tfgrpo.experience.guard import (
    Similarity,
    approximate_tokens,
    has_instruction_injection,
    normalise,
    similarity,
    word_count,
)
from tfgrpo.experience.oplog import Experience, Origin, Outcome, Source, fold, render, shown, until
from tfgrpo.types import EMPTY

TokenCounter = Callable[[str], int]


@dataclass(frozen=True, slots=True)
class Limits:
    """Caps of the prompt block (`max_entries`, `max_tokens`) and of one lesson (`max_words`).

    From `near_duplicate` similarity on, two lessons are one. A model's delete needs the support of
    `delete_support` groups.
    """

    max_entries: int = 40
    max_tokens: int = 1500
    max_words: int = 32
    near_duplicate: float = 0.85
    delete_support: int = 1

    def __post_init__(self) -> None:
        if min(self.max_entries, self.max_tokens, self.max_words) < 1:
            raise ConfigError(
                "The library limits max_entries, max_tokens and max_words count from 1; set each "
                "to at least 1."
            )
        if not 0 < self.near_duplicate <= 1:
            raise ConfigError(
                f"near_duplicate is {self.near_duplicate}, but it is a similarity; set it above 0 "
                "and at most 1."
            )


def _no_leak(text: str, evidence: tuple[str, ...]) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class EditContext:
    """What surrounds a batch of edits.

    `sources` says what each evidence id stands for. `leak(text, evidence)` gives the reason why a
    text gives a task away, or None (see `guard.leaks`).
    """

    step: int
    model: str
    prompt_version: str
    sources: Mapping[str, tuple[Source, ...]] = field(default_factory=lambda: EMPTY)
    leak: Callable[[str, tuple[str, ...]], str | None] = _no_leak


@dataclass(frozen=True, slots=True)
class Rules:
    """The limits and the two measures that they are taken with."""

    limits: Limits = Limits()
    count_tokens: TokenCounter = approximate_tokens
    similarity: Similarity = similarity

    def over_caps(self, entries: Sequence[Experience]) -> bool:
        return self.excess(entries) > 0

    def excess(self, entries: Sequence[Experience]) -> int:
        """Entries plus tokens above the caps; 0 if both caps hold."""
        tokens = self.count_tokens(render(entries)) - self.limits.max_tokens
        return max(0, len(entries) - self.limits.max_entries) + max(0, tokens)


@dataclass(frozen=True, slots=True)
class Verdict:
    code: Code
    detail: str = ""
    changes: tuple[Experience, ...] = ()


class Draft:
    """A library while operations are judged; the only mutable thing here, gone when they are."""

    def __init__(
        self, rules: Rules, log: Sequence[Outcome], context: EditContext, origin: Origin
    ) -> None:
        self.log = list(log)
        self._rules = rules
        self._context = context
        self._origin = origin
        self._step = context.step
        self._entries = fold(log)

    def record(
        self, operation: Operation, verdict: Verdict, origin: Origin | None = None
    ) -> Outcome:
        if isinstance(operation, Rollback):
            self._step = min(self._step, operation.step)
        outcome = Outcome(
            operation,
            verdict.code,
            verdict.detail,
            verdict.changes,
            self._step,
            origin or self._origin,
            self._context.model,
            self._context.prompt_version,
        )
        self.log.append(outcome)
        self._entries.update((entry.id, entry) for entry in verdict.changes)
        return outcome

    def record_claim(
        self, claim: Claim, edits: Sequence[Edit], verdict: Verdict
    ) -> dict[int, Outcome]:
        """Log the pooled verdict once; the other members of an accepted claim are duplicates."""
        first, *others = claim.members
        echo = verdict
        if not verdict.code.startswith("E_"):
            echo = Verdict("duplicate", "its support went to an equal edit of this batch")
        outcomes = {first: self.record(edits[first], verdict)}
        return outcomes | {i: self.record(edits[i], echo) for i in others}

    def refusal(self, operation: Operation) -> Verdict | None:
        """Why an operation cannot be considered, judged on its own; None if it can be."""
        targets = targets_of(operation)
        known = [self._entries[target] for target in targets if self._knows(target)]
        if targets != () and targets != ("",) and not known:
            return Verdict("E_UNKNOWN_ID", f"the library shows no {', '.join(targets)}")
        if not known and not isinstance(operation, Add | Keep | Rollback):
            return Verdict("E_UNKNOWN_ID", "no entry is named")
        if self._origin == "model" and not isinstance(operation, Keep):
            pinned = [entry.id for entry in known if entry.status == "pinned"]
            if pinned:
                return Verdict("E_PINNED", f"{', '.join(pinned)} is pinned")
        if isinstance(operation, Add | Modify | Merge):
            return self._text_refusal(operation)
        return None

    def _knows(self, target: str) -> bool:
        """A model knows what it was shown; a person knows every entry."""
        entry = self._entries.get(target)
        return entry is not None and (self._origin == "user" or entry.in_prompt)

    def _text_refusal(self, edit: Add | Modify | Merge) -> Verdict | None:
        if not any(map(str.isalnum, edit.text)):
            return Verdict("E_EMPTY", "a lesson needs words")
        words = word_count(edit.text)
        if words > self._rules.limits.max_words:
            limit = self._rules.limits.max_words
            return Verdict("E_TOO_LONG", f"{words} words, at most {limit} are allowed")
        if has_instruction_injection(edit.text):
            return Verdict("E_INJECTION", "the text gives orders to the model or holds chat markup")
        leak = self._context.leak(edit.text, edit.evidence)
        return None if leak is None else Verdict("E_LEAK", leak)

    def narrowed(self, merge: Merge) -> Modify | Merge:
        """The merge of what exists among its targets; of a single entry, a modification."""
        known = tuple(target for target in merge.targets if self._knows(target))
        if len(known) > 1:
            return replace(merge, targets=known)
        return Modify(
            known[0],
            merge.text,
            reason=merge.reason,
            evidence=merge.evidence,
            support=merge.support,
        )

    def judge(self, operation: Operation) -> Verdict:
        """The effect of an operation that passed `refusal` and won its conflicts."""
        match operation:
            case Add():
                return self._add(operation)
            case Modify():
                return self._modify(operation)
            case Merge():
                return self._merge(operation)
            case Delete():
                return self._delete(operation)
            case Keep():
                entry = self._entries.get(operation.target)
                backed = entry is not None and bool(operation.evidence)
                return Verdict(
                    "kept", "", (self._backed(entry, operation),) if entry and backed else ()
                )
            case SetStatus():
                entry = self._entries[operation.target]
                changed = replace(entry, status=operation.status)
                return Verdict("kept") if changed == entry else Verdict("status", "", (changed,))
            case Rollback():
                changes = self._rolled_back(operation.step)
                return Verdict("rolled_back" if changes else "kept", "", changes)

    def _add(self, edit: Add) -> Verdict:
        twin = self._twin(edit.text, ())
        if twin is not None:
            detail = f"{twin.id} says this already; its support grows"
            return Verdict("duplicate", detail, (self._backed(twin, edit),))
        return Verdict("added", "", (self._new(edit, (), self._sources(edit), edit.support),))

    def _modify(self, edit: Modify) -> Verdict:
        entry = self._entries[edit.target]
        if entry.text == edit.text:
            return Verdict("kept", "the text is the same", (self._backed(entry, edit),))
        twin = self._twin(edit.text, (entry.id,))
        if twin is not None:
            return Verdict("E_DUPLICATE", f"{twin.id} says this already")
        changed = replace(
            self._backed(entry, edit),
            text=edit.text,
            version=entry.version + 1,
            model=self._context.model,
            prompt_version=self._context.prompt_version,
        )
        return Verdict("modified", "", (changed,))

    def _merge(self, edit: Merge) -> Verdict:
        twin = self._twin(edit.text, edit.targets)
        if twin is not None:
            return Verdict("E_DUPLICATE", f"{twin.id} says this already")
        parents = [self._entries[target] for target in edit.targets]
        inherited = [source for parent in parents for source in parent.sources]
        sources = tuple(dict.fromkeys((*inherited, *self._sources(edit))))
        support = edit.support + sum(parent.support for parent in parents)
        merged = self._new(edit, edit.targets, sources, support)
        retired = (replace(parent, status="retired") for parent in parents)
        return Verdict("merged", "", (*retired, merged))

    def _delete(self, edit: Delete) -> Verdict:
        needed = self._rules.limits.delete_support
        if self._origin == "model" and edit.support < needed:
            return Verdict("E_SUPPORT", f"{edit.support} groups want it, {needed} are needed")
        return Verdict("deleted", "", (replace(self._entries[edit.target], status="retired"),))

    def _new(
        self,
        edit: Add | Merge,
        parents: tuple[str, ...],
        sources: tuple[Source, ...],
        support: int,
    ) -> Experience:
        return Experience(
            f"E{len(self._entries) + 1}",
            edit.text,
            "active",
            1,
            self._step,
            parents,
            sources,
            support,
            self._context.model,
            self._context.prompt_version,
        )

    def _sources(self, edit: Edit) -> tuple[Source, ...]:
        known = self._context.sources
        return tuple(dict.fromkeys(s for item in edit.evidence for s in known.get(item, ())))

    def _backed(self, entry: Experience, edit: Edit) -> Experience:
        sources = tuple(dict.fromkeys((*entry.sources, *self._sources(edit))))
        return replace(entry, support=entry.support + edit.support, sources=sources)

    def _twin(self, text: str, besides: tuple[str, ...]) -> Experience | None:
        """The entry that says the same. A disabled one counts: else its lesson would come back."""
        plain, best, nearest = normalise(text), None, self._rules.limits.near_duplicate
        for entry in self._entries.values():
            if entry.status == "retired" or entry.id in besides:
                continue
            if normalise(entry.text) == plain:
                return entry
            likeness = self._rules.similarity(text, entry.text)
            if likeness >= nearest and (best is None or likeness > nearest):
                best, nearest = entry, likeness
        return best

    def _rolled_back(self, step: int) -> tuple[Experience, ...]:
        past = fold(until(self.log, step))
        return tuple(
            restored
            for entry in self._entries.values()
            if (restored := _restored(entry, past.get(entry.id))) != entry
        )

    def capped(self, verdict: Verdict) -> Verdict:
        """The verdict, unless it lets entries that no eviction may touch outgrow the caps."""
        after = self._entries | {entry.id: entry for entry in verdict.changes}
        if self._pinned_excess(after) <= self._pinned_excess(self._entries):
            return verdict
        return Verdict("E_CAP", "the pinned entries alone would exceed the limits; unpin one first")

    def _pinned_excess(self, entries: Mapping[str, Experience]) -> int:
        return self._rules.excess([entry for entry in shown(entries) if entry.status == "pinned"])

    def evict(self) -> list[Outcome]:
        """Retire the least supported, then oldest, unpinned entry until the caps hold."""
        evicted: list[Outcome] = []
        while self._rules.over_caps(shown(self._entries)):
            unpinned = [entry for entry in self._entries.values() if entry.status == "active"]
            if not unpinned:
                break
            entry = min(unpinned, key=lambda e: (e.support, e.number))
            operation = SetStatus(entry.id, "retired", reason="the library is over its caps")
            changes = (replace(entry, status="retired"),)
            evicted.append(self.record(operation, Verdict("evicted", "", changes), "limits"))
        return evicted


def _restored(entry: Experience, past: Experience | None) -> Experience:
    """The past state of an entry. Its version still moves on, so one version is one text."""
    if past is None:
        return replace(entry, status="retired")
    return replace(past, version=entry.version + (past.text != entry.text))
