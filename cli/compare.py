"""`tfgrpo compare`: evaluated policies of any origin, judged together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import console, options

if TYPE_CHECKING:
    from tfgrpo.verdict.arms import Arm, Evaluation
    from tfgrpo.verdict.judge import Square
    from tfgrpo.verdict.meanings import Meanings
    from tfgrpo.verdict.record import Question, Verdict


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Evaluation runs, folders of a bench or sweep, or files of other tools, as PATH "
            "or NAME=PATH.",
            show_default=False,
        ),
    ],
    base: Annotated[
        str | None,
        typer.Option(help="The arm that others are compared with.", show_default=False),
    ] = None,
    k: Annotated[
        int | None,
        typer.Option(
            "--k", min=1, help="Largest k; by default the samples a problem.", show_default=False
        ),
    ] = None,
    k_mid: Annotated[int, typer.Option(help="k of variety and votes.", min=1)] = 8,
    margin: Annotated[
        float, typer.Option(help="How far pass@k may fall while coverage counts as kept.")
    ] = 0.02,
    duel: Annotated[
        list[str] | None,
        typer.Option(help="A further pair, as A,B. May be repeated.", show_default=False),
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option(help="Leave out problems that an arm has too few samples of.")
    ] = False,
    force: Annotated[
        bool, typer.Option(help="Compare runs that do not match; the result says so.")
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(help="A folder for the page, the figures and the tables.", show_default=False),
    ] = None,
    meanings: Annotated[
        str | None,
        typer.Option(
            help="Tell replies apart by meaning: minilm, or a sentence-transformers folder or id.",
            show_default=False,
        ),
    ] = None,
    same_meaning: Annotated[
        float | None,
        typer.Option(
            help="The cosine of equal meaning; default: a fifth of the base's pairs reach it.",
            show_default=False,
        ),
    ] = None,
    seed: options.Seed = None,
    json: options.Json = False,
) -> None:
    """Judge arms against a base: pass@k, variety, crossing, with paired intervals over problems.

    Refuses runs of different problems, decoding, verifier, prompt or base model.
    """
    from cli.plain import plain

    told_apart = meanings_of(meanings, same_meaning, report)
    evaluations = [e for run in runs for e in gathered(run)]
    verdict, arms = judged(
        evaluations, asked(evaluations, base, k, k_mid, margin, seed),
        duels_of(duel, runs), square_of(runs), allow_missing, force,
    )  # fmt: skip
    if report is not None:
        from cli.compare_report import written

        verdict, paths = written(verdict, arms, report, told_apart)
    if json:
        console.print_json(plain(verdict))
        return
    show(verdict)
    if report is not None:
        console.note(f"The report is {paths[0]}.")


def report_bench(root: Path, json: bool) -> None:
    """The verdict on a bench's own arms, as text and in bench.json."""
    from cli.plain import plain
    from tfgrpo.canonical import canonical_json
    from tfgrpo.storage import write_atomic

    runs = [str(root)]
    evaluations = gathered(runs[0])
    question = asked(evaluations, None, None, 8, 0.02, None)
    verdict, _ = judged(
        evaluations, question, duels_of(None, runs), square_of(runs), allow_missing=True
    )
    document = plain(verdict)
    write_atomic(root / "bench.json", canonical_json(document).encode())
    if json:
        console.print_json(document)
    else:
        show(verdict)


def show(verdict: Verdict) -> None:
    """Tables, notes and the sentences on the best arms."""
    from cli.compare_table import arms_table, differences_table, replies_table
    from tfgrpo.verdict.fates import troubles
    from tfgrpo.verdict.sentences import headline

    console.show(arms_table(verdict))
    console.show(replies_table(verdict))
    console.show(differences_table(verdict))
    for told in (*verdict.stamps, *verdict.budgets, *troubles(verdict.fates)):
        console.show(f"Note: {console.safe(told)}")
    console.show(f"\n{console.safe(headline(verdict))}")


