"""Sides of pairs laid out so that the tokens with which several of them begin are computed once.

The sides of one prompt become a tree: a token follows the tokens before it, and where sides part the tree branches. It
is written depth first into one sequence, position ids count from the root, and a mask lets each token see the tokens
above it alone. Several trees may share a row. Logits equal those of the plain sequences up to rounding.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from harness.errors import InputError
from harness.models.losses import IGNORED, supervised_positions
from harness.models.weights import plain_model

MIN_SAVING = 0.1
"""Share of token positions that must be saved; below it the plain form, whose attention needs no mask, is faster."""

WIDTHS = (2, 4)
"""A tree is at most so many times as long as the longest side; the sides of a prompt that do not fit make more trees.
Of these bounds a batch takes the one that leaves fewest positions: long trees repeat less of a prompt, but where their
lengths differ much the rows hold more padding. Attention costs the square of a row's length, so none is larger."""


def longest_shareable(model: nn.Module) -> int:
    """Longest side in tokens for which shared prefixes are exact for this model; 0 if they never are.

    They need an attention that takes a mask (eager, sdpa, flex_attention), positions given by the caller, and layers
    that see the whole sequence: a sliding window must be longer than it, recurrent layers rule it out.
    """
    base = plain_model(model)
    config = base.config.get_text_config()
    if config._attn_implementation not in ("eager", "sdpa", "flex_attention") or not _takes_positions(base):
        return 0
    layers = _kinds_of_layers(config)
    slides = not layers or "sliding_attention" in layers
    return (getattr(config, "sliding_window", None) if slides else None) or sys.maxsize


def packs_exactly(model: nn.Module) -> bool:
    """Whether rows laid one behind the other in a sequence, with positions that restart, do not see one another.

    Found out once for a causal language model, by changing the first of two packed rows: the architecture must take
    positions, have neither recurrent layers nor ALiBi, and derive its mask from the positions (transformers' GPT-OSS
    does not).
    """
    base = plain_model(model)
    if base not in _PACKS:
        _PACKS[base] = _takes_positions(base) and _keeps_rows_apart(model)
    return _PACKS[base]


_PACKS: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


@torch.no_grad()
def _keeps_rows_apart(model: nn.Module) -> bool:
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    ids = torch.tensor([[0, 1, 2, 3], [1, 0, 2, 3]], device=device)
    positions = torch.tensor([[0, 1, 0, 1]], device=device).expand(2, 4)
    first, second = model(input_ids=ids, position_ids=positions, use_cache=False).logits[:, 2:].float()
    model.train(training)
    return torch.allclose(first, second, rtol=0, atol=1e-4 * float(first.abs().max()))


def _takes_positions(base: Any) -> bool:
    config = base.config.get_text_config()
    return (
        "position_ids" in inspect.signature(base.forward).parameters
        and _kinds_of_layers(config) <= {"full_attention", "sliding_attention"}
        and not getattr(config, "alibi", False)
    )


def _kinds_of_layers(config: Any) -> set[str]:
    return set(getattr(config, "layer_types", None) or getattr(config, "layers_block_type", None) or ())


def share_prefixes(batch: dict[str, Any]) -> dict[str, Any]:
    """Lay out a batch of sides as trees, or return it as it is where that saves less than `MIN_SAVING`.

    Args:
        batch: `input_ids`, `labels` (S, T), `lengths` and `prompts` (S,), on the CPU; sides of one prompt begin alike.

    Returns:
        The batch with `input_ids`, `is_token`, `position_ids` and `until` (R, W) in place of the plain rows (see
        `attention_inputs`), and where to read its sides: `sources`, `targets`, `sides` (N,), `ends` (S,), as
        `supervised_tokens` and `last_tokens` describe.
    """
    ids, labels, lengths = batch["input_ids"], batch["labels"], batch["lengths"]
    trees, starts, num_rows, width = _smallest_layout(ids.numpy(), lengths.tolist(), batch["prompts"].tolist())
    if num_rows * width > (1 - MIN_SAVING) * ids.numel():
        return batch
    places = torch.zeros_like(ids)
    until = torch.arange(1, width + 1).repeat(num_rows)  # padding sees itself alone
    for tree, start in zip(trees, starts, strict=True):
        until[start : start + tree.size] = torch.from_numpy(tree.until + start % width)
        for side, path in tree.paths.items():
            places[side, : len(path)] = torch.from_numpy(path + start)
    columns = torch.arange(ids.shape[1])
    valid = columns < lengths[:, None]

    def scatter(values: Tensor) -> Tensor:
        out = torch.zeros(num_rows * width, dtype=torch.long)
        out[places[valid]] = values.expand_as(places)[valid]
        return out.view(num_rows, width)

    sides, before = (labels[:, 1:] != IGNORED).nonzero(as_tuple=True)
    return {
        **{key: value for key, value in batch.items() if key != "labels"},
        "input_ids": scatter(ids),
        "is_token": scatter(torch.ones_like(columns)).bool(),
        "position_ids": scatter(columns),
        "until": until.view(num_rows, width),
        "sources": places[sides, before],
        "targets": labels[sides, before + 1],
        "sides": sides,
        "ends": places[torch.arange(len(ids)), lengths - 1],
    }


