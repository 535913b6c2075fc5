"""Seconds and memory to read a table of samples (problem, sample, correct, answer) as outcomes.

python benchmarks/verdict_read.py --problems 5000 --samples 260
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import resource
import tempfile
import time
from pathlib import Path

from tfgrpo.verdict.sources.detect import read_evaluations


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--problems", type=int, default=5_000)
    parser.add_argument("--samples", type=int, default=260, help="of each problem")
    parser.add_argument("--format", choices=("csv", "jsonl"), default="csv")
    return parser.parse_args()


def write(path: Path, options: argparse.Namespace) -> None:
    rng = random.Random(0)
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        if options.format == "csv":
            table.writerow(("problem", "sample", "correct", "answer"))
        for problem in range(options.problems):
            for sample in range(options.samples):
                right = rng.random() < 0.3
                answer = str(problem if right else rng.randrange(10_000))
                row = (f"problem-{problem:06d}", sample, int(right), answer)
                if options.format == "csv":
                    table.writerow(row)
                else:
                    named = zip(("problem", "sample", "correct", "answer"), row, strict=True)
                    file.write(json.dumps(dict(named)) + "\n")


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"samples.{options.format}"
        write(path, options)
        size = path.stat().st_size
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began, worked = time.perf_counter(), time.process_time()
        (evaluation,) = read_evaluations(path)
        seconds, busy = time.perf_counter() - began, time.process_time() - worked
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rows = sum(outcome.n for outcome in evaluation.outcomes)
    told = {
        "rows": rows,
        "file_mb": round(size / 1e6, 1),
        "seconds": round(seconds, 2),
        "processor_seconds": round(busy, 2),
        "rows_per_second": round(rows / seconds),
        "peak_mb": round(peak / 1024),
        "peak_before_mb": round(before / 1024),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