def gathered(run: str) -> tuple[Evaluation, ...]:
    """The evaluations that an argument names. Raises ConfigError if there are none."""
    from tfgrpo.errors import ConfigError
    from tfgrpo.runs import list_runs
    from tfgrpo.verdict.own import MANIFEST, read_own

    name, _, rest = run.rpartition("=")
    path = Path(run) if Path(run).exists() or not name else Path(rest)
    label = name if path == Path(rest) and name else None
    if not path.exists():
        raise ConfigError(f"There is no {path}; give the folder of a run or a file of samples.")
    if (path / MANIFEST).is_file() or (path.is_dir() and list_runs(path)):
        return read_own(path, label)
    from tfgrpo.verdict.sources import read_evaluations

    return read_evaluations(path, label, notice=lambda text: console.note(console.safe(text)))


def asked(
    evaluations: Sequence[Evaluation],
    base: str | None,
    k: int | None,
    k_mid: int,
    margin: float,
    seed: int | None,
) -> Question:
    """The question with its defaults: the arm of family base, all samples that were drawn."""
    from tfgrpo.verdict.record import Question

    drawn = max((o.n for e in evaluations for o in e.outcomes), default=1)
    k_max = k or drawn
    bases = [e.name for e in evaluations if e.family == "base"]
    named = base or ("base" if "base" in bases else (bases or [evaluations[0].name])[0])
    return Question(named, k_max, min(k_mid, k_max), margin, seed or 0)


def judged(
    evaluations: Sequence[Evaluation],
    question: Question,
    duels: Sequence[tuple[str, str]] = (),
    square: Square | None = None,
    allow_missing: bool = False,
    force: bool = False,
) -> tuple[Verdict, tuple[Arm, ...]]:
    """The verdict, with a stamp for whatever does not match, and the arms it is on."""
    from dataclasses import replace

    from tfgrpo.verdict.arms import arms_of
    from tfgrpo.verdict.fates import fates
    from tfgrpo.verdict.judge import judge
    from tfgrpo.verdict.matching import check_matched, shared_settings

    hotter = [e.name for e in evaluations if e.family == "control"]
    stamps = check_matched(evaluations, force, hotter)
    arms = arms_of(evaluations)
    found = judge(arms, question, duels=duels, square=square, allow_missing=allow_missing)
    settings = shared_settings(evaluations)
    stamped = replace(found, stamps=(*stamps, *found.stamps), settings=settings)
    return replace(stamped, fates=fates(arms)), arms


def meanings_of(name: str | None, cosine: float | None, report: Path | None) -> Meanings | None:
    """The view by meaning, if it was asked for. Raises ConfigError if it cannot be had."""
    from tfgrpo.errors import ConfigError

    if name is None:
        if cosine is not None:
            raise ConfigError("--same-meaning says when meanings are equal; add --meanings minilm.")
        return None
    if report is None:
        raise ConfigError("Meanings are a view of the report; add --report FOLDER.")
    from cli.banks import make_embedder
    from tfgrpo.verdict.meanings import Meanings

    return Meanings(name, make_embedder(name).embed_documents, cosine)


def duels_of(given: Sequence[str] | None, runs: Sequence[str]) -> list[tuple[str, str]]:
    """The pairs that were asked for, else those that a bench declared before it ran."""
    from tfgrpo.errors import ConfigError

    pairs = []
    for text in given or ():
        a, comma, b = text.partition(",")
        if not comma or not a.strip() or not b.strip():
            raise ConfigError(f"{text!r} is no pair of arms; write --duel A,B.")
        pairs.append((a.strip(), b.strip()))
    declared = [tuple(pair) for run in runs for pair in _manifest(run).get("duels") or ()]
    return pairs or [(a, b) for a, b in declared]


def square_of(runs: Sequence[str]) -> Square | None:
    from tfgrpo.verdict.judge import Square

    squares = [_manifest(run).get("square") for run in runs]
    return next((Square(**square) for square in squares if square), None)


def _manifest(run: str) -> dict[str, Any]:
    from tfgrpo.verdict.own import MANIFEST, read_manifest

    path = Path(run)
    return read_manifest(path) if (path / MANIFEST).is_file() else {}
