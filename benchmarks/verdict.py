"""Seconds to judge arms of synthetic outcomes, all metrics and bootstraps included."""

from __future__ import annotations

import argparse
import json
import time

import numpy as np

from tfgrpo.types import TaskOutcome
from tfgrpo.verdict.arms import Evaluation, arms_of
from tfgrpo.verdict.judge import judge
from tfgrpo.verdict.record import Question


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--arms", type=int, default=10)
    parser.add_argument("--problems", type=int, default=500)
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--answers", type=int, default=20, help="different wrong answers")
    return parser.parse_args()


def evaluation(name: str, index: int, options: argparse.Namespace) -> Evaluation:
    rng = np.random.default_rng(index)
    skill = rng.beta(0.6, 0.6, options.problems)
    outcomes = []
    for problem, p in enumerate(skill.tolist()):
        correct = (rng.random(options.samples) < p).tolist()
        wrong = rng.geometric(3 / options.answers, options.samples).tolist()
        answers = ["right" if ok else f"w{w}" for ok, w in zip(correct, wrong, strict=True)]
        blank = (None,) * options.samples
        lengths = tuple(rng.integers(20, 80, options.samples).tolist())
        entropies = tuple(rng.random(options.samples).tolist())
        outcomes.append(
            TaskOutcome(
                f"{problem}", "synthetic", tuple(correct), tuple(answers), blank, entropies, lengths
            )
        )
    return Evaluation(name, None, tuple(outcomes))


def main() -> None:
    options = parse()
    arms = arms_of([evaluation(f"arm {i}", i, options) for i in range(options.arms)])
    began = time.process_time()
    verdict = judge(arms, Question("arm 0", options.samples))
    seconds = time.process_time() - began
    shape = {"arms": len(verdict.arms), "problems": verdict.problems, "samples": verdict.samples}
    print(json.dumps({**shape, "seconds": round(seconds, 2)}))


if __name__ == "__main__":
    main()
