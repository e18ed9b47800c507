"""Rows of supervised fine-tuning: a prompt, and a response to learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.datamodules.base import Counts, JSONLDataModule, Rows, check_prompt_length, pad
from harness.datamodules.batches import Item, pack
from harness.datamodules.solutions import check_solutions
from harness.datamodules.tokenize import Tokens, encode_rows, read_sft_rows
from harness.models.losses import IGNORED


class SFTDataModule(JSONLDataModule):
    """JSONL rows for supervised fine-tuning, with loss on the responses only.

    A response that does not fit into `max_length` is cut at its end and then has no EOS.

    Batches hold `input_ids`, `labels` (B, T), padded on the right, and `weights` (B, T), each token's row weight. A
    packed sequence holds several rows one after another; `position_ids` (B, T) then restart at 0 with each, by which
    transformers keeps their attention apart.
    """

    def __init__(
        self,
        train_files: list[str],
        val_files: list[str] | None = None,
        *,
        packing: bool = False,
        append_eos: bool = True,
        check_solutions: bool = True,
        **options: Any,
    ) -> None:
        """
        Args:
            train_files: .jsonl or .jsonl.gz files; may be empty if something sets `refresh`.
            val_files: files for validation.
            packing: put several rows into one sequence of at most `max_length` tokens.
            append_eos: end every response that was not cut with EOS.
            check_solutions: refuse files of problems whose worked solutions do not yield their answers as the template
                reads them, by the first 100 rows.
            options: those of `JSONLDataModule`.
        """
        super().__init__(train_files, val_files, **options)
        self.packing, self.append_eos = packing, append_eos
        self.check_solutions = check_solutions

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if self.check_solutions:
            check_solutions([*self.train_files, *self.val_files], self.template)

    def load(self, files: Sequence[str]) -> tuple[Rows, Counts]:
        texts = list(read_sft_rows(files, self.template, self.tokenizer))
        ids: list[Tokens] = []
        starts: list[int] = []
        weights: list[float] = []
        truncated, dropped = 0, {"nothing to learn from": 0, "prompt too long": 0}
        eos = self.tokenizer.eos_token_id
        for text, (prompt, response) in zip(texts, encode_rows(texts, self.tokenizer) if texts else (), strict=True):
            if not check_prompt_length(text, len(prompt), self.max_length, self.long_prompts):
                dropped["prompt too long"] += 1
                continue
            if not text.responses[0] or not len(response) or not text.weight:
                dropped["nothing to learn from"] += 1
                continue
            if self.append_eos and response[-1] != eos:
                response = np.append(response, np.int32(eos))
            row = np.concatenate([prompt, response])
            if len(row) < 2:  # a first token has nothing before it to be predicted from
                dropped["nothing to learn from"] += 1
                continue
            truncated += len(row) > self.max_length
            ids.append(row[: self.max_length])
            starts.append(max(1, len(prompt)))
            weights.append(text.weight)
        lengths = [len(row) for row in ids]
        counts = Counts(len(texts), len(ids), sum(lengths), max(lengths, default=0), truncated, dropped)
        return SFTRows(ids, starts, weights, self.pad_token_id).rows(
            pack(lengths, self.max_length, self.seed) if self.packing else [(i,) for i in range(len(ids))]
        ), counts


class SFTRows:
    """Tokenised rows, which it lays out in batches."""

    def __init__(self, ids: list[Tokens], starts: list[int], weights: list[float], pad_token_id: int) -> None:
        self.ids, self.starts, self.weights = ids, starts, weights
        self.pad_token_id = pad_token_id

    def rows(self, groups: Sequence[tuple[int, ...]]) -> Rows:
        """Rows grouped into sequences."""
        items = [
            Item(
                rows=group,
                length=sum(len(self.ids[i]) for i in group),
                denominator=sum(self.weights[i] * (len(self.ids[i]) - self.starts[i]) for i in group),
            )
            for group in groups
        ]
        return Rows(items, lambda indices: self.collate([items[i].rows for i in indices]))

    def collate(self, groups: Sequence[tuple[int, ...]]) -> dict[str, Tensor]:
        """Concatenate the rows of each group, pad the sequences."""
        supervised = bool(groups)
        groups = groups or [(0,)]
        sequences = [np.concatenate([self.ids[i] for i in group]) for group in groups]
        width = max(len(sequence) for sequence in sequences)
        labels = [np.concatenate([self._labels(i, supervised) for i in group]) for group in groups]
        weights = torch.zeros(len(groups), width)
        for row, group in zip(weights, groups, strict=True):
            spread = np.concatenate([np.full(len(self.ids[i]), self.weights[i], dtype=np.float32) for i in group])
            row[: len(spread)] = torch.from_numpy(spread)
        batch = {
            "input_ids": pad(sequences, self.pad_token_id, width),
            "labels": pad(labels, IGNORED, width),
            "weights": weights,
        }
        if any(len(group) > 1 for group in groups):
            positions = [np.concatenate([np.arange(len(self.ids[i])) for i in group]) for group in groups]
            # Padding continues the last row; a restart would make it a row of its own.
            padded = [np.append(p, np.arange(p[-1] + 1, p[-1] + 1 + width - len(p))) for p in positions]
            batch["position_ids"] = pad(padded, 0, width)
        return batch

    def _labels(self, row: int, supervised: bool) -> np.ndarray:
        labels = np.full(len(self.ids[row]), IGNORED, dtype=np.int64)
        if supervised:
            labels[self.starts[row] :] = self.ids[row][self.starts[row] :]
        return labels
