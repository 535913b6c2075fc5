"""Rollouts from a real vLLM server: our client against vLLM's own load generator, in one run.

Both sides ask the same server for the same prompts, with as many samples, tokens and connections:
ours by the code behind `tfgrpo eval` (cache, meter, limits, HTTP, grading, files), the other by
`vllm bench serve`. They take turns, and each begins with an empty prefix cache. The model is the
packaged one with its end token taken away, so that every reply has the same length.

The hit rate is the server's own count over our runs, against what whole blocks of earlier prompts
would give; all prompts begin with one library and end with the question.

    TFGRPO_VLLM_PYTHON=/path/to/vllm/bin/python python benchmarks/vllm_client.py
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from transformers import AutoTokenizer

from cli import sessions, wiring
from tfgrpo.config import EvalSpec
from tfgrpo.prompts import load_pack
from tfgrpo.protocols import Policy
from tfgrpo.seeding import derive_rng, derive_seed
from tfgrpo.settings import load
from tfgrpo.types import Message

PYTHON = "TFGRPO_VLLM_PYTHON"
GOAL = 0.95
FAMILIES = ["sum", "product", "sort"]
# What the command `vllm bench serve` calls; some builds lack the metadata that the command reads.
BENCH = """
from vllm.benchmarks.serve import add_cli_args, main
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = FlexibleArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""
SOLVE = "# system\n# user\n{{library}}\n{{question}}\n"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rollouts", type=int, default=512)
    parser.add_argument("--samples", type=int, nargs="+", default=[8, 1], help="in one request")
    parser.add_argument("--lessons", type=int, default=20, help="in the library")
    parser.add_argument("--new", type=int, default=64, help="tokens of each reply")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--block", type=int, default=32, help="tokens in a block of the cache")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each side")
    return parser.parse_args()


@dataclass(frozen=True, slots=True)
class Place:
    """Where it is measured: vLLM's python, the server's root URL, a folder, and the sizes."""

    python: str
    root: str
    folder: Path
    options: argparse.Namespace


@dataclass(slots=True)
class Row:
    """Tokens per second of both sides, and tokens found in the prefix cache, by run."""

    samples: int
    ours: list[float] = field(default_factory=list)
    bench: list[float] = field(default_factory=list)
    hits: list[int] = field(default_factory=list)
    queries: list[int] = field(default_factory=list)
    possible: int = 0

    @property
    def ratio(self) -> float:
        return median(self.ours) / median(self.bench)

    @property
    def hit_ratio(self) -> float:
        return median(self.hits) / self.possible


# the server -------------------------------------------------------------------------------------


def endless(folder: Path) -> Path:
    """A copy of the packaged model that never ends a reply by itself."""
    shutil.copytree(wiring.abacus_path(), folder)
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        settings = json.loads((folder / name).read_text())
        kept = {k: v for k, v in settings.items() if k not in ("eos_token_id", "eos_token")}
        (folder / name).write_text(json.dumps(kept))
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def fetch(url: str, data: bytes | None = None) -> str:
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=60) as answer:
        return str(answer.read().decode())


@contextmanager
def serving(python: str, weights: Path, options: argparse.Namespace, log: Path) -> Iterator[str]:
    """The root URL of a vLLM server, which ends with the block.

    On a CPU vLLM dies of a request with a seed whose prompt is read in more than one step.
    """
    port = free_port()
    flags = (
        "--model", weights, "--served-model-name", "abacus", "--host", "127.0.0.1",
        "--port", port, "--max-model-len", 2048, "--enforce-eager", "--block-size", options.block,
        "--enable-prefix-caching", "--disable-uvicorn-access-log", "--no-enable-chunked-prefill",
    )  # fmt: skip
    env = {
        **os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_SERVER_DEV_MODE": "1",
    }  # fmt: skip
    module = "vllm.entrypoints.openai.api_server"
    with log.open("wb") as stream:
        server = subprocess.Popen(
            [python, "-m", module, *map(str, flags)],
            env=env, stdout=stream, stderr=stream, start_new_session=True, cwd=log.parent,
        )  # fmt: skip
    try:
        root, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 900
        while True:
            try:
                fetch(f"{root}/health")
                break
            except OSError:
                if server.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"vLLM did not start:\n{log.read_text()[-3000:]}") from None
                time.sleep(0.5)
        yield root
        if server.poll() is not None:
            raise SystemExit(f"vLLM has ended:\n{log.read_text()[-3000:]}")
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def counted(root: str, name: str) -> float:
    """A counter of the server, such as `vllm:prefix_cache_hits_total`, in tokens."""
    found = re.findall(rf"^{name}_total(?:{{.*}})? (\S+)$", fetch(f"{root}/metrics"), re.MULTILINE)
    return sum(map(float, found))


