"""Rows of supervised fine-tuning: a prompt, and a response to learn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from harness.datamodules.base import Counts, JSONLDataModule, Rows, check_prompt_length, filled, pad
from harness.datamodules.batches import Items, pack
from harness.datamodules.lazy import LazyCounts, Lines, StepRows
from harness.datamodules.solutions import check_solutions
from harness.datamodules.token_table import PIECE, TokenTable, table_of
from harness.datamodules.tokenize import Tokens, sft_row
from harness.errors import InputError
from harness.models.losses import IGNORED
from harness.sources import Given


class SFTDataModule(JSONLDataModule):
    """Rows for supervised fine-tuning, with loss on the responses only.

    A response that does not fit into `max_length` is cut at its end and then has no EOS.

    Batches hold `input_ids`, `labels` (B, T), padded on the right, `is_token` (B, T), false in the padding, and
    `weights` (B, T), each token's row weight. A packed sequence holds several rows one after another; `position_ids`
    (B, T) then restart at 0 with each, by which transformers keeps their attention apart.
    """

    def __init__(
        self,
        train_files: list[str | dict[str, Any]],
        val_files: list[str | dict[str, Any]] | None = None,
        *,
        packing: bool = False,
        tokenize: Literal["ahead", "lazily"] = "ahead",
        append_eos: bool = True,
        check_solutions: bool = True,
        **options: Any,
    ) -> None:
        """
        Args:
            train_files: files, folders, data sets of the hub, or mappings; see `JSONLDataModule`.
            val_files: the same for validation.
            packing: put several rows into one sequence of at most `max_length` tokens.
            tokenize: "ahead" tokenises and checks all rows before training, once for all runs; "lazily" the rows of a
                step when it comes, so that a JSONL file of any size starts at once.
            append_eos: end every response that was not cut with EOS.
            check_solutions: refuse files of problems whose worked solutions do not yield their answers as the template
                reads them, by the first 100 rows.
            options: those of `JSONLDataModule`.
        """
        super().__init__(train_files, val_files, **options)
        if packing and tokenize == "lazily":
            raise InputError(
                "packing needs the lengths of all rows, which tokenize: lazily does not know; leave one out."
            )
        self.packing, self.append_eos, self.tokenize = packing, append_eos, tokenize
        self.check_solutions = check_solutions

    text_row = staticmethod(sft_row)

    def find(self) -> None:
        super().find()
        if self.check_solutions:
            check_solutions(self.sources([*self.train_files, *self.val_files]), self.template)

    def read(self, files: Sequence[Given]) -> tuple[Rows, Counts]:
        if self.tokenize == "lazily":
            return self._read_lazily(files)
        table = self.table(files)
        rows, kept, counts = self._laid_out(table, table.where)
        sources = table.sources[kept] if table.sources is not None else None
        groups = self._packs(rows.lengths, sources, files) if self.packing else None
        lengths, denominators = rows.sizes(groups)
        return rows.rows(self.mixed(sources, files, lengths, denominators, groups)), counts

    def _laid_out(self, table: TokenTable, where: Callable[[int], str]) -> tuple[SFTRows, np.ndarray, Counts]:
        """The rows of a table that are trained on, their numbers in it, and what became of the others."""
        prompts, responses = table.lengths.T if len(table) else np.zeros((2, 0), np.int64)
        for row in np.flatnonzero(prompts >= self.max_length).tolist():
            check_prompt_length(where(row), int(prompts[row]), self.max_length, self.long_prompts)
        fits = prompts < self.max_length
        tokens = np.array([self.end_token_id(chat) for chat in (False, True)], np.int32)[table.chat.astype(int)]
        eos = self.append_eos & (table.last[:, -1] != tokens)
        lengths = prompts + responses + eos
        # A first token has nothing before it to be predicted from.
        learned = ~table.empty & (responses > 0) & (table.weights > 0) & (lengths > 1)
        kept = np.flatnonzero(fits & learned)
        ids = KeptRows(
            table,
            kept,
            np.minimum(lengths, self.max_length)[kept],
            (eos & (lengths <= self.max_length))[kept],
            tokens[kept],
        )
        rows = SFTRows(ids, np.maximum(prompts, 1)[kept], table.weights[kept], self.pad_token_id, ids.lengths)
        counts = Counts(
            len(table),
            len(kept),
            int(rows.lengths.sum()),
            int(rows.lengths.max(initial=0)),
            int((lengths[kept] > self.max_length).sum()),
            {"nothing to learn from": int((fits & ~learned).sum()), "prompt too long": int((~fits).sum())},
        )
        return rows, kept, counts

    def _read_lazily(self, files: Sequence[Given]) -> tuple[Rows, Counts]:
        sources = self.sources(files)
        lines = Lines(sources)

        def load(members: Sequence[int]) -> tuple[SFTRows, np.ndarray]:
            texts = [
                sft_row(where, row, self.template, self.tokenizer) for where, row in map(lines.__getitem__, members)
            ]
            table = table_of(texts, self.tokenizer)
            self.check_ids(sources, table.ids)
            rows, kept, _ = self._laid_out(table, lambda row: texts[row].where)
            return rows, kept

        if len(lines):
            load(range(min(PIECE, len(lines))))  # mistakes are found before the model is loaded
        pad = self.pad_token_id
        rows = StepRows(load, SFTRows([np.full(2, pad, np.int32)], np.ones(1, np.int64), np.zeros(1), pad))
        items = self.mixed(lines.sources, files, lines.lengths, lines.lengths)
        return Rows(items, rows.collate, rows.step), LazyCounts(len(lines), len(lines), 0, 0, 0, {})

    def _packs(
        self, lengths: np.ndarray, sources: np.ndarray | None, files: Sequence[Given]
    ) -> Sequence[tuple[int, ...]]:
        """Rows packed into sequences; those of a mixture hold rows of one source each."""
        if sources is None or not any(source.weight for source in self.sources(files)):
            return pack(lengths.tolist(), self.max_length, self.seed)
        groups: list[tuple[int, ...]] = []
        for source in np.unique(sources):
            members = np.flatnonzero(sources == source)
            packs = pack(lengths[members].tolist(), self.max_length, self.seed)
            groups += [tuple(members[list(group)].tolist()) for group in packs]
        return groups


class KeptRows(Sequence[Tokens]):
    """The token ids, prompt and response, of those rows of a table that are trained on.

    Args:
        table: of prompts and responses.
        kept: (K,) their numbers in the table.
        lengths: (K,) tokens of each, EOS included.
        eos: (K,) whether EOS is appended.
        eos_token_ids: (K,) that EOS.
    """

    def __init__(
        self, table: TokenTable, kept: np.ndarray, lengths: np.ndarray, eos: np.ndarray, eos_token_ids: np.ndarray
    ) -> None:
        self._table, self._kept, self.lengths, self._eos, self._eos_token_ids = table, kept, lengths, eos, eos_token_ids

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, row: Any) -> Any:
        number = self._kept[row]
        first = self._table.ends[number - 1, -1] if number else 0
        ids = self._table.ids[first : first + self.lengths[row] - self._eos[row]]
        return np.append(ids, self._eos_token_ids[row]) if self._eos[row] else ids


class SFTRows:
    """Tokenised rows, which it lays out in batches.

    Args:
        ids: the tokens of each of R rows.
        starts: (R,) where the responses begin.
        weights: (R,)
        pad_token_id: fills sequences up.
        lengths: (R,) tokens of each; counted if not given.
    """

    def __init__(
        self,
        ids: Sequence[Tokens],
        starts: np.ndarray,
        weights: np.ndarray,
        pad_token_id: int,
        lengths: np.ndarray | None = None,
    ) -> None:
        self.ids, self.starts, self.weights = ids, starts, weights
        self.lengths = np.array([len(row) for row in ids], np.int64) if lengths is None else lengths
        self.pad_token_id = pad_token_id

    def sizes(self, groups: Sequence[tuple[int, ...]] | None) -> tuple[np.ndarray, np.ndarray]:
        """Tokens and denominator of each group of rows, or of each row."""
        denominators = self.weights * (self.lengths - self.starts)
        if groups is None:
            return self.lengths, denominators
        values, weighted = self.lengths.tolist(), denominators.tolist()
        lengths = np.array([sum(values[i] for i in group) for group in groups], np.int64)
        return lengths, np.array([sum(weighted[i] for i in group) for group in groups])

    def rows(self, items: Items) -> Rows:
        """Rows grouped into the items of a plan."""
        return Rows(items, lambda indices: self.collate([items.rows(i) for i in indices]))

    def collate(self, groups: Sequence[tuple[int, ...]]) -> dict[str, Tensor]:
        """Concatenate the rows of each group, pad the sequences."""
        supervised = bool(groups)
        groups = groups or [(0,)]
        sequences = [np.concatenate([self.ids[i] for i in group]) for group in groups]
        width = max(len(sequence) for sequence in sequences)
        labels = [np.concatenate([self._labels(i, supervised) for i in group]) for group in groups]
        weights = torch.zeros(len(groups), width)
        for row, group in zip(weights, groups, strict=True):
            spread = np.concatenate([np.full(self.lengths[i], self.weights[i], dtype=np.float32) for i in group])
            row[: len(spread)] = torch.from_numpy(spread)
        batch = {
            "input_ids": pad(sequences, self.pad_token_id, width),
            "labels": pad(labels, IGNORED, width),
            "weights": weights,
            "is_token": filled([len(sequence) * supervised for sequence in sequences], width),
        }
        if any(len(group) > 1 for group in groups):
            positions = [np.concatenate([np.arange(self.lengths[i]) for i in group]) for group in groups]
            # Padding continues the last row; a restart would make it a row of its own.
            padded = [np.append(p, np.arange(p[-1] + 1, p[-1] + 1 + width - len(p))) for p in positions]
            batch["position_ids"] = pad(padded, 0, width)
        return batch

    def _labels(self, row: int, supervised: bool) -> np.ndarray:
        labels = np.full(self.lengths[row], IGNORED, dtype=np.int64)
        if supervised:
            labels[self.starts[row] :] = self.ids[row][self.starts[row] :]
        return labels
