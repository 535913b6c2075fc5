"""Training the model of case values on what a store has seen."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from cli import console, options
from cli.cases_options import STORE, EmbedderName, Store, attached, everything, opened
from tfgrpo.errors import ConfigError

if TYPE_CHECKING:
    from memory.read.neural import NeuralQ
    from memory.read.neural_data import Example
    from memory.read.neural_fit import FitReport, Training
    from memory.read.worth import Worth
    from memory.search.embed import F32, Embedder
    from memory.store import CaseStore
    from tfgrpo.config import MemorySpec

FIT = "fit.json"
"""In the run of a parametric read: how its model was trained and what it was worth."""


def fit(
    epochs: Annotated[int, typer.Option(help="Most passes over the reads.")] = 100,
    hidden: Annotated[int, typer.Option(help="Width of the layer between.")] = 64,
    seed: Annotated[int, typer.Option(help="Of the split and of the training.")] = 0,
    success: Annotated[float, typer.Option(help="Least reward that is a success.")] = 1.0,
    embedder: EmbedderName = None,
    store: Store = STORE,
    json: options.Json = False,
) -> None:
    """Learn which case helps with which question from the store's own reads (--read neural).

    It is measured on questions that it was not trained on, beside the base rate, which knows
    nothing, and beside the cosine, which needs no training.
    """
    from cli.banks import neural_file
    from memory.read.neural_fit import Training

    try:
        training = Training(epochs=epochs, hidden=hidden, seed=seed)
    except ValueError as error:
        raise ConfigError(f"Nothing can be trained like this: {error}") from error
    with opened(store) as bank:
        model = attached(bank, embedder)
        fitted, report = trained(bank, model, training, success)
        path = neural_file(bank, model)
    fitted.save(path)
    if json:
        console.print_json({"file": path, "report": report})
        return
    _print(report)
    console.show(f"Wrote {console.safe(path)}; read by it with --read neural.")


def fit_once(memory: MemorySpec) -> NeuralQ:
    """The model that a parametric read of this bank needs; trained and kept if there is none.

    Nothing else in the folder of the bank is touched, so that others may read it meanwhile. Equal
    banks give equal models, so whoever is killed or raced here loses nothing.
    """
    from cli.banks import neural_file, neural_model
    from memory.read.neural_fit import Training

    with opened(memory.path, "frozen") as bank:
        model = attached(bank, memory.embedder)
        path = neural_file(bank, model)
        if not path.exists():
            trained(bank, model, Training(), 1.0)[0].save(path)
        return neural_model(bank, model)


def trained(
    bank: CaseStore, model: Embedder, training: Training, success: float
) -> tuple[NeuralQ, FitReport]:
    """Fitted to the store's own log; a reward of at least `success` is one."""
    from memory.errors import StoreError
    from memory.read.neural_data import logged
    from memory.read.neural_fit import fit as train
    from memory.search.reembed import complete

    examples = logged(bank.retrievals, success=success)
    ids, rows = complete(bank, model, "question", everything(bank))
    cases = dict(zip(ids.tolist(), rows, strict=True))
    asked = questions(bank, model, examples)
    try:
        return train(examples, asked, cases, model.fingerprint, training)
    except StoreError as error:
        place = quote(str(bank.folder))
        raise StoreError(f"{error} Practice logs them: tfgrpo learn --memory {place}.") from error


def questions(bank: CaseStore, model: Embedder, examples: list[Example]) -> dict[str, F32]:
    """Vectors (dim,) of the asked questions. The log keeps hashes, and the cases know the texts."""
    from memory.search.embed import normalised
    from memory.sqlite.codec import sha256

    asked = {example.query for example in examples}
    texts = {sha256(normalised(c.question)): c.question for c in everything(bank) if c.question}
    known = {name: text for name, text in texts.items() if name in asked}
    return dict(zip(known, model.embed_queries(list(known.values())), strict=True))


def _print(report: FitReport) -> None:
    told = {"trained": report.model, "base rate": report.base_rate, "cosine": report.cosine}
    rows = [(name, *map(_number, _measures(worth))) for name, worth in told.items()]
    columns = ("", "log-loss (nats)", "AUC", "AUC within a question")
    title = f"On {report.examples[2]} cases shown for {report.queries[2]} unseen questions"
    console.show(console.table(title, columns, rows))
    learn, stop, _ = report.examples
    console.show(
        f"Trained on {learn} and stopped by {stop} others; {report.with_spread[0]} questions were "
        f"answered both ways. {report.left_out} were left out: their texts are not in the store."
    )
    if report.epoch == 0:
        console.show("Nothing was learned beyond the base rate, which is what was kept.")


def _measures(worth: Worth) -> tuple[float | None, float | None, float | None]:
    return worth.log_loss, worth.auc, worth.within


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
