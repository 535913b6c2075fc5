"""`tfgrpo abacus`: the pocket base model; rebuild it, measure it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli import console, options

app = typer.Typer(no_args_is_help=True, help="The pocket base model: rebuild it, measure it.")


@app.command("train")
def train(
    run: Annotated[Path, typer.Option(help="Where; an unfinished training goes on.")] = Path(
        "runs/abacus"
    ),
    tokens: Annotated[float, typer.Option(help="Budget in millions of tokens.")] = 0.0,
    seed: Annotated[int, typer.Option()] = 0,
    replicas: Annotated[int, typer.Option(help="Processes that share a batch.")] = 2,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    compiled: Annotated[bool, typer.Option(help="torch.compile; a minute, then faster.")] = True,
    weights: Annotated[
        Path | None,
        typer.Option(help="Go on from these, at half the curriculum.", show_default=False),
    ] = None,
) -> None:
    """Pretrain on generated documents, from nothing or from weights. Leaves weights/ in the run."""
    from dataclasses import replace

    from baselines.abacus.train import GO_ON, Recipe
    from baselines.abacus.train import train as pretrain

    recipe = replace(Recipe(), seed=seed, replicas=replicas)
    if weights is not None:
        recipe = replace(recipe, **GO_ON)
    if tokens:
        recipe = replace(recipe, tokens=int(tokens * 1e6))
    console.note(f"Training on {recipe.tokens / 1e6:.0f}M tokens into {console.safe(run)} ...")
    with console.progress() as progress:
        bar = progress.add_task("Pretraining", total=recipe.tokens, note="")
        for point in pretrain(recipe, run, device, compiled, weights):
            progress.update(bar, completed=point.tokens, note=f"loss {point.loss:.3f}")
    folder = console.safe(run / "weights")
    console.note(f"Done. Weights are in {folder}; measure them: tfgrpo abacus card.")


@app.command("card")
def card(
    weights: Annotated[
        Path | None, typer.Option(help="The shipped weights, if not given.", show_default=False)
    ] = None,
    problems: Annotated[int, typer.Option(help="Held-out problems a family.")] = 64,
    samples: Annotated[int, typer.Option(help="Samples a problem.")] = 64,
    split: Annotated[str, typer.Option(help="dev while the recipe changes.")] = "test",
    seed: Annotated[int, typer.Option()] = 0,
    json: options.Json = False,
) -> None:
    """Measure what the model card states, on problems and wordings never seen in training."""
    import asyncio

    from baselines.abacus.card import Size, markdown, measure
    from cli.wiring import abacus_path, pocket_threads
    from tfgrpo.errors import ConfigError
    from tfgrpo.llm.transformers_local import TransformersChat
    from tfgrpo.tasks.split import SPLITS

    checked = next((s for s in SPLITS if s == split), None)
    if checked is None:
        raise ConfigError(f"There is no split {split!r}; choose train, dev or test.")
    model = TransformersChat(
        str(weights or abacus_path()), "cpu", max_batch_rows=256, threads=pocket_threads()
    )
    try:
        measured = asyncio.run(measure(model, Size(problems, samples), seed, checked))
    finally:
        model.close()
    if json:
        console.print_json(measured)
        return
    console.out.print(markdown(measured), markup=False, soft_wrap=True)
