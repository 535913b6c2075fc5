"""Wall time of one learning step against its critical path, under simulated long-tail latencies.

Every reply takes a lognormal time, which is drawn from the seed; a request for several rollouts
takes as long as its slowest. No step can end before its critical path does:

    max over groups (slowest rollout + slowest summary + comparison) + slowest consolidation

Waiting for all groups between one stage and the next would take the sum of the stages' maxima.

    python benchmarks/pipeline.py --groups 50 --rollouts 8
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from tfgrpo.experience.edits import Add
from tfgrpo.experience.learn import Learner, learn
from tfgrpo.experience.library import ExperienceLibrary
from tfgrpo.experience.reflect import Reflector
from tfgrpo.experience.replies import render_operations
from tfgrpo.llm.cache import CachedModel, CallStore
from tfgrpo.llm.meter import MeteredModel
from tfgrpo.llm.scripted import ScriptedModel
from tfgrpo.prompts import load_pack
from tfgrpo.rewards.table import make_reward
from tfgrpo.rollout import Sampling, gold_grader
from tfgrpo.seeding import derive_rng
from tfgrpo.types import ChatRequest, Phase, SamplingParams, Task

TARGET = 1.15


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--groups", type=int, default=50)
    parser.add_argument("--rollouts", type=int, default=8, help="rollouts in a group")
    parser.add_argument("--median", type=float, default=0.5, help="seconds of a reply")
    parser.add_argument("--sigma", type=float, default=0.8, help="of the logarithm of the seconds")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


class Latencies:
    """Draws the seconds of every request, and remembers them by phase and problem."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._seen: dict[tuple[Phase, str], float] = defaultdict(float)

    def __call__(self, request: ChatRequest) -> float:
        text = "\n".join(message.content for message in request.messages)
        indices = range(request.first_index, request.first_index + request.n)
        seconds = max(self._draw(text, index) for index in indices)
        problem = re.search(r"problem \d+", text)
        name = problem[0] if problem and request.phase != "consolidate" else ""
        self._seen[request.phase, name] = max(self._seen[request.phase, name], seconds)
        return seconds

    def _draw(self, text: str, index: int) -> float:
        rng = derive_rng(self._options.seed, text, index)
        return float(self._options.median * rng.lognormvariate(0, self._options.sigma))

    def of(self, phase: Phase) -> dict[str, float]:
        """The slowest request of each problem."""
        return {name: s for (seen, name), s in self._seen.items() if seen == phase}

    def critical_path(self) -> float:
        rollout, summarise, compare = self.of("rollout"), self.of("summarise"), self.of("compare")
        groups = (s + summarise.get(n, 0) + compare.get(n, 0) for n, s in rollout.items())
        return max(groups) + max(self.of("consolidate").values())

    def with_barriers(self) -> float:
        phases: tuple[Phase, ...] = ("rollout", "summarise", "compare", "consolidate")
        return sum(max(self.of(phase).values()) for phase in phases)


def reply(request: ChatRequest, index: int) -> str:
    """Right every other time, so that every group is compared."""
    if request.phase == "rollout":
        return f"Answer: {'yes' if index % 2 else 'perhaps'}"
    if request.phase == "summarise":
        return f"Attempt {index} went straight to the answer."
    return render_operations([Add("When a question can be answered, say yes.")])


def step_seconds(options: argparse.Namespace, latencies: Latencies, folder: Path) -> float:
    """One step with a store and a meter, as `tfgrpo learn` has them."""
    tasks = [
        Task(f"t{i}", f"Can problem {i} be answered?", "yes", "made-up", "train")
        for i in range(options.groups)
    ]
    pack, params = load_pack("default"), SamplingParams(seed=0)
    with CallStore(folder / "calls.sqlite") as store:
        model = CachedModel(MeteredModel(ScriptedModel(reply, latencies)), store)
        reflector = Reflector(model, pack, params, summarise="always")
        sampling = Sampling(options.rollouts, params)
        grader = gold_grader(make_reward("exact"))
        learner = Learner(model, pack, reflector, reflector, grader, sampling, 1, len(tasks), 0)

        async def go() -> int:
            return len([s async for s in learn(learner, tasks, ExperienceLibrary.empty())])

        started = time.perf_counter()
        steps = asyncio.run(go())
        seconds = time.perf_counter() - started
    if steps != 1:
        raise SystemExit(f"Learning took {steps} steps, not 1; report this bug.")
    return seconds


def main() -> None:
    options = parse()
    latencies = Latencies(options)
    with tempfile.TemporaryDirectory() as folder:
        seconds = step_seconds(options, latencies, Path(folder))
    critical, barriers = latencies.critical_path(), latencies.with_barriers()
    ratio = seconds / critical
    result = {
        **vars(options),
        "seconds": round(seconds, 3),
        "critical_path_seconds": round(critical, 3),
        "with_barriers_seconds": round(barriers, 3),
        "ratio": round(ratio, 3),
        "target": TARGET,
    }
    print(json.dumps(result))
    print(
        f"step {seconds:.2f} s, critical path {critical:.2f} s: {ratio:.3f}x (at most {TARGET}); "
        f"with barriers between stages {barriers:.2f} s"
    )
    raise SystemExit(ratio > TARGET)


if __name__ == "__main__":
    main()
