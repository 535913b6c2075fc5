"""Live progress of learning and evaluation, on stderr."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from cli import console
from cli.sessions import Watch
from tfgrpo.config import EvalSpec, LearnSpec
from tfgrpo.experience.learn import Step
from tfgrpo.llm.meter import Meter
from tfgrpo.types import RolloutGroup


@contextmanager
def learning_watch(spec: LearnSpec, meter: Meter, title: str = "Learning") -> Iterator[Watch]:
    """One bar over all groups of all epochs; a line for each step that is over."""
    with console.progress() as progress:
        bar = progress.add_task(title, total=spec.epochs * spec.train_limit, note="")
        kinds: Counter[str] = Counter()

        def on_group(group: RolloutGroup, kind: str) -> None:
            kinds[kind] += 1
            note = f"{kinds['mixed']} informative groups, {spent(meter)}"
            progress.update(bar, advance=1, note=note)

        def on_step(step: Step) -> None:
            r = step.record
            tokens = int(r.metrics["library_tokens"])
            progress.console.print(
                f"step {r.step}  reward {r.reward_mean:.3f}  "
                f"informative {r.groups.get('mixed', 0)}/{sum(r.groups.values())}  "
                f"lessons {int(r.metrics['entries'])} ({tokens} tokens)"
                + (f"  failures {r.failures}" if r.failures else "")
                + f"  {spent(meter)}"
            )

        yield Watch(on_group, on_step)


@contextmanager
def evaluation_watch(spec: EvalSpec, meter: Meter, title: str = "Evaluating") -> Iterator[Watch]:
    with console.progress() as progress:
        bar = progress.add_task(title, total=spec.limit, note="")
        seen = Counter[str]()

        def on_group(group: RolloutGroup, kind: str) -> None:
            seen["n"] += group.n
            seen["c"] += group.c
            share = seen["c"] / seen["n"] if seen["n"] else 0.0
            note = f"pass@1 so far {100 * share:.1f}, {spent(meter)}"
            progress.update(bar, advance=1, note=note)

        yield Watch(on_group)


def spent(meter: Meter) -> str:
    """Tokens, and dollars where any are known, that this session has paid for."""
    total = meter.total
    tokens = f"{console.count(total.prompt_tokens + total.completion_tokens)} tokens"
    return f"{tokens}, ${meter.usd:.2f}" if meter.usd else tokens
