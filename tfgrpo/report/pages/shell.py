"""From a page to one HTML file that loads nothing and runs nothing but its own script.

All that a page tells is one block of JSON, which no browser runs and in which nothing can end the
element that holds it. The script shows texts as text nodes alone; the policy in the file's head
admits this one script and style by their hashes, no network, and (Trusted Types) no way to make
elements of a string. So no text can speak as HTML, even if a part of the script were careless.
"""

from __future__ import annotations

import hashlib
import html
import json
from base64 import b64encode
from functools import cache
from importlib.resources import files
from string import Template

from tfgrpo.report.pages.encoding import Encoder, visible
from tfgrpo.report.pages.parts import Page

MOST_BYTES = 2_000_000
LIMITS = (20_000, 8_000, 4_000, 2_000, 1_000, 500, 250)
"""Lengths in characters at which texts are cut: the first that keeps the file in MOST_BYTES."""

SCRIPTS = (
    "cells.js", "listing.js", "figures.js", "drawings.js", "changes.js", "rows.js", "script.js",
)  # fmt: skip

ESCAPES = (("<", r"\u003c"), (">", r"\u003e"), ("&", r"\u0026"))
"""In JSON these stand inside strings alone, where an escape means the same."""


def render(page: Page) -> str:
    """The page as a whole HTML file. Equal pages give equal bytes.

    Texts are cut, with a note, where the file would be longer than MOST_BYTES; it can only be
    longer still if the shortest texts of LIMITS, or numbers and ids alone, fill more.

    Raises:
        ValueError: if a table, a column or a row is named that the page does not have.
    """
    for limit in LIMITS:
        text = _file(page, limit)
        if len(text.encode()) <= MOST_BYTES:
            break
    return text


def _file(page: Page, limit: int) -> str:
    data = json.dumps(
        Encoder(page, limit).data(), ensure_ascii=False, separators=(",", ":"), allow_nan=False
    )
    for sign, escape in ESCAPES:
        data = data.replace(sign, escape)
    style, script = _source("style.css"), "".join(map(_source, SCRIPTS))
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; "
        "img-src data:; base-uri 'none'; form-action 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )
    return Template(_source("shell.html")).substitute(
        policy=policy,
        title=html.escape(visible(page.title[:200])),
        style=style,
        script=script,
        data=data,
    )


@cache
def _source(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