# the work ---------------------------------------------------------------------------------------


def library_file(path: Path, lessons: int) -> Path:
    """As many lessons of a dozen words as a run may learn, one a line."""
    pool = load_pack("default").placebo
    rng = derive_rng(0, "lessons")
    words = sorted({word.strip(".,").lower() for text in pool for word in text.split()})
    lines = [f"If case {i}, then " + " ".join(rng.sample(words, 9)) for i in range(lessons)]
    path.write_text("\n".join(lines))
    return path


def pack_folder(path: Path) -> Path:
    """A pack whose prompt is one message, which is all that `vllm bench serve` sends."""
    shutil.copytree(Path(sessions.__file__).parents[1] / "tfgrpo" / "prompts" / "abacus", path)
    (path / "solve.md").write_text(SOLVE)
    return path


def spec_of(at: Place, samples: int) -> EvalSpec:
    options = at.options
    settings: dict[str, Any] = {
        "tasks": {"kind": "procedural", "families": FAMILIES},
        "model": {
            "kind": "openai", "model": "abacus", "base_url": f"{at.root}/v1",
            "max_connections": options.connections,
        },
        "policy": {"kind": "library", "path": str(at.folder / "library.txt")},
        "pack": str(at.folder / "pack"),
        "sampling": {"temperature": 1.0, "top_p": 1.0, "max_tokens": options.new},
        "limit": options.rollouts // samples,
        "n": samples,
    }  # fmt: skip
    return load(EvalSpec, None, (), settings)


def prompts_of(spec: EvalSpec) -> list[tuple[Message, ...]]:
    """The prompts that `tfgrpo eval` sends, in its order."""
    bench = wiring.build_tasks(spec.tasks, spec.reward)
    with wiring.session(None, spec.budget, spec.price) as models:
        model = models.get(spec.model)
        policy: Policy = wiring.build_policy(spec, model, bench, models.token_counter())
        tasks = bench.tasks.tasks(spec.split, spec.limit, derive_seed(spec.seed, "tasks"))
        return [policy.render(task, 0).messages for task in tasks]


def reusable(prompts: Sequence[Sequence[int]], samples: int, block: int) -> int:
    """Tokens that a prefix cache can serve: whole blocks of what was asked before.

    The last token of a prompt is always computed, and so is the block that it ends.
    """
    seen: set[tuple[int, ...]] = set()
    found = 0
    for ids in prompts:
        whole = [tuple(ids[:end]) for end in range(block, len(ids) + 1, block)]
        usable = [prefix for prefix in whole if len(prefix) < len(ids)]
        found += block * sum(prefix in seen for prefix in usable)
        found += block * len(usable) * (samples - 1)
        seen.update(whole)
    return found


def our_rate(spec: EvalSpec, folder: Path, tokens: int) -> float:
    """Tokens per second of what `tfgrpo eval` does, from its first request to its last file."""
    with (
        sessions.open_run(folder, spec, "eval") as run,
        wiring.session(folder / sessions.CALLS, spec.budget, spec.price) as models,
    ):
        start = time.perf_counter()
        outcomes = sessions.run_evaluation(spec, run, models, sessions.Watch())
        seconds = time.perf_counter() - start
    if sum(map(sum, (outcome.lengths for outcome in outcomes))) != tokens:
        raise SystemExit("Our side did not get all tokens; look at the server, then run again.")
    return tokens / seconds


