"""Named settings for learning. A preset only supplies defaults: files and flags override it.

`paper-math` and `youtu-main` follow the published settings; docs/method.md lists where this
implementation departs from the reference on purpose, whatever the preset.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfgrpo.errors import ConfigError

PRESETS: Mapping[str, Mapping[str, Any]] = {
    # Ours: smaller batches, so that later steps learn from what earlier ones wrote.
    "default": {
        "dropout": 0.25,
    },
    # arXiv 2510.08191, section 3.1: 100 problems, one batch an epoch, G=5, T=0.7.
    "paper-math": {
        "epochs": 3,
        "batch_size": 100,
        "group_size": 5,
        "train_limit": 100,
        "max_operations": 1,
        "summarise": "always",
        "sampling": {"temperature": 0.7, "top_p": 1.0, "max_tokens": 16384},
        "reflection": {"temperature": 0.0, "max_tokens": 8192},
    },
    # Youtu-Agent, branch main, configs/practice/math_reasoning.yaml: one epoch, batches of 50.
    "youtu-main": {
        "epochs": 1,
        "batch_size": 50,
        "group_size": 5,
        "train_limit": 100,
        "max_operations": 1,
        "summarise": "always",
        "sampling": {"temperature": 0.7, "top_p": 0.95, "max_tokens": 16384},
        "reflection": {"temperature": 1.0, "max_tokens": 8192},
    },
    # The pocket model: short replies, always summarised, because it compares summaries.
    "abacus": {
        "pack": "abacus",
        "tasks": "sum,product,sort,countdown",
        "model": "abacus",
        "summarise": "always",
        "sampling": {"temperature": 1.0, "top_p": 1.0, "max_tokens": 192},
        "reflection": {"temperature": 0.5, "max_tokens": 128},
        "limits": {"max_entries": 8, "max_tokens": 200},
        "epochs": 3,
        "batch_size": 24,
        "group_size": 12,
        "train_limit": 48,
    },
}


def preset(name: str) -> Mapping[str, Any]:
    if name not in PRESETS:
        raise ConfigError(f"There is no preset {name!r}; choose from {', '.join(PRESETS)}.")
    return PRESETS[name]
