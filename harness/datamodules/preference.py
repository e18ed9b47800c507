"""Rows of preference learning: a prompt, a chosen and a rejected response."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from harness.datamodules.base import Counts, JSONLDataModule, Rows, check_prompt_length, pad
from harness.datamodules.batches import Item
from harness.datamodules.tokenize import Tokens, encode_rows, read_preference_rows

IGNORED = -100

ScoreSides = Callable[[Sequence[tuple[Tokens, int]]], np.ndarray]
"""(tokens, start of the response) of each side -> its reference log-probability."""


@dataclass(frozen=True)
class EOSPolicy:
    """Whether EOS is appended to, and so supervised in, each side."""

    chosen: bool = True
    rejected: bool = True
    """False where rejected responses are single steps (Self-Explore, arXiv:2404.10346)."""


@dataclass(frozen=True)
class Pair:
    """A tokenised pair; each side is the prompt and its response."""

    chosen: Tokens
    rejected: Tokens
    start: int
    """Where the responses begin."""
    weight: float
    reference: tuple[float, float] | None = None
    """Reference's summed log-probabilities of the chosen and the rejected response."""


class PreferenceDataModule(JSONLDataModule):
    """JSONL rows of preference pairs, with the responses labelled and the prompts not.

    Batches hold `input_ids`, `labels` (2B, T), padded on the right, the B chosen sides first, `lengths` (2B,) and
    `weight` (B,); also `reference_logps` (2B,) if the training module asked for them.

    Pairs of one problem whose weights sum to 1, as the pair miners write them, give the mean over all its pairs of a
    right and a wrong response.
    """

    def __init__(
        self,
        train_files: list[str],
        val_files: list[str] | None = None,
        template: str = "plain",
        batch_size: int = 8,
        val_batch_size: int | None = None,
        max_length: int = 2048,
        long_pairs: Literal["drop", "truncate"] = "drop",
        append_eos: EOSPolicy = EOSPolicy(),
        long_prompts: Literal["error", "drop"] = "error",
        batches_per_epoch: int | None = None,
        seed: int = 0,
        num_workers: int = 0,
        tokenizer: Any = None,
    ) -> None:
        """
        Args:
            train_files: .jsonl or .jsonl.gz files; may be empty if something sets `refresh`.
            val_files: files to measure `val/loss` and `val/accuracy` on.
            template: name of the prompt template that renders problems; tells whether plain prompts are chats.
            batch_size: pairs per device and micro-batch.
            val_batch_size: pairs per device in validation; `batch_size` if not given.
            max_length: longest side in tokens, prompt and EOS included.
            long_pairs: what to do with a pair of which a side is longer; `truncate` cuts the response's end but keeps
                its EOS, and drops the pair if the sides have become equal.
            append_eos: which sides end with EOS.
            long_prompts: what to do with a prompt that leaves no room for a response.
            batches_per_epoch: micro-batches per device in an epoch; the data are cut, or repeated in reshuffled passes.
                One pass if not given.
            seed: decides the order of the pairs.
            num_workers: processes that build batches; 0 builds them in the training process.
            tokenizer: a directory, hub id or tokenizer; the training module's if not given.
        """
        super().__init__(
            train_files, val_files or [], template, batch_size, val_batch_size, max_length, long_prompts,
            batches_per_epoch, seed, num_workers, tokenizer,
        )  # fmt: skip
        self.long_pairs, self.append_eos = long_pairs, append_eos
        self._reference: ScoreSides | None = None

    def attach_reference(self, score: ScoreSides | None) -> None:
        """Have the sides of all pairs scored when files are read; None stops it."""
        if score != self._reference:
            self._reference, self._cache = score, {}

    def load(self, files: Sequence[str]) -> tuple[Rows, Counts]:
        texts = list(read_preference_rows(files, self.template, self.tokenizer))
        pairs: list[Pair] = []
        dropped = dict.fromkeys(("empty side", "identical sides", "weight 0", "too long", "prompt too long"), 0)
        truncated = 0
        for text, (prompt, chosen, rejected) in zip(
            texts, encode_rows(texts, self.tokenizer) if texts else (), strict=True
        ):
            if not check_prompt_length(text, len(prompt), self.max_length, self.long_prompts):
                dropped["prompt too long"] += 1
                continue
            long = self._too_long(prompt, chosen, rejected)
            reason = self._reason_to_drop(text.responses, text.weight, long, prompt, chosen, rejected)
            if reason:
                dropped[reason] += 1
                continue
            truncated += long
            pairs.append(
                Pair(
                    self._side(prompt, chosen, self.append_eos.chosen),
                    self._side(prompt, rejected, self.append_eos.rejected),
                    max(1, len(prompt)),
                    text.weight,
                )
            )
        if self._reference is not None:
            pairs = with_reference(pairs, self._reference)
        lengths = [max(len(pair.chosen), len(pair.rejected)) for pair in pairs]
        tokens = sum(len(pair.chosen) + len(pair.rejected) for pair in pairs)
        counts = Counts(len(texts), len(pairs), tokens, max(lengths, default=0), truncated, dropped)
        return pair_rows(pairs, self.pad_token_id), counts

    def _side(self, prompt: Tokens, response: Tokens, append_eos: bool) -> Tokens:
        eos = self.tokenizer.eos_token_id
        if append_eos and response[-1] != eos:
            response = np.append(response, np.int32(eos))
        room = self.max_length - len(prompt)
        if len(response) > room:
            response = np.append(response[: room - 1], response[-1]) if append_eos else response[:room]
        return np.concatenate([prompt, response])

    def _too_long(self, prompt: Tokens, chosen: Tokens, rejected: Tokens) -> bool:
        eos = self.tokenizer.eos_token_id
        sides = ((chosen, self.append_eos.chosen), (rejected, self.append_eos.rejected))
        return any(
            len(side) and len(prompt) + len(side) + (append and side[-1] != eos) > self.max_length
            for side, append in sides
        )

    def _reason_to_drop(
        self, responses: tuple[str, ...], weight: float, long: bool, prompt: Tokens, chosen: Tokens, rejected: Tokens
    ) -> str:
        if not all(responses) or not len(chosen) or not len(rejected):
            return "empty side"
        if not weight:
            return "weight 0"
        if np.array_equal(chosen, rejected):
            return "identical sides"
        if long and self.long_pairs == "drop":
            return "too long"
        cut_chosen = self._side(prompt, chosen, self.append_eos.chosen)
        cut_rejected = self._side(prompt, rejected, self.append_eos.rejected)
        return "identical sides" if np.array_equal(cut_chosen, cut_rejected) else ""