def bench_rate(at: Place, spec: EvalSpec, tokens: int) -> float:
    """Tokens per second by `vllm bench serve`, from its first request to its last answer."""
    flags = (
        "--backend", "openai-chat", "--base-url", at.root, "--endpoint", "/v1/chat/completions",
        "--model", at.folder / "weights", "--served-model-name", "abacus",
        "--dataset-name", "sharegpt", "--dataset-path", at.folder / f"prompts-{spec.n}.json",
        "--sharegpt-output-len", spec.sampling.max_tokens, "--disable-shuffle",
        "--num-prompts", spec.limit, "--max-concurrency", at.options.connections,
        "--temperature", 1.0, "--top-p", 1.0, "--extra-body", json.dumps({"n": spec.n, "seed": 1}),
        "--ready-check-timeout-sec", 0, "--disable-tqdm", "--save-result",
        "--result-dir", at.folder, "--result-filename", "bench.json",
    )  # fmt: skip
    done = subprocess.run(
        [at.python, "-c", BENCH, *map(str, flags)],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"},
        capture_output=True, text=True, check=False, cwd=at.folder,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"vllm bench serve failed:\n{done.stderr[-3000:]}")
    told = json.loads((at.folder / "bench.json").read_text())
    if told["total_output_tokens"] != tokens:
        raise SystemExit(f"vllm bench serve got {told['total_output_tokens']} of {tokens} tokens.")
    return float(tokens / told["duration"])


def token_ids(weights: Path, prompts: Sequence[tuple[Message, ...]]) -> list[list[int]]:
    """What the server makes of the prompts by the chat template."""
    tokenizer = AutoTokenizer.from_pretrained(weights)
    chats = [[{"role": m.role, "content": m.content} for m in messages] for messages in prompts]
    return [
        tokenizer.apply_chat_template(c, add_generation_prompt=True)["input_ids"] for c in chats
    ]


def cached(root: str) -> Counter[str]:
    """Tokens that were looked for in the prefix cache, and those that were found."""
    return Counter({n: int(counted(root, f"vllm:prefix_cache_{n}")) for n in ("hits", "queries")})


def measure(at: Place, n: int) -> Row:
    """Both sides in turn; before that, a few requests warm up the server and our imports."""
    row, spec, options = Row(n), spec_of(at, n), at.options
    prompts = prompts_of(spec)
    texts = [messages[0].content for messages in prompts]
    pairs = [{"conversations": [{"value": text}, {"value": text}]} for text in texts]
    (at.folder / f"prompts-{n}.json").write_text(json.dumps(pairs))
    row.possible = reusable(token_ids(at.folder / "weights", prompts), n, options.block)
    our_rate(spec.model_copy(update={"limit": 4}), at.folder / f"warm-{n}", 4 * n * options.new)
    tokens = len(prompts) * n * options.new
    for number in range(options.rounds):
        for side in ("ours", "bench") if number % 2 else ("bench", "ours"):
            fetch(f"{at.root}/reset_prefix_cache", b"")
            before = cached(at.root)
            if side == "bench":
                row.bench.append(bench_rate(at, spec, tokens))
                continue
            row.ours.append(our_rate(spec, at.folder / f"run-{n}-{number}", tokens))
            found = cached(at.root) - before
            row.hits.append(found["hits"])
            row.queries.append(found["queries"])
    return row


def table(rows: Sequence[Row]) -> Iterator[str]:
    yield "samples  tfgrpo tok/s  bench tok/s  ratio  hit rate  possible  ratio"
    for row in rows:
        asked = median(row.queries)
        yield (
            f"{row.samples:7}  {median(row.ours):12.0f}  {median(row.bench):11.0f}"
            f"  {row.ratio:5.2f}  {median(row.hits) / asked:8.1%}  {row.possible / asked:8.1%}"
            f"  {row.hit_ratio:5.3f}"
        )


def main() -> None:
    options = parse()
    python = os.environ.get(PYTHON)
    if not python:
        raise SystemExit(f"Set {PYTHON} to the python of an environment that holds vLLM.")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the server must not stay behind
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        library_file(folder / "library.txt", options.lessons)
        pack_folder(folder / "pack")
        weights = endless(folder / "weights")
        with serving(python, weights, options, folder / "server.log") as root:
            rows = [measure(Place(python, root, folder, options), n) for n in options.samples]
    print(json.dumps({**vars(options), "goal": GOAL, "rows": [asdict(row) for row in rows]}))
    print("\n".join(table(rows)))
    raise SystemExit(any(min(row.ratio, row.hit_ratio) < GOAL for row in rows))


if __name__ == "__main__":
    main()
