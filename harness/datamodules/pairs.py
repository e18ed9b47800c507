"""Tokenised preference pairs: which of them stay together, and their tensors."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.datamodules.base import Rows, filled, pad
from harness.datamodules.batches import Items
from harness.datamodules.tokenize import Tokens
from harness.models.losses import IGNORED

ScoreSides = Callable[[Sequence[tuple[Tokens, int]]], np.ndarray]
"""(tokens, start of the response) of each side -> its reference log-probability."""


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
    desirable: bool | None = None
    """Whether a single response is good; the rejected one is then another prompt's."""

    @property
    def sides(self) -> tuple[Tokens, Tokens]:
        return self.chosen, self.rejected

    @property
    def prompt(self) -> bytes:
        """Equal for pairs of the same prompt."""
        return self.chosen[: self.start].tobytes()


class Pairs(Sequence[Pair]):
    """P pairs, each made when it is asked for.

    Args:
        build: makes the pair of a number, without its reference.
        lengths: (P, 2) tokens of the chosen and the rejected side.
        weights: (P,)
        sources: (P,) the source that each comes from.
        reference: (P, 2) reference's summed log-probabilities, where they are known.
    """

    def __init__(
        self,
        build: Callable[[int, tuple[float, float] | None], Pair],
        lengths: np.ndarray,
        weights: np.ndarray,
        sources: np.ndarray,
        reference: np.ndarray | None = None,
    ) -> None:
        self.build, self.lengths, self.weights, self.sources = build, lengths, weights, sources
        self.reference = reference

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(index)
        known = None if self.reference is None else tuple(self.reference[index].tolist())
        return self.build(int(index), known)


class Sides(Sequence[tuple[Tokens, int]]):
    """The sides of pairs, chosen and rejected in turns: (tokens, start of the response)."""

    def __init__(self, pairs: Pairs) -> None:
        self._pairs = pairs

    def __len__(self) -> int:
        return 2 * len(self._pairs)

    def __getitem__(self, index: Any) -> Any:
        pair = self._pairs[index // 2]
        return pair.sides[index % 2], pair.start


def with_reference(pairs: Pairs, score: ScoreSides) -> Pairs:
    """The pairs with their reference log-probabilities."""
    values = score(Sides(pairs)).reshape(-1, 2)
    return Pairs(pairs.build, pairs.lengths, pairs.weights, pairs.sources, values)


def prompt_groups(pairs: Sequence[Pair], max_tokens: int) -> list[list[int]]:
    """Indices of the pairs of each prompt, in the order in which the prompts first appear.

    The pairs of a prompt whose distinct sides have more than `max_tokens` tokens are cut into tiles of the table of
    chosen by rejected responses: in a tile every response still serves many pairs.
    """
    prompts: dict[bytes, list[int]] = {}
    for i, pair in enumerate(pairs):
        prompts.setdefault(hashlib.blake2b(pair.prompt, digest_size=16).digest(), []).append(i)
    groups: list[list[int]] = []
    for members in prompts.values():
        sides = {side.tobytes(): len(side) for i in members for side in pairs[i].sides}
        if sum(sides.values()) <= max_tokens:
            groups.append(members)
            continue
        size = max(1, max_tokens // (2 * max(sides.values())))
        rows: dict[bytes, int] = {}
        columns: dict[bytes, int] = {}
        tiles: dict[tuple[int, int], list[int]] = {}
        for i in members:
            row = rows.setdefault(pairs[i].chosen.tobytes(), len(rows))
            column = columns.setdefault(pairs[i].rejected.tobytes(), len(columns))
            tiles.setdefault((row // size, column // size), []).append(i)
        groups += tiles.values()
    return groups


def sizes(pairs: Pairs, groups: Sequence[Sequence[int]] | None) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and denominator, the weight, of each group of pairs, or of each pair; equal sides in one count once."""
    if groups is None:
        return pairs.lengths.sum(1), pairs.weights
    lengths = [sum({side.tobytes(): len(side) for i in group for side in pairs[i].sides}.values()) for group in groups]
    weights = pairs.weights.tolist()
    return np.array(lengths, np.int64), np.array([sum(weights[i] for i in group) for group in groups])


def pair_rows(pairs: Pairs, items: Items, pad_token_id: int) -> Rows:
    """Pairs grouped into the items of a plan."""

    def collate(indices: Sequence[int]) -> dict[str, Tensor]:
        return collate_pairs([pairs[i] for item in indices for i in items.rows(item)], pairs[0], pad_token_id)

    return Rows(items, collate)


def collate_pairs(pairs: Sequence[Pair], placeholder: Pair, pad_token_id: int) -> dict[str, Tensor]:
    """B pairs of S distinct sides as tensors; without any pair, the placeholder with weight 0 stands in.

    Returns:
        `input_ids`, `labels`, `is_token` (S, T), padded on the right, and `lengths` (S,): the sides, chosen ones first,
        each once in however many pairs it stands; `prompts` (S,), a number for each prompt; `pairs` (2, B), the sides
        of the chosen and of the rejected responses; `weight` (B,); `reference_logps` (S,) and `desirable` (B,) if the
        pairs have them.
    """
    weight = torch.tensor([pair.weight for pair in pairs] or [0.0])
    is_real = bool(pairs)
    pairs = pairs or [placeholder]
    places = [(pair, side) for side in (0, 1) for pair in pairs]
    keys = [(pair.start, pair.sides[side].tobytes()) for pair, side in places]
    distinct = dict(zip(keys, places, strict=True))
    number = {key: n for n, key in enumerate(distinct)}
    sides = [pair.sides[side] for pair, side in distinct.values()]
    width = max(len(side) for side in sides)
    labels = [side.copy() for side in sides]
    for label, (start, _) in zip(labels, distinct, strict=True):
        label[:start] = IGNORED
    prompts: dict[bytes, int] = {}
    batch = {
        "input_ids": pad(sides, pad_token_id, width),
        "labels": pad(labels, IGNORED, width),
        "is_token": filled([len(side) * is_real for side in sides], width),
        "lengths": torch.tensor([len(side) for side in sides]),
        "prompts": torch.tensor([prompts.setdefault(pair.prompt, len(prompts)) for pair, _ in distinct.values()]),
        "pairs": torch.tensor([number[key] for key in keys]).view(2, -1),
        "weight": weight,
    }
    desirable = [pair.desirable for pair in pairs if pair.desirable is not None]
    if desirable:
        batch["desirable"] = torch.tensor(desirable)
    values = [pair.reference[side] for pair, side in distinct.values() if pair.reference is not None]
    if values:
        batch["reference_logps"] = torch.tensor(values)
    return batch
