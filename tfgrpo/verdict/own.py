"""Evaluations out of this program's own run folders."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tfgrpo.errors import ConfigError, RunError
from tfgrpo.ledger import Ledger, Price, phase_flops
from tfgrpo.runs import RunDir, list_runs
from tfgrpo.types import TaskOutcome, Usage
from tfgrpo.verdict.arms import Cost, Evaluation, Family

BEGAN, OUTCOMES, SAMPLES = "began.jsonl", "outcomes.jsonl", "samples.jsonl"
MANIFEST = "arms.json"
"""Written by `tfgrpo bench`: names, families and seeds of the evaluations below its folder."""

SEEDED = re.compile(r"(.+)-(\d+)")
HOTTER = re.compile(r"T=\d")
"""In a folder's name: a control that samples the base hotter."""

CONTROLS = ("empty", "placebo", "fewshot", "direct")


def read_outcomes(run: RunDir) -> tuple[TaskOutcome, ...]:
    """The outcomes of an evaluation run, equal to those that were written."""
    return tuple(
        TaskOutcome(
            row["task_id"], row["dataset"], tuple(row["correct"]), tuple(row["answers"]),
            tuple(row["modes"]), tuple(row["entropies"]), tuple(row["lengths"]),
            row["truncated"], row["failures"],
            tuple(b and tuple(b) for b in row.get("entropy_bounds", ())),
        )
        for row in run.read_rows(OUTCOMES)
    )  # fmt: skip


def read_own(path: Path, name: str | None = None) -> tuple[Evaluation, ...]:
    """The evaluation in a run folder, or all evaluations below the folder of a bench or sweep.

    Without a manifest an arm is named by its folder, of which a trailing `-N` is the seed; `name`
    names the arm of a single run.

    Raises:
        ConfigError: if there is no finished evaluation.
        RunError: if a run is damaged.
    """
    if (path / MANIFEST).is_file():
        return tuple(_listed(path))
    if (path / "config.json").is_file() and RunDir.open(path).kind == "eval":
        return (_evaluation(RunDir.open(path), path.parent, name),)
    found = [run for run in _below(path) if run.kind == "eval"]
    finished = [run for run in found if run.file(OUTCOMES).is_file()]
    if not finished:
        raise ConfigError(
            f"{path} holds no finished evaluation; run tfgrpo eval, bench or sweep first."
        )
    evaluations = [_evaluation(run, path, name) for run in finished]
    return tuple(sorted(evaluations, key=lambda e: e.family != "base"))


