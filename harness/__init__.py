"""Evaluation and training of language models that teach themselves to reason."""

__version__ = "0.1.0"
