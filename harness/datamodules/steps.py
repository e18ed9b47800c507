"""Rows of process supervision: a prompt, the steps of a response, and a label for each step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.datamodules.base import Counts, JSONLDataModule, Rows, check_prompt_length, filled, pad
from harness.datamodules.batches import Item
from harness.datamodules.tokenize import TextRow, Tokens, encode_rows, read_rows_of
from harness.errors import InputError
from harness.models.losses import IGNORED


@dataclass(frozen=True)
class LabelledSteps:
    """A tokenised response with a label at the positions that are scored."""

    ids: Tokens
    labels: np.ndarray
    """float32, as long as `ids`; `IGNORED` where no step is scored."""
    weight: float


class StepDataModule(JSONLDataModule):
    """JSONL rows of responses in steps with a label from 0 to 1 for each step, for `ProcessRewardModule`.

    A row is {"prompt", "steps", "labels"}, or a problem with "steps" and "labels" that the template renders; "weight"
    is optional. Prompt and steps are tokenised apart and concatenated, as `harness.rewards.RewardModel` does, and a
    step's score is read at its last token; the last step ends with EOS. Batches hold `input_ids` and `labels` (B, T),
    padded on the right, labels `IGNORED` where nothing is scored, `is_token` (B, T), false in the padding, and
    `weights` (B,). A response that does not fit into `max_length` loses its last steps.
    """

    def __init__(
        self,
        train_files: list[str],
        val_files: list[str] | None = None,
        *,
        every_token: bool = False,
        append_eos: bool = True,
        **options: Any,
    ) -> None:
        """
        Args:
            train_files: .jsonl or .jsonl.gz files; may be empty if something sets `refresh`.
            val_files: files for validation.
            every_token: give all tokens of a step its label (B-STaR's released code), not only the last.
            append_eos: end every response with EOS, where its last step is then scored.
            options: those of `JSONLDataModule`.
        """
        super().__init__(train_files, val_files, **options)
        self.every_token, self.append_eos = every_token, append_eos

    def read(self, files: Sequence[str]) -> tuple[Rows, Counts]:
        rows: list[LabelledSteps] = []
        truncated, dropped = 0, {"nothing to learn from": 0, "prompt too long": 0}
        texts = list(self._read(files))
        encoded = self._encode([text for text, _ in texts])
        self.check_ids(files, np.concatenate([ids for row in encoded for ids in row] or [np.zeros(0, np.int32)]))
        for (text, labels), (prompt, *steps) in zip(texts, encoded, strict=True):
            if not check_prompt_length(text.where, len(prompt), self.max_length, self.long_prompts):
                dropped["prompt too long"] += 1
                continue
            row = self._labelled(prompt, steps, labels, text)
            truncated += len(row.ids) > self.max_length
            row = LabelledSteps(row.ids[: self.max_length], row.labels[: self.max_length], row.weight)
            if not row.weight or not (row.labels != IGNORED).any():
                dropped["nothing to learn from"] += 1
                continue
            rows.append(row)
        lengths = [len(row.ids) for row in rows]
        counts = Counts(len(texts), len(rows), sum(lengths), max(lengths, default=0), truncated, dropped)
        items = [
            Item((i,), len(row.ids), row.weight * int((row.labels != IGNORED).sum())) for i, row in enumerate(rows)
        ]
        return Rows(items, lambda indices: self._pad([rows[i] for i in indices], rows[0])), counts

    def _encode(self, texts: Sequence[TextRow]) -> list[tuple[Tokens, ...]]:
        """Token ids of prompt and steps, the rows of one number of steps at a time."""
        groups: dict[int, list[int]] = {}
        for index, text in enumerate(texts):
            groups.setdefault(len(text.responses), []).append(index)
        encoded: dict[int, tuple[Tokens, ...]] = {}
        for indices in groups.values():
            encoded.update(zip(indices, encode_rows([texts[i] for i in indices], self.tokenizer), strict=True))
        return [encoded[index] for index in range(len(texts))]

    def _read(self, files: Sequence[str]) -> Iterator[tuple[TextRow, list[float]]]:
        for text, row in read_rows_of(files, self.template, self.tokenizer, "steps"):
            labels = row.get("labels")
            if not isinstance(labels, list) or len(labels) != len(text.responses):
                raise InputError(
                    f"{text.where}: `labels` must be a list, one number for each of the {len(text.responses)} steps."
                )
            if bad := [value for value in labels if not isinstance(value, int | float) or not 0 <= value <= 1]:
                raise InputError(f"{text.where}: a step's label must be a number from 0 to 1, found {bad[0]!r}.")
            yield text, [float(value) for value in labels]

    def _labelled(
        self, prompt: Tokens, steps: Sequence[Tokens], labels: Sequence[float], text: TextRow
    ) -> LabelledSteps:
        eos = np.array([self.end_token_id(text.chat)], dtype=np.int32)
        parts, marks = [prompt], [np.full(len(prompt), IGNORED, dtype=np.float32)]
        for number, (ids, label) in enumerate(zip(steps, labels, strict=True), 1):
            if self.append_eos and number == len(steps):
                ids = np.concatenate([ids, eos])
            mark = np.full(len(ids), label if self.every_token else IGNORED, dtype=np.float32)
            mark[-1:] = label
            parts.append(ids)
            marks.append(mark)
        return LabelledSteps(np.concatenate(parts), np.concatenate(marks), text.weight)

    def _pad(self, rows: Sequence[LabelledSteps], placeholder: LabelledSteps) -> dict[str, Tensor]:
        supervised = bool(rows)
        rows = rows or [placeholder]
        width = max(len(row.ids) for row in rows)
        labels = torch.full((len(rows), width), float(IGNORED))
        for line, row in zip(labels, rows, strict=True):
            if supervised:
                line[: len(row.labels)] = torch.from_numpy(row.labels)
        return {
            "input_ids": pad([row.ids for row in rows], self.pad_token_id, width),
            "labels": labels,
            "weights": torch.tensor([row.weight for row in rows]),
            "is_token": filled([len(row.ids) * supervised for row in rows], width),
        }
