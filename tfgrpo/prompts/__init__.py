"""Prompt packs: versioned templates as package data, shared by both arms.

A pack is a folder of Markdown files, one for each part that a model plays. Each file has a
`# system` and a `# user` section with `{{placeholder}}` slots; a section that renders empty sends
no message. Every pack fulfils the same contracts, `CONTRACTS`, so a pack can be swapped without a
change of code. Values are inserted verbatim and never scanned again: a slot in a model's text
stays text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from tfgrpo.errors import ConfigError
from tfgrpo.seeding import stable_hash
from tfgrpo.types import Message

CONTRACTS: Mapping[str, frozenset[str]] = {
    "solve": frozenset({"library", "question"}),
    "library": frozenset({"lines"}),
    "cases": frozenset({"cases"}),
    "case": frozenset({"number", "question", "plan", "outcome", "reason"}),
    "summarise": frozenset({"question", "attempt", "outcome", "gold"}),
    "compare": frozenset({"question", "attempts", "library", "gold", "limit", "max_words"}),
    "consolidate": frozenset({"library", "candidates", "capacity", "max_words"}),
    "direct": frozenset({"questions", "limit", "max_words"}),
    "repair": frozenset({"problems"}),
}
REQUIRED: Mapping[str, frozenset[str]] = {
    "solve": frozenset({"library", "question"}),
    "library": frozenset({"lines"}),
    "cases": frozenset({"cases"}),
    "case": frozenset({"plan"}),
    "summarise": frozenset({"question", "attempt", "outcome"}),
    "compare": frozenset({"question", "attempts", "library"}),
    "consolidate": frozenset({"library", "candidates"}),
    "direct": frozenset({"questions"}),
    "repair": frozenset({"problems"}),
}

_SLOT = re.compile(r"\{\{(\w+)\}\}")
_SECTIONS = re.compile(
    r"\A# system\n(?P<system>.*?)^# user\n(?P<user>.*)\Z", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Template:
    """One prompt: the text of its system and its user message, with slots."""

    name: str
    system: str
    user: str

    @property
    def slots(self) -> frozenset[str]:
        return frozenset(_SLOT.findall(self.system + self.user))

    def render(self, **values: str) -> tuple[Message, ...]:
        """Fill every slot. Raises KeyError for a slot without a value: a bug of the caller."""

        def fill(text: str) -> str:
            return _SLOT.sub(lambda m: values[m.group(1)], text).strip()

        parts = (("system", fill(self.system)), ("user", fill(self.user)))
        return tuple(Message(role, text) for role, text in parts if text)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class PromptPack:
    name: str
    templates: Mapping[str, Template]
    placebo: tuple[str, ...]

    @property
    def version(self) -> str:
        """Changes when any template changes; stored with everything the pack produced."""
        texts = [(t.name, t.system, t.user) for t in self.templates.values()]
        return f"{self.name}@{stable_hash(texts, digits=8)}"

    @property
    def asks_for_json(self) -> bool:
        """Whether editors are told to reply in JSON; only then may a server enforce a schema.

        A model that is held to a form it was not told writes blanks up to its token limit.
        """
        template = self.templates["compare"]
        return "JSON" in template.system + template.user

    def render(self, part: str, **values: str) -> tuple[Message, ...]:
        return self.templates[part].render(**values)

    def library_block(self, lines: str) -> str:
        """The library as it stands in a solving prompt; empty for an empty library."""
        return self.render("library", lines=lines)[0].content if lines else ""

    def case(self, number: int, question: str, plan: str, outcome: str, reason: str) -> str:
        """One remembered case as it stands in a solving prompt."""
        told = {"question": question, "plan": plan, "outcome": outcome, "reason": reason}
        return self.render("case", number=str(number), **told)[0].content

    def cases_block(self, cases: Sequence[str]) -> str:
        """All cases of a solving prompt under their heading; empty for none."""
        return self.render("cases", cases="\n".join(cases))[0].content if cases else ""


def _parse(name: str, text: str) -> Template:
    match = _SECTIONS.match(text)
    if match is None:
        raise ConfigError(
            f"The prompt template {name}.md lacks its '# system' and '# user' headings; add both."
        )
    template = Template(name, match["system"], match["user"])
    unknown = template.slots - CONTRACTS[name]
    missing = REQUIRED[name] - template.slots
    if unknown or missing:
        raise ConfigError(
            f"The prompt template {name}.md has unknown slots {sorted(unknown)} and lacks "
            f"{sorted(missing)}; allowed are {sorted(CONTRACTS[name])}."
        )
    return template


def pack_names() -> tuple[str, ...]:
    return tuple(sorted(p.name for p in files(__name__).iterdir() if (p / "solve.md").is_file()))


@cache
def load_pack(name: str) -> PromptPack:
    """Load a shipped pack by name, or a user's own folder by path.

    Raises ConfigError if a template is missing or breaks its contract.
    """
    folder = files(__name__) / name if name in pack_names() else Path(name)
    if not folder.is_dir():
        raise ConfigError(
            f"There is no prompt pack {name!r}; use one of {', '.join(pack_names())} or a folder."
        )
    missing = [f"{part}.md" for part in CONTRACTS if not (folder / f"{part}.md").is_file()]
    if missing:
        raise ConfigError(f"The prompt pack {name!r} lacks {', '.join(missing)}; add these files.")
    templates = {p: _parse(p, (folder / f"{p}.md").read_text(encoding="utf-8")) for p in CONTRACTS}
    placebo = folder / "placebo.txt"
    lines = placebo.read_text(encoding="utf-8").splitlines() if placebo.is_file() else []
    return PromptPack(name, templates, tuple(line for line in lines if line.strip()))
