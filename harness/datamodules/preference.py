"""Rows of preference learning: a prompt, a chosen and a rejected response."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from harness.datamodules.base import Counts, JSONLDataModule, Rows, check_prompt_length
from harness.datamodules.pairs import Pair, Pairs, ScoreSides, pair_rows, prompt_groups, sizes, with_reference
from harness.datamodules.tokenize import Tokens, preference_row
from harness.errors import InputError
from harness.sources import Given


@dataclass(frozen=True)
class EOSPolicy:
    """Whether EOS is appended to, and so supervised in, each side."""

    chosen: bool = True
    rejected: bool = True
    """False where rejected responses are single steps (Self-Explore, arXiv:2404.10346)."""


class PreferenceDataModule(JSONLDataModule):
    """Rows of preference pairs, with the responses labelled and the prompts not.

    Batches are as `harness.datamodules.pairs.collate_pairs` makes them: the distinct sides, and the pairs as indices
    into them.

    Pairs of one problem whose weights sum to 1, as the pair miners write them, give the mean over all its pairs of a
    right and a wrong response. With `group: prompt` all of them come in one batch, and 4 x 4 pairs are computed as 8
    responses, not 32.
    """

    def __init__(
        self,
        train_files: list[str | dict[str, Any]],
        val_files: list[str | dict[str, Any]] | None = None,
        *,
        long_pairs: Literal["drop", "truncate"] = "drop",
        append_eos: EOSPolicy = EOSPolicy(),
        group: Literal["none", "prompt"] = "none",
        group_tokens: int = 16384,
        **options: Any,
    ) -> None:
        """
        Args:
            train_files: files, folders, data sets of the hub, or mappings; see `JSONLDataModule`.
            val_files: the same for validation.
            long_pairs: what to do with a pair of which a side is longer; `truncate` cuts the response's end but keeps
                its EOS, and drops the pair if the sides have become equal.
            append_eos: which sides end with EOS.
            group: "prompt" keeps the pairs of one prompt (a problem, or a problem with the steps so far) together,
                wherever in the files they stand, so that a response in several of them is computed once.
            group_tokens: most tokens of the distinct sides of a group; the pairs of a larger one are dealt to several.
            options: those of `JSONLDataModule`.
        """
        super().__init__(train_files, val_files, **options)
        if group_tokens < 1:
            raise InputError(f"group_tokens must be at least 1, found {group_tokens}.")
        self.long_pairs, self.append_eos = long_pairs, append_eos
        self.group, self.group_tokens = group, group_tokens
        self._reference: ScoreSides | None = None

    def attach_reference(self, score: ScoreSides | None) -> None:
        """Have the sides of all pairs scored when files are read; None stops it."""
        if score != self._reference:
            self._reference, self._cache = score, {}

    text_row = staticmethod(preference_row)

    def read(self, files: Sequence[Given]) -> tuple[tuple[Pairs, tuple[Given, ...]], Counts]:
        table = self.table(files)
        ends = {chat: self.end_token_id(chat) for chat in (False, True)}
        kept: list[int] = []
        dropped = dict.fromkeys(("empty side", "identical sides", "weight 0", "too long", "prompt too long"), 0)
        truncated = 0

        def build(number: int, reference: tuple[float, float] | None) -> Pair:
            row = rows[number]
            prompt, chosen, rejected = table.texts(row)
            eos = ends[bool(table.chat[row])]
            return Pair(
                self._side(prompt, chosen, self.append_eos.chosen, eos),
                self._side(prompt, rejected, self.append_eos.rejected, eos),
                max(1, len(prompt)),
                float(table.weights[row]),
                reference,
            )

        for row, weight in enumerate(table.weights.tolist()):
            prompt, chosen, rejected = table.texts(row)
            eos = ends[bool(table.chat[row])]
            if not check_prompt_length(table.where(row), len(prompt), self.max_length, self.long_prompts):
                dropped["prompt too long"] += 1
                continue
            long = self._too_long(prompt, chosen, rejected, eos)
            reason = "empty side"
            if not table.empty[row]:
                reason = self._reason_to_drop(weight, long, prompt, chosen, rejected, eos)
            if reason:
                dropped[reason] += 1
                continue
            truncated += long
            kept.append(row)
        rows = np.array(kept, np.int64)
        lengths = np.array([[len(side) for side in build(i, None).sides] for i in range(len(rows))], np.int64)
        lengths = lengths.reshape(-1, 2)
        assert table.sources is not None
        pairs = Pairs(build, lengths, table.weights[rows], table.sources[rows])
        longest = int(lengths.max(initial=0))
        counts = Counts(len(table), len(pairs), int(lengths.sum()), longest, truncated, dropped)
        return (pairs, tuple(files)), counts

    def lay_out(self, texts: tuple[Pairs, tuple[Given, ...]]) -> Rows:
        pairs, files = texts
        if self._reference is not None:
            pairs = with_reference(pairs, self._reference)
        groups = None if self.group == "none" else list(map(tuple, prompt_groups(pairs, self.group_tokens)))
        items = self.mixed(pairs.sources, files, *sizes(pairs, groups), groups)
        return pair_rows(pairs, items, self.pad_token_id)

    def _side(self, prompt: Tokens, response: Tokens, append_eos: bool, eos: int) -> Tokens:
        if append_eos and response[-1] != eos:
            response = np.append(response, np.int32(eos))
        room = self.max_length - len(prompt)
        if len(response) > room:
            response = np.append(response[: room - 1], response[-1]) if append_eos else response[:room]
        return np.concatenate([prompt, response])

    def _too_long(self, prompt: Tokens, chosen: Tokens, rejected: Tokens, eos: int) -> bool:
        sides = ((chosen, self.append_eos.chosen), (rejected, self.append_eos.rejected))
        return any(
            len(side) and len(prompt) + len(side) + (append and side[-1] != eos) > self.max_length
            for side, append in sides
        )

    def _reason_to_drop(
        self, weight: float, long: bool, prompt: Tokens, chosen: Tokens, rejected: Tokens, eos: int
    ) -> str:
        if not len(chosen) or not len(rejected):
            return "empty side"
        if not weight:
            return "weight 0"
        if np.array_equal(chosen, rejected):
            return "identical sides"
        if long and self.long_pairs == "drop":
            return "too long"
        cut_chosen = self._side(prompt, chosen, self.append_eos.chosen, eos)
        cut_rejected = self._side(prompt, rejected, self.append_eos.rejected, eos)
        return "identical sides" if np.array_equal(cut_chosen, cut_rejected) else ""