def base_model(model: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the untrained model that a model's weights come from, through all runs."""
    seen = dict(model)
    while seen.get("kind") == "transformers":
        made = trained_by(seen)
        if made is None:
            break
        seen = dict(made.config.get("model") or {"kind": "abacus"})
    return {k: seen[k] for k in ("kind", "path", "model") if k in seen}


def read_manifest(root: Path) -> dict[str, Any]:
    """What a bench wrote of its arms. Raises RunError if it is damaged or of another version."""
    manifest = RunDir(root).read_json(MANIFEST)
    if not isinstance(manifest, dict) or manifest.get("schema") != 1 or "arms" not in manifest:
        raise RunError(f"{root / MANIFEST} is of another version; run tfgrpo bench again.")
    return manifest


def _listed(root: Path) -> Iterator[Evaluation]:
    for row in read_manifest(root)["arms"]:
        run = RunDir.open(root / row["path"])
        made = [RunDir.open(root / stage) for stage in row["made_by"]]
        found = _evaluation(run, root, row["name"], made)
        yield replace(found, seed=row["seed"], family=row["family"])


def _evaluation(
    run: RunDir, root: Path, name: str | None, makers: Sequence[RunDir] | None = None
) -> Evaluation:
    """`makers` are the runs that paid for the policy; by default those that its settings name."""
    config = run.config
    if not run.file(OUTCOMES).is_file():
        raise ConfigError(f"{run.path} is not finished; give the command that began it again.")
    label, seed = _label(run.path, root)
    outcomes = read_outcomes(run)
    known = makers is not None or not config.get("memory")  # nothing tells which runs filled a bank
    if makers is None:
        named = (trained_by(config["model"]), learned_by(config["policy"]))
        makers = [maker for maker in named if maker is not None]
    began = next(iter(run.read_rows(BEGAN)), {})
    return Evaluation(
        name=name or label,
        seed=seed,
        outcomes=outcomes,
        protocol={
            **({"problems": began["tasks"]} if "tasks" in began else {}),
            "split": config["split"],
            "sampling": config["sampling"],
            "reward": config["reward"],
            "pack": config["pack"],
            "base": base_model(config["model"]),
        },
        family="control" if HOTTER.search(label) else family_of(config),
        cost=_cost(run, makers, outcomes) if known else None,
        source=str(run.path),
    )


def family_of(config: Mapping[str, Any]) -> Family:
    """What an evaluation's settings say of its policy."""
    trained = trained_by(config["model"]) is not None
    memory = config.get("memory") or {}
    policy = config["policy"]["kind"]
    if policy in CONTROLS:
        return "control"
    context = policy == "library" or memory.get("read", "off") != "off"
    if trained:
        return "both" if context else "weights"
    return "context" if context else "base"


def _label(path: Path, root: Path) -> tuple[str, int | None]:
    """`grpo-0/eval-test` below the folder of a sweep is (grpo, 0)."""
    parts = path.relative_to(root).parts if path != root else (path.name,)
    if len(parts) > 1 and parts[-1].startswith("eval"):
        parts = parts[:-1]
    name = "/".join(parts)
    found = SEEDED.fullmatch(name)
    return (found[1], int(found[2])) if found else (name, None)


def _below(path: Path) -> list[RunDir]:
    """Runs below a folder, those inside of training runs too."""
    runs = list(list_runs(path))
    inner = [RunDir.open(c) for run in runs for c in sorted(run.path.glob("eval-*")) if _is_run(c)]
    return runs + inner


def _is_run(path: Path) -> bool:
    return (path / "config.json").is_file()


def trained_by(model: Mapping[str, Any]) -> RunDir | None:
    """The training run whose weights a model is, if it is there."""
    path = Path(str(model.get("path", "")))
    return _run_at(path.parent) if path.name == "weights" else None


def learned_by(policy: Mapping[str, Any]) -> RunDir | None:
    """The learning run whose library a policy's settings name, if it is there."""
    return _run_at(Path(str(policy["path"]))) if policy.get("path") else None


def _run_at(path: Path) -> RunDir | None:
    try:
        return RunDir.open(path)
    except RunError:
        return None


def _cost(run: RunDir, makers: Sequence[RunDir], outcomes: Sequence[TaskOutcome]) -> Cost | None:
    """What the runs' own ledgers say; None if the evaluation kept none."""
    serving = _spent(run)
    if serving is None:
        return None
    making: Ledger = Ledger()
    work: int | None = 0
    sampled = [_rollouts(maker) for maker in makers]
    dollars: float | None = 0.0
    for maker in makers:
        spent = _spent(maker)
        if spent is None:
            work = dollars = None
            continue
        ledger, flops, usd = spent
        making = making + ledger
        work = None if work is None or flops is None else work + flops
        dollars = None if dollars is None or usd is None else dollars + usd
    served, served_flops, _ = serving
    return Cost(
        making=making.by_phase,
        serving=served.total,
        queries=len(outcomes),
        samples=sum(outcome.n for outcome in outcomes),
        rollouts=None if None in sampled else sum(count or 0 for count in sampled),
        flops=work,
        serving_flops=served_flops,
        usd=dollars,
    )


def _rollouts(run: RunDir) -> int | None:
    """How many replies a run learned from that it sampled itself; None if it tells no group size.

    Requests would not do: one may hold a whole group or a single reply.
    """
    steps = tuple(run.read_rows("steps.jsonl"))
    # A learning run's steps tell no usage: all its rollouts are its own.
    if not any("rollout" in step.get("usage", {"rollout": ...}) for step in steps):
        return 0
    size = run.config.get("group_size") or (run.config.get("source") or {}).get("samples")
    return sum(sum(step["groups"].values()) for step in steps) * size if size else None


def _spent(run: RunDir) -> tuple[Ledger, int | None, float | None] | None:
    """Ledger, FLOPs and dollars of one run."""
    if not run.file("ledger.json").is_file():
        return None
    ledger = Ledger.from_json(run.read_json("ledger.json"))
    sizes = run.read_json("parameters.json") if run.file("parameters.json").is_file() else {}
    known = all(phase in sizes for phase in ledger.by_phase)
    work = sum(phase_flops(p, usage, sizes.get(p, 0)) for p, usage in ledger.by_phase.items())
    price = Price(**(run.config.get("price") or {}))
    dollars = price.cost(sum(ledger.by_phase.values(), Usage()))
    return ledger, work if known else None, dollars
