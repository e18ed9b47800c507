"""Pairs laid out so that the tokens both sides begin with are computed once.

A pair becomes `prefix | rest of chosen | rest of rejected` in one sequence, position ids restart after the prefix, and
a block mask lets each rest see the prefix and itself. Several pairs may share a row. Logits equal those of the two
plain sequences up to rounding.
"""

from __future__ import annotations

import inspect
import sys
from typing import Any

import torch
from torch import Tensor, nn

from harness.losses import IGNORED, supervised_positions
from harness.models import plain_model

MIN_SAVING = 0.1
"""Share of token positions that must be saved; below it the plain form, whose attention needs no mask, is faster."""

_BRANCHES = 3  # prefix, chosen, rejected


def longest_shareable(model: nn.Module) -> int:
    """Longest side in tokens for which shared prefixes are exact for this model; 0 if they never are.

    They need an attention that takes a mask (eager, sdpa, flex_attention), positions given by the caller, and layers
    that see the whole sequence: a sliding window must be longer than it, recurrent layers rule it out.
    """
    base = plain_model(model)
    config = base.config.get_text_config()
    layers = set(getattr(config, "layer_types", None) or getattr(config, "layers_block_type", None) or ())
    fits = (
        config._attn_implementation in ("eager", "sdpa", "flex_attention")
        and "position_ids" in inspect.signature(base.forward).parameters
        and layers <= {"full_attention", "sliding_attention"}
        and not getattr(config, "alibi", False)
    )
    if not fits:
        return 0
    slides = not layers or "sliding_attention" in layers
    return (getattr(config, "sliding_window", None) if slides else None) or sys.maxsize


def share_prefixes(batch: dict[str, Any]) -> dict[str, Any]:
    """Lay out a batch of pairs with shared prefixes, or return it as it is where that saves less than `MIN_SAVING`.

    Args:
        batch: `input_ids`, `labels` (2B, T), the B chosen sides first, and `lengths` (2B,), on the CPU.

    Returns:
        The batch with `input_ids`, `position_ids`, `segments` (R, W) in place of the plain rows (see
        `attention_inputs`), and where to read its sides: `sources`, `targets`, `sides` (N,), `ends` (2B,), as
        `supervised_tokens` and `last_tokens` describe.
    """
    ids, labels, lengths = batch["input_ids"], batch["labels"], batch["lengths"]
    num_pairs, columns = len(ids) // 2, torch.arange(ids.shape[1])
    first, second = lengths.split(num_pairs)
    alike = (ids[:num_pairs] == ids[num_pairs:]) & (columns < torch.minimum(first, second)[:, None])
    prefix = alike.cumprod(1).sum(1)
    totals = first + second - prefix
    starts, num_rows = _first_fit(totals.tolist())
    width = int(totals.max())
    if num_rows * width > (1 - MIN_SAVING) * ids.numel():
        return batch
    # Where each token of the plain rows goes: chosen sides stay in one piece, the rest of a rejected one follows.
    later = columns >= torch.cat([prefix, prefix])[:, None]
    shift = torch.cat([torch.zeros_like(first), first - prefix])[:, None] * later
    at = torch.tensor(starts).repeat(2)[:, None] + columns + shift
    valid = columns < lengths[:, None]
    pairs = torch.arange(1, num_pairs + 1).repeat(2)[:, None]
    branch = torch.arange(1, _BRANCHES).repeat_interleave(num_pairs)[:, None] * later

    def scatter(values: Tensor) -> Tensor:
        out = torch.zeros(num_rows * width, dtype=torch.long)
        out[at[valid]] = values.expand_as(at)[valid]
        return out.view(num_rows, width)

    sides, before = (labels[:, 1:] != IGNORED).nonzero(as_tuple=True)
    return {
        **{key: value for key, value in batch.items() if key != "labels"},
        "input_ids": scatter(ids),
        "position_ids": scatter(columns),
        "segments": scatter(pairs * _BRANCHES + branch),
        "sources": at[sides, before],
        "targets": labels[sides, before + 1],
        "sides": sides,
        "ends": at[torch.arange(len(ids)), lengths - 1],
    }


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
    """Sources (N,), the flat positions whose logits predict; targets (N,); and the side, in 2B, of each."""
    if "segments" in batch:
        return batch["sources"], batch["targets"], batch["sides"]
    return supervised_positions(batch["labels"])


def last_tokens(batch: dict[str, Any]) -> Tensor:
    """Flat position of each side's last token (2B,)."""
    if "segments" in batch:
        return batch["ends"]
    rows, width = batch["input_ids"].shape
    return torch.arange(rows, device=batch["lengths"].device) * width + batch["lengths"] - 1


def attention_inputs(batch: dict[str, Any], model: nn.Module) -> dict[str, Any]:
    """Arguments of the model's forward that keep the segments of shared prefixes apart; none for a plain batch.

    Segment numbers are 3 x pair (from 1; 0 is padding) + branch (0 prefix, 1 chosen, 2 rejected).
    """
    if "segments" not in batch:
        return {}
    segments = batch["segments"]
    config = plain_model(model).config.get_text_config()
    mask: Any
    if config._attn_implementation == "flex_attention":
        mask = _block_mask(segments)
    else:
        mask = _visible(segments).unsqueeze(1)
        if config._attn_implementation == "eager":
            dtype = plain_model(model).dtype
            mask = torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, torch.finfo(dtype).min)
    return {"position_ids": batch["position_ids"], "attention_mask": mask}


def _visible(segments: Tensor) -> Tensor:
    """(R, W, W): may the token of the second axis attend to that of the third?"""
    query, key = segments[:, :, None], segments[:, None, :]
    same_pair = query // _BRANCHES == key // _BRANCHES
    causal = torch.ones(segments.shape[1], segments.shape[1], dtype=torch.bool, device=segments.device).tril()
    return causal & same_pair & ((key % _BRANCHES == 0) | (key == query))


def _block_mask(segments: Tensor) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    def visible(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        q, k = segments[row, query], segments[row, key]
        return (query >= key) & (q // _BRANCHES == k // _BRANCHES) & ((k % _BRANCHES == 0) | (k == q))

    rows, width = segments.shape
    return create_block_mask(visible, rows, None, width, width, device=segments.device.type)
