"""What `tfgrpo claims` would make, and the work that it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from baselines.claims.registry import RUNS, RunName
from cli import console
from cli.claims_lab import DIVERSE, TEACHING, Lab, few_size, imitation, learning, training


@dataclass(frozen=True, slots=True)
class Work:
    """Replies sampled, and updates of the weights."""

    samples: int
    updates: int = 0


def work(lab: Lab, name: RunName, seed: int) -> Work:
    """What the run takes from its beginning to its end."""
    held_out = lab.limit * lab.n
    match name:
        case "base":
            return Work(held_out)
        case "likelihood":
            return Work(0)
        case "probe":
            from baselines.claims.tokens import PASSES

            spec = training(lab, name, seed)
            return Work(spec.prompts * spec.group_size, 1 + PASSES * spec.minibatches)
        case "diverse" | "taught":
            own = imitation(lab, seed, DIVERSE if name == "diverse" else TEACHING)
            source = (DIVERSE if name == "diverse" else TEACHING)["source"]
            batches = -(-own.train_limit * source["keep"] // own.batch_size)
            more = held_out if name == "diverse" else 0
            return Work(own.train_limit * source["samples"] + more, own.epochs * batches)
        case "library":
            learn = learning(lab, seed)
            return Work(learn.epochs * learn.train_limit * learn.group_size + held_out)
    # The model of what comes after `taught` need not exist yet.
    plain = training(lab, "grpo" if "taught" in RUNS[name].after else name, seed)
    rollouts = plain.steps * plain.prompts * plain.group_size
    more = 2 * few_size(lab) * lab.n if name == "few" else 0
    return Work(rollouts + held_out + more, plain.steps * plain.updates_per_rollout)


def show_plan(lab: Lab, wanted: Sequence[tuple[RunName, int]], json: bool) -> None:
    """A row for each run: whether it stands, and what it would take."""
    rows = [_row(lab, name, seed) for name, seed in wanted]
    samples = sum(row["samples"] for row in rows)
    updates = sum(row["updates"] for row in rows)
    if json:
        console.print_json({"runs": rows, "samples": samples, "updates": updates})
        return
    columns = ("run", "stands", "samples", "updates", "what it is")
    shown = [
        (f"{r['run']}-{r['seed']}", r["stands"], r["samples"], r["updates"], r["about"])
        for r in rows
    ]
    console.show(console.table("", columns, shown, text=True))
    limit = training(lab, "grpo", 0).sampling.max_tokens
    console.note(
        f"To do: {samples} replies of at most {limit} tokens, {updates} updates of the weights."
    )


def _row(lab: Lab, name: RunName, seed: int) -> dict[str, Any]:
    taught = "taught" in RUNS[name].after and not lab.done("taught", seed)
    stands = not taught and lab.done(name, seed)
    todo = Work(0) if stands else work(lab, name, seed)
    return {
        "run": name,
        "seed": seed,
        "stands": str(lab.place(name, seed)) if stands else "",
        "samples": todo.samples,
        "updates": todo.updates,
        "about": RUNS[name].about,
    }
