"""Step time and peak memory of the trainer against TRL's `GRPOTrainer`, in one run.

Both train the packaged pocket model by on-policy GRPO in float32 on one thread: the same prompts,
group size, token budget and grader. Each measurement is a process of its own, the two sides taking
turns; the first step of each warms up. Needs `pip install 'trl>=1.10,<2' datasets`.

Memory depends on how much passes through the model at once: TRL takes rows, the trainer tokens. By
default both take about 2000 tokens, padding included, with which both are near their fastest here.

With `--reward task` replies are right or wrong, and the trainer makes no pass for groups without
spread; `--reward alternate` calls every other reply right, so that nobody can leave out any.

The pocket model is small beside the libraries; `--model large` is a random Llama of 35 million
parameters and 32,000 tokens, whose memory is its own.

    python benchmarks/trainer.py --prompts 16 --group-size 16
    python benchmarks/trainer.py --prompts 8 --group-size 8 --model large --reward alternate
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from importlib.util import find_spec
from statistics import median
from typing import Any

import psutil
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from baselines.config import TrainSpec
from baselines.methods import POCKET, method
from baselines.trainer import Trainer, World
from tfgrpo.llm.transformers_local import load as load_model
from tfgrpo.prompts import PromptPack, load_pack
from tfgrpo.rollout import Grader, gold_grader
from tfgrpo.settings import load, merged
from tfgrpo.tasks.procedural import FamilyReward, ProceduralTasks
from tfgrpo.types import Failure, Score, Task

SIDES = ("tfgrpo", "trl")
FASTER, SMALLER = 2.0, 0.7
MIB = 2**20


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--group-size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=2, help="measured steps of each process")
    parser.add_argument("--max-tokens", type=int, default=160)
    parser.add_argument("--rounds", type=int, default=2, help="processes of each side")
    parser.add_argument("--model", default="pocket", help="pocket, large, or a folder or Hub id")
    parser.add_argument("--reward", choices=["task", "alternate"], default="task")
    parser.add_argument("--rows", type=int, default=16, help="replies in one pass of TRL's")
    parser.add_argument("--micro-tokens", type=int, default=2048, help="in one pass of ours")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    return parser.parse_args()


@dataclass(slots=True)
class Measurement:
    """Of each step after the first: seconds by the clock and of processor, and tokens sampled.

    `loaded` and `peak` are bytes resident: with the model in memory, and at most.
    """

    loaded: int
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    tokens: list[float] = field(default_factory=list)
    peak: int = 0
    last: tuple[float, float] = (0.0, 0.0)

    def start(self) -> None:
        self.last = time.perf_counter(), time.process_time()

    def lap(self) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        self.seconds.append(wall - self.last[0])
        self.cpu.append(cpu - self.last[1])
        self.last = wall, cpu

    def finish(self) -> Measurement:
        unit = 1 if sys.platform == "darwin" else 1024
        self.peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        for column in (self.seconds, self.cpu, self.tokens):
            del column[0]
        return self


@dataclass(frozen=True, slots=True)
class Work:
    """What both sides are given."""

    spec: TrainSpec
    model: Any
    tokenizer: Any
    pack: PromptPack
    tasks: tuple[Task, ...]
    grader: Grader


def build_work(options: argparse.Namespace) -> Work:
    changes = {
        "prompts": options.prompts,
        "group_size": options.group_size,
        "steps": options.steps + 1,
        "minibatches": 1,
        "micro_tokens": options.micro_tokens,
        "sampling": {"max_tokens": options.max_tokens},
        "optimiser": {"lr": 1e-6},
    }
    families = tuple(POCKET["tasks"]["families"])
    spec = load(TrainSpec, None, (), merged(merged(POCKET, method("grpo").settings), changes))
    model, tokenizer = build_model(options.model)
    return Work(
        spec=spec,
        model=model,
        tokenizer=tokenizer,
        pack=load_pack("abacus"),
        tasks=tuple(ProceduralTasks(families).tasks("train", spec.prompts, 0)),
        grader=gold_grader(FamilyReward()) if options.reward == "task" else alternate,
    )


def build_model(name: str) -> tuple[Any, Any]:
    pocket = str(files("baselines.abacus") / "weights")
    if name != "large":
        return load_model(pocket if name == "pocket" else name, "cpu", "float32")
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(pocket)
    config = LlamaConfig(
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=6,
        num_attention_heads=8,
        vocab_size=32_000,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config).eval(), tokenizer


def alternate(task: Task, texts: Sequence[str]) -> list[Score | Failure]:
    return [Score(float(i % 2), bool(i % 2), None) for i, _ in enumerate(texts)]


def run_tfgrpo(work: Work) -> Measurement:
    import accelerate  # noqa: F401  (its modules are no cost of training)

    found = Measurement(psutil.Process().memory_info().rss)
    world = World(
        model=work.model,
        tokenizer=work.tokenizer,
        name="abacus",
        pack=work.pack,
        tasks=work.tasks,
        probe=(),
        grader=work.grader,
    )
    found.start()
    for record in Trainer(work.spec, world).run():
        found.lap()
        found.tokens.append(record.usage["rollout"].completion_tokens)
    return found.finish()


def run_trl(work: Work, rows: int) -> Measurement:
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    found = Measurement(psutil.Process().memory_info().rss)

    def reward(
        completions: Sequence[Any], number: Sequence[int], completion_ids: Any, **_: Any
    ) -> list[float]:
        found.tokens.append(sum(map(len, completion_ids)))
        texts = [completion[0]["content"] for completion in completions]
        size, rewards = work.spec.group_size, []
        for at in range(0, len(texts), size):
            scores = work.grader(work.tasks[number[at]], texts[at : at + size])
            rewards += [s.reward if isinstance(s, Score) else 0.0 for s in scores]
        return rewards

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            found.lap()

    found.start()
    replies = work.spec.prompts * work.spec.group_size
    with tempfile.TemporaryDirectory() as folder:
        config = GRPOConfig(
            folder,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            loss_type="dapo",
            beta=0.0,
            learning_rate=work.spec.optimiser.lr,
            lr_scheduler_type="constant",
            max_grad_norm=work.spec.optimiser.max_grad_norm,
            num_generations=work.spec.group_size,
            per_device_train_batch_size=rows,
            gradient_accumulation_steps=replies // rows,
            max_completion_length=work.spec.sampling.max_tokens,
            temperature=1.0,
            max_steps=work.spec.steps,
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        prompts = [
            [{"role": m.role, "content": m.content} for m in rendered(work, task)]
            for task in work.tasks
        ]
        GRPOTrainer(
            work.model,
            reward_funcs=reward,
            args=config,
            train_dataset=Dataset.from_dict(
                {"prompt": prompts, "number": list(range(len(prompts)))}
            ),
            processing_class=work.tokenizer,
            callbacks=[Clock()],
        ).train()
    return found.finish()


def rendered(work: Work, task: Task) -> Any:
    return work.pack.render("solve", library="", question=task.prompt)


def measure(options: argparse.Namespace) -> None:
    """One side in this process; its measurement is the last line of the output."""
    torch.set_num_threads(1)
    work = build_work(options)
    found = run_tfgrpo(work) if options.side == "tfgrpo" else run_trl(work, options.rows)
    print(json.dumps(asdict(found)))


def measured(side: str, options: argparse.Namespace) -> Measurement:
    """One side in a process of its own."""
    flags = [
        f"--{name.replace('_', '-')}={value}"
        for name, value in vars(options).items()
        if name != "side"
    ]
    done = subprocess.run(
        [sys.executable, __file__, "--side", side, *flags],
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"The run of {side} failed:\n{done.stderr[-3000:]}")
    return Measurement(**json.loads(done.stdout.splitlines()[-1]))


def summary(runs: Sequence[Measurement]) -> dict[str, float]:
    """Medians: over all steps of all runs, or over the runs."""
    return {
        "step_seconds": median(s for run in runs for s in run.seconds),
        "step_cpu_seconds": median(s for run in runs for s in run.cpu),
        "peak_mib_above_load": median(run.peak - run.loaded for run in runs) / MIB,
        "peak_mib": median(run.peak for run in runs) / MIB,
        "tokens_per_step": median(t for run in runs for t in run.tokens),
    }


def table(ours: Mapping[str, float], theirs: Mapping[str, float]) -> str:
    lines = [f"{'':24}{'tfgrpo':>10}{'TRL':>10}{'ratio':>8}"]
    for name, value in ours.items():
        title, other = name.replace("_", " "), theirs[name]
        lines.append(f"{title:24}{value:>10.2f}{other:>10.2f}{value / other:>8.2f}")
    return "\n".join(lines)


def main() -> None:
    options = parse()
    if options.prompts * options.group_size % options.rows:
        raise SystemExit("--rows must divide prompts x group size; choose a number that does.")
    if options.side:
        return measure(options)
    if find_spec("trl") is None or find_spec("datasets") is None:
        raise SystemExit("TRL is not installed; run: pip install 'trl>=1.10,<2' datasets")
    runs: dict[str, list[Measurement]] = {side: [] for side in SIDES}
    for _ in range(options.rounds):
        for side in SIDES:
            runs[side].append(measured(side, options))
    ours, theirs = (summary(runs[side]) for side in SIDES)
    faster = theirs["step_seconds"] / ours["step_seconds"]
    smaller = ours["peak_mib_above_load"] / theirs["peak_mib_above_load"]
    settings = {name: value for name, value in vars(options).items() if name != "side"}
    print(json.dumps({**settings, "tfgrpo": ours, "trl": theirs}))
    print(table(ours, theirs))
    print(
        f"{faster:.1f}x as fast (at least {FASTER}), {smaller:.2f}x the memory above the loaded "
        f"model (at most {SMALLER})"
    )
    raise SystemExit(faster < FASTER or smaller > SMALLER)


if __name__ == "__main__":
    main()
