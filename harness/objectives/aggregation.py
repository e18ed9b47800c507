"""From losses per token to one number: the weight of each token, and the denominator of the optimizer step.

A loss is sum_i w_i sum_t l_it / sum_i d_i over the rows i of the whole optimizer step, on all devices: w_i is the
weight of each token of row i and d_i what the row adds to the denominator. Both are known before the batches are, so
gradient accumulation and data parallelism change nothing.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

AggregationName = Literal["token", "sequence", "sequence_sum", "constant", "problem"]
"""What is averaged: all tokens alike, the means of the rows, the sums of the rows, all tokens over a constant length
per row (Dr. GRPO), or the token means of the problems."""


def aggregation_weights(
    name: AggregationName, lengths: np.ndarray, problems: np.ndarray, constant_length: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Token weight and denominator of each of B rows.

    Args:
        lengths: (B,) sampled tokens, at least 1.
        problems: (B,) int from 0, which problem a row belongs to.
        constant_length: of "constant", the longest response that may be sampled.

    Returns:
        w (B,) and d (B,), float64.
    """
    lengths = np.asarray(lengths, dtype=float)
    ones = np.ones_like(lengths)
    match name:
        case "token":
            return ones, lengths
        case "sequence":
            return 1 / lengths, ones
        case "sequence_sum":
            return ones, ones
        case "constant":
            return ones, constant_length * ones
        case "problem":
            totals = np.bincount(problems, weights=lengths)[problems]
            return 1 / totals, lengths / totals
