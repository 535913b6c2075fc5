"""`tfgrpo match`: the temperature at which a policy is as random as its base."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import console, options
from tfgrpo.errors import ConfigError

if TYPE_CHECKING:
    from tfgrpo.config import EvalSpec, ModelSpec
    from tfgrpo.verdict.temperature import Found, Probe

SETTINGS = "eval.toml"


def match(
    arm: Annotated[
        Path,
        typer.Argument(
            help="An evaluation, or the learning or training run of what is to be evaluated.",
            metavar="RUN",
        ),
    ],
    like: Annotated[Path, typer.Option("--like", help="The evaluation of the base.")],
    limit: Annotated[int, typer.Option(help="How many problems.", min=1)] = 32,
    n: Annotated[int, typer.Option("--n", help="Samples a problem.", min=1)] = 8,
    split: Annotated[str, typer.Option(help="train or dev.")] = "dev",
    tolerance: Annotated[float, typer.Option(help="As a share of the base's entropy.")] = 0.02,
    seed: Annotated[int, typer.Option(help="Root of all randomness.")] = 0,
    run: options.Run = None,
    json: options.Json = False,
) -> None:
    """Find the temperature at which RUN has the token entropy that the base has at its own.

    Sampled at it, an arm shows whether the pass@k that it lost at a large k comes back with the
    entropy alone (arXiv 2504.13837, section 4.5). Entropies are those of what is drawn from, at its
    temperature and nucleus, on problems outside the test split, for models in this process.
    """
    from cli.match_runs import MatchSpec, at_found, check, run_match
    from cli.sessions import open_run
    from tfgrpo.settings import dump, load, to_toml
    from tfgrpo.verdict.temperature import Probe

    base = evaluation_in(like)
    given = {"split": split, "limit": limit, "n": n, "tolerance": tolerance, "seed": seed}
    sides = {"arm": dump(moved(base, arm)), "like": dump(base)}
    spec = load(MatchSpec, None, (), {**sides, **given})
    check(spec)
    folder = options.run_folder(run, "match", dump(spec))
    with open_run(folder, spec, "match") as opened, console.progress() as progress:
        bar = progress.add_task("Matching", total=None, note="")

        def told(probe: Probe) -> None:
            note = f"{probe.entropy:.4f} nats at temperature {probe.temperature:g}"
            progress.update(bar, advance=1, note=note)

        found = run_match(spec, opened, told)
        settings = opened.write_text(SETTINGS, to_toml(at_found(spec.arm, folder)))
    name = arm.resolve().name
    # A folder of such a name is a control to `compare`, whose decoding may be another.
    command = f"tfgrpo eval {settings} --run {options.RUNS / f'{name}-T={found.temperature:g}'}"
    first = Probe(base.sampling.temperature, found.target)
    if json:
        document = {"temperature": found.temperature, "base": first, "probes": found.probes}
        console.print_json({"run": folder, **document, "command": command})
        return
    title = f"Token entropy in nats,\n{limit} {split} problems x {n} samples"
    console.show(trace_table(title, console.safe(name), first, found))
    console.show(f"{console.safe(name)} is as random as the base at {found.temperature:g}.")
    console.note(f"Next: {console.safe(command)}")


def trace_table(title: str, name: str, base: Probe, found: Found) -> object:
    """The base, then what was tried in order, the last of which matched."""
    rows = [
        (who, f"{p.temperature:g}", f"{p.entropy:.4f}", f"{100 * p.entropy / found.target:.1f}%")
        for who, p in [("base", base), *((name, probe) for probe in found.probes)]
    ]
    return console.table(title, ("policy", "temperature", "entropy", "of base's"), rows)


def evaluation_in(path: Path) -> EvalSpec:
    """The settings of an evaluation run. Raises ConfigError if the run is of another kind."""
    from tfgrpo.config import EvalSpec
    from tfgrpo.runs import RunDir
    from tfgrpo.settings import load

    run = RunDir.open(path)
    if run.kind != "eval":
        raise ConfigError(f"{path} is a run of tfgrpo {run.kind}; give --like an evaluation.")
    return load(EvalSpec, None, (), run.config)


def moved(base: EvalSpec, path: Path) -> EvalSpec:
    """The evaluation `base` with the policy of the run in `path`, and nothing else changed.

    Raises:
        ConfigError: if the run made no policy.
    """
    from tfgrpo.config import Learned
    from tfgrpo.runs import RunDir

    kind = RunDir.open(path).kind
    if kind == "eval":
        own = evaluation_in(path)
        return base.model_copy(
            update={"model": own.model, "policy": own.policy, "memory": own.memory}
        )
    if (path / "weights").is_dir():
        return base.model_copy(update={"model": _trained(path / "weights", base.model)})
    if kind == "learn":
        return base.model_copy(update={"policy": Learned(path=path)})
    raise ConfigError(
        f"{path} made no policy; give an evaluation, or a learning or training run that is over."
    )


def _trained(weights: Path, base: ModelSpec) -> ModelSpec:
    """Weights of a run, run as the base is."""
    from tfgrpo.config import AbacusSpec, TransformersSpec

    if isinstance(base, TransformersSpec):
        return base.model_copy(update={"path": str(weights)})
    if isinstance(base, AbacusSpec):
        rows = base.max_batch_rows
        return TransformersSpec(path=str(weights), device="cpu", max_batch_rows=rows)
    return TransformersSpec(path=str(weights))