class _Tree:
    """Sides added in lexicographic order, so that a depth-first walk writes each new token behind the last."""

    def __init__(self) -> None:
        self.size = 0
        self.paths: dict[int, np.ndarray] = {}
        """Side -> index of each of its tokens."""
        self._last = (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
        self._closed: list[tuple[np.ndarray, int]] = []

    def num_new(self, ids: np.ndarray) -> int:
        """Tokens that the side (L,) would add."""
        return len(ids) - _num_alike(self._last[0], ids)

    def add(self, side: int, ids: np.ndarray) -> None:
        last_ids, last = self._last
        alike = _num_alike(last_ids, ids)
        # What the last side has of its own is complete: no later side branches off there.
        self._closed.append((last[alike:], self.size))
        path = np.concatenate([last[:alike], np.arange(self.size, self.size + len(ids) - alike)])
        self.size += len(ids) - alike
        self.paths[side], self._last = path, (ids, path)

    @property
    def until(self) -> np.ndarray:
        """Index behind the last token below each token (`size`,)."""
        out = np.full(self.size, self.size)
        for places, end in self._closed:
            out[places] = end
        return out


def _smallest_layout(
    ids: np.ndarray, lengths: list[int], prompts: list[int]
) -> tuple[list[_Tree], list[int], int, int]:
    """Trees of the sides (S, T), where they start, and the number and the width of the rows they are laid in."""
    found = []
    # Big-endian bytes sort as the numbers do.
    order = sorted(range(len(ids)), key=lambda s: (prompts[s], ids[s, : lengths[s]].astype(">i8").tobytes()))
    for times in WIDTHS:
        trees = _trees([(side, ids[side, : lengths[side]], prompts[side]) for side in order], times * max(lengths))
        starts, num_rows = _first_fit([tree.size for tree in trees])
        found.append((trees, starts, num_rows, max(tree.size for tree in trees)))
    return min(found, key=lambda layout: layout[2] * layout[3])


def _trees(sides: Iterable[tuple[int, np.ndarray, int]], limit: int) -> list[_Tree]:
    """Trees of at most `limit` tokens, each of sides (number, tokens, prompt) of one prompt, which come in order."""
    trees: list[_Tree] = []
    last = None
    for side, tokens, prompt in sides:
        if prompt != last or trees[-1].size + trees[-1].num_new(tokens) > limit:
            trees.append(_Tree())
        trees[-1].add(side, tokens)
        last = prompt
    return trees


def _num_alike(a: np.ndarray, b: np.ndarray) -> int:
    """Length of the common beginning."""
    size = min(len(a), len(b))
    different = np.flatnonzero(a[:size] != b[:size])
    return int(different[0]) if len(different) else size


def _first_fit(lengths: list[int]) -> tuple[list[int], int]:
    """Start of each sequence in rows as wide as the longest, counted through all rows, and the number of rows."""
    width = max(lengths)
    used: list[int] = []
    starts = [0] * len(lengths)
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        row = next((r for r, u in enumerate(used) if u + lengths[i] <= width), len(used))
        if row == len(used):
            used.append(0)
        starts[i] = row * width + used[row]
        used[row] += lengths[i]
    return starts, len(used)


def supervised_tokens(batch: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Sources (N,), the flat positions whose logits predict; targets (N,); and the side, in S, of each."""
    if "until" in batch:
        return batch["sources"], batch["targets"], batch["sides"]
    return supervised_positions(batch["labels"])


def last_tokens(batch: dict[str, Any]) -> Tensor:
    """Flat position of each side's last token (S,)."""
    if "until" in batch:
        return batch["ends"]
    rows, width = batch["input_ids"].shape
    return torch.arange(rows, device=batch["lengths"].device) * width + batch["lengths"] - 1


def attention_inputs(batch: dict[str, Any], model: nn.Module) -> dict[str, Any]:
    """Arguments of the model's forward that keep packed rows, or the branches of shared prefixes, apart.

    None for a plain batch. `until` is the column behind the last token below each token: a token is seen from there on
    back to itself.

    Raises:
        InputError: rows are packed, and the architecture cannot keep them apart.
    """
    if "position_ids" not in batch:
        return {}
    if "until" not in batch:
        if not packs_exactly(model):
            name = type(plain_model(model)).__name__
            raise InputError(
                f"{name} cannot keep packed rows apart (ALiBi, or layers with a state); set packing: false."
            )
        return {"position_ids": batch["position_ids"]}
    until = batch["until"]
    config = plain_model(model).config.get_text_config()
    mask: Any
    if config._attn_implementation == "flex_attention":
        mask = _block_mask(until)
    else:
        mask = _visible(until).unsqueeze(1)
        if config._attn_implementation == "eager":
            dtype = plain_model(model).dtype
            mask = torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, torch.finfo(dtype).min)
    return {"position_ids": batch["position_ids"], "attention_mask": mask}


def _visible(until: Tensor) -> Tensor:
    """(R, W, W): may the token of the second axis attend to that of the third?"""
    columns = torch.arange(until.shape[1], device=until.device)
    return (columns[:, None] >= columns) & (columns[:, None] < until[:, None, :])


def _block_mask(until: Tensor) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    def visible(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query >= key) & (query < until[row, key])

    rows, width = until.shape
    return create_block_mask(visible, rows, None, width, width, device=until.device.type)
