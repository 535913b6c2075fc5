"""The slowest of ten thousand hostile replies in each parser, grader and renderer, in ms."""

from __future__ import annotations

import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.hostile_replies import replies
from tests.test_hostile import CHECKS


def main() -> None:
    with TemporaryDirectory() as folder:
        texts = list(replies(Path(folder) / "was-run"))
        for name, check in CHECKS.items():
            slowest, length, began = 0.0, 0, time.process_time()
            for text in texts:
                start = time.process_time()
                check(text)
                took = time.process_time() - start
                if took > slowest:
                    slowest, length = took, len(text)
            total = time.process_time() - began
            row = {"what": name, "slowest_ms": round(1e3 * slowest, 1), "characters": length}
            print(json.dumps(row | {"mean_ms": round(1e3 * total / len(texts), 3)}))


if __name__ == "__main__":
    main()
