"""Continuous batching over a Hugging Face decoder. Its modules import torch: load them lazily."""
