"""Shared by all tests: one thread for small models, Hypothesis without a clock or a database."""

from __future__ import annotations

import os

from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

settings.register_profile("house", deadline=None, database=None, derandomize=True)
settings.load_profile("house")