def with_reference(pairs: Sequence[Pair], score: ScoreSides) -> list[Pair]:
    """The pairs with their reference log-probabilities."""
    sides = [(side, pair.start) for pair in pairs for side in (pair.chosen, pair.rejected)]
    values = iter(score(sides).tolist())
    return [replace(pair, reference=(next(values), next(values))) for pair in pairs]


def pair_rows(pairs: Sequence[Pair], pad_token_id: int) -> Rows:
    """Pairs as items of a plan, each with its weight as denominator."""
    items = [
        Item(rows=(i,), length=len(pair.chosen) + len(pair.rejected), denominator=pair.weight)
        for i, pair in enumerate(pairs)
    ]
    return Rows(items, lambda indices: collate_pairs([pairs[i] for i in indices], pairs[0], pad_token_id))


def collate_pairs(pairs: Sequence[Pair], placeholder: Pair, pad_token_id: int) -> dict[str, Tensor]:
    """Pad pairs to (2B, T); without any, the placeholder with weight 0 stands in."""
    weight = torch.tensor([pair.weight for pair in pairs] or [0.0])
    pairs = pairs or [placeholder]
    sides = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    width = max(len(side) for side in sides)
    labels = [side.copy() for side in sides]
    for label, pair in zip(labels, [*pairs, *pairs], strict=True):
        label[: pair.start] = IGNORED
    batch = {
        "input_ids": pad(sides, pad_token_id, width),
        "labels": pad(labels, IGNORED, width),
        "lengths": torch.tensor([len(side) for side in sides]),
        "weight": weight,
    }
    if pairs[0].reference is not None:
        batch["reference_logps"] = torch.tensor([pair.reference for pair in pairs]).T.flatten()
    return batch
