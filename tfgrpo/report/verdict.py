"""The report of a verdict as files: a page, its figures, and tables."""

from __future__ import annotations

from pathlib import Path

from tfgrpo.report.figures.album import drawings
from tfgrpo.report.pages.shell import render
from tfgrpo.report.pages.verdict import verdict_page
from tfgrpo.report.tables import tables
from tfgrpo.storage import write_atomic
from tfgrpo.verdict.record import Verdict

PAGE, FIGURES = "report.html", "figures"


def write_report(verdict: Verdict, folder: Path) -> tuple[Path, ...]:
    """Write report.html, figures/*.png and *.svg, and *.csv; return their paths, the page first.

    Equal verdicts give equal bytes. Files that are already there are replaced.

    Raises:
        RunError: if the folder cannot be written.
    """
    drawn = drawings(verdict)
    files = {folder / PAGE: render(verdict_page(verdict, drawn)).encode()}
    for drawing in drawn:
        files[folder / FIGURES / f"{drawing.name}.png"] = drawing.png
        files[folder / FIGURES / f"{drawing.name}.svg"] = drawing.svg
    for name, text in tables(verdict).items():
        files[folder / name] = text.encode()
    for path, data in files.items():
        write_atomic(path, data)
    return tuple(files)
