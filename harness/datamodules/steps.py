"""Rows of process supervision: a prompt, the steps of a response, and a label for each step."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.datamodules.base import Counts, JSONLDataModule, Rows, check_prompt_length, filled, pad
from harness.datamodules.token_table import PIECE
from harness.datamodules.tokenize import TextRow, Tokens, encode_rows, step_row
from harness.models.losses import IGNORED
from harness.sources import Given, Source, read_source


@dataclass(frozen=True)
class LabelledSteps:
    """A tokenised response with a label at the positions that are scored."""

    ids: Tokens
    labels: np.ndarray
    """float32, as long as `ids`; `IGNORED` where no step is scored."""
    weight: float


class StepDataModule(JSONLDataModule):
    """Rows of responses in steps with a label from 0 to 1 for each step, for `ProcessRewardModule`.

    A row is {"prompt", "steps", "labels"}, or a problem with "steps" and "labels" that the template renders; "weight"
    is optional; "completions" instead of "steps" are TRL's, each with a line break put behind it. Prompt and steps are
    tokenised apart and concatenated, as `harness.rewards.RewardModel` does, and a step's score is read at its last
    token; the last step ends with EOS. Batches hold `input_ids` and `labels` (B, T), padded on the right, labels
    `IGNORED` where nothing is scored, `is_token` (B, T), false in the padding, and `weights` (B,). A response that does
    not fit into `max_length` loses its last steps.
    """

    def __init__(
        self,
        train_files: list[str | dict[str, Any]],
        val_files: list[str | dict[str, Any]] | None = None,
        *,
        every_token: bool = False,
        append_eos: bool = True,
        **options: Any,
    ) -> None:
        """
        Args:
            train_files: files, folders, data sets of the hub, or mappings; see `JSONLDataModule`.
            val_files: the same for validation.
            every_token: give all tokens of a step its label (B-STaR's released code), not only the last.
            append_eos: end every response with EOS, where its last step is then scored.
            options: those of `JSONLDataModule`.
        """
        super().__init__(train_files, val_files, **options)
        self.every_token, self.append_eos = every_token, append_eos

    text_row = staticmethod(step_row)

    def read(self, files: Sequence[Given]) -> tuple[Rows, Counts]:
        rows: list[LabelledSteps] = []
        number = 0
        of_source: list[int] = []
        truncated, dropped = 0, {"nothing to learn from": 0, "prompt too long": 0}
        for source, text, (prompt, *steps) in self._encoded(self.sources(files)):
            number += 1
            if not check_prompt_length(text.where, len(prompt), self.max_length, self.long_prompts):
                dropped["prompt too long"] += 1
                continue
            row = self._labelled(prompt, steps, text.labels, text)
            truncated += len(row.ids) > self.max_length
            row = LabelledSteps(row.ids[: self.max_length], row.labels[: self.max_length], row.weight)
            if not row.weight or not (row.labels != IGNORED).any():
                dropped["nothing to learn from"] += 1
                continue
            rows.append(row)
            of_source.append(source)
        lengths = np.array([len(row.ids) for row in rows], np.int64)
        longest = int(lengths.max(initial=0))
        counts = Counts(number, len(rows), int(lengths.sum()), longest, truncated, dropped)
        denominators = np.array([row.weight * int((row.labels != IGNORED).sum()) for row in rows])
        items = self.mixed(np.array(of_source, np.int64), files, lengths, denominators)
        return Rows(items, lambda indices: self._pad([rows[i] for i in indices], rows[0])), counts

    def _encoded(self, sources: Sequence[Source]) -> Iterator[tuple[int, TextRow, tuple[Tokens, ...]]]:
        """(number of the source, row, token ids of prompt and steps) of each row, tokenised some at a time."""
        for number, source in enumerate(sources):
            rows = read_source(source)
            while piece := list(itertools.islice(rows, PIECE)):
                texts = [step_row(where, row, self.template, self.tokenizer) for where, row in piece]
                encoded = self._encode(texts)
                self.check_ids([source], np.concatenate([ids for row in encoded for ids in row]))
                yield from ((number, text, ids) for text, ids in zip(texts, encoded, strict=True))

    def _encode(self, texts: Sequence[TextRow]) -> list[tuple[Tokens, ...]]:
        """Token ids of prompt and steps, the rows of one number of steps at a time."""
        groups: dict[int, list[int]] = {}
        for index, text in enumerate(texts):
            groups.setdefault(len(text.responses), []).append(index)
        encoded: dict[int, tuple[Tokens, ...]] = {}
        for indices in groups.values():
            encoded.update(zip(indices, encode_rows([texts[i] for i in indices], self.tokenizer), strict=True))
        return [encoded[index] for index in range(len(texts))]

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
