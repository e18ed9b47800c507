"""Evaluation and training of language models that teach themselves to reason."""

from harness.moved import keep_old_names

__version__ = "0.1.0"

keep_old_names()
