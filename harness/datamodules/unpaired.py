"""Rows of single responses that are good or bad: a prompt, a response, a label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.datamodules.base import Counts, check_prompt_length
from harness.datamodules.pairs import Pair, Pairs
from harness.datamodules.preference import EOSPolicy, PreferenceDataModule
from harness.datamodules.token_table import TokenTable
from harness.datamodules.tokenize import unpaired_row
from harness.errors import InputError
from harness.sources import Given


class UnpairedDataModule(PreferenceDataModule):
    """Rows {"prompt", "completion" or "response", "label"}, texts or chats, for `KTOModule`.

    Batches are `PreferenceDataModule`'s, with `desirable` (B,), the labels: the chosen side is the row's own response,
    the rejected one that of the next row with another prompt, behind this prompt, of which the loss estimates the
    divergence from the reference.
    """

    def __init__(
        self,
        train_files: list[str | dict[str, Any]],
        val_files: list[str | dict[str, Any]] | None = None,
        *,
        append_eos: bool = True,
        **options: Any,
    ) -> None:
        """
        Args:
            train_files: files, folders, data sets of the hub, or mappings; see `JSONLDataModule`.
            val_files: the same for validation.
            append_eos: end every response with EOS.
            options: those of `PreferenceDataModule` and `JSONLDataModule`.
        """
        super().__init__(train_files, val_files, append_eos=EOSPolicy(append_eos, append_eos), **options)

    text_row = staticmethod(unpaired_row)

    def read(self, files: Sequence[Given]) -> tuple[tuple[Pairs, tuple[Given, ...]], Counts]:
        table = self.table(files)
        ends = {chat: self.end_token_id(chat) for chat in (False, True)}
        append = self.append_eos.chosen
        kept: list[int] = []
        dropped = dict.fromkeys(("empty response", "weight 0", "too long", "prompt too long"), 0)
        truncated = 0
        for row, weight in enumerate(table.weights.tolist()):
            prompt, response = table.texts(row)
            if not check_prompt_length(table.where(row), len(prompt), self.max_length, self.long_prompts):
                dropped["prompt too long"] += 1
                continue
            eos = append and len(response) and response[-1] != ends[bool(table.chat[row])]
            long = len(prompt) + len(response) + bool(eos) > self.max_length
            if table.empty[row] or not len(response):
                dropped["empty response"] += 1
            elif not weight:
                dropped["weight 0"] += 1
            elif long and self.long_pairs == "drop":
                dropped["too long"] += 1
            else:
                truncated += long
                kept.append(row)
        rows = np.array(kept, np.int64)
        others = rows[_next_of_another_prompt(table, kept)] if kept else rows

        def build(number: int, reference: tuple[float, float] | None) -> Pair:
            row, other = rows[number], others[number]
            (prompt, response), (_, unrelated) = table.texts(row), table.texts(other)
            return Pair(
                self._side(prompt, response, append, ends[bool(table.chat[row])]),
                self._side(prompt, unrelated, append, ends[bool(table.chat[other])]),
                max(1, len(prompt)),
                float(table.weights[row]),
                reference,
                bool(table.labels[row]),
            )

        lengths = np.array([[len(side) for side in build(i, None).sides] for i in range(len(rows))], np.int64)
        lengths = lengths.reshape(-1, 2)
        assert table.sources is not None
        pairs = Pairs(build, lengths, table.weights[rows], table.sources[rows])
        own = lengths[:, 0]
        counts = Counts(len(table), len(pairs), int(own.sum()), int(own.max(initial=0)), truncated, dropped)
        return (pairs, tuple(files)), counts


def _next_of_another_prompt(table: TokenTable, rows: Sequence[int]) -> np.ndarray:
    """Of each row, the place in `rows` of the next one, in a circle, that has another prompt.

    Raises:
        InputError: all have the same prompt.
    """
    count = len(rows)
    found = np.full(count, -1, np.int64)
    prompts = [hash(table.texts(row)[0].tobytes()) for row in rows]
    for i in range(2 * count - 1, -1, -1):
        here, after = i % count, (i + 1) % count
        found[here] = after if prompts[after] != prompts[here] else found[after]
    if (found < 0).any():
        raise InputError(
            f"{table.where(rows[0])}: all rows have this prompt; the reference point of KTO is measured on responses "
            "to other prompts, so give rows of two or more."
        )
    return found
