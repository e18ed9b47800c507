"""New tokens for markers that a policy writes often, such as the ends of steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from harness.errors import InputError


def add_tokens(model: Any, tokenizer: Any, tokens: Sequence[str]) -> list[int]:
    """Make each text one token, and give it the mean of all rows before it in the embeddings and the output matrix.

    They are plain tokens, not special ones, so that engines show them in the text they sample. Rows that a model keeps
    in reserve behind its vocabulary are used before the matrices grow. Tokens that the tokenizer has and the
    model has no rows for get rows too.

    Args:
        model: causal language model; changed in place.
        tokenizer: its tokenizer; changed in place.
        tokens: texts; as they stand, blanks and newlines included.

    Returns:
        the ids of the tokens that got rows.

    Raises:
        InputError: no tokens, an empty or a repeated one, or one that tokenizer and model have already.
    """
    from transformers import AddedToken

    vocabulary, rows = tokenizer.get_vocab(), model.get_input_embeddings().num_embeddings
    without = [token for token, number in vocabulary.items() if number >= rows]
    for index, token in enumerate(tokens):
        if not token or token in vocabulary or token in tokens[:index]:
            reason = (
                "is empty" if not token else "is in the vocabulary" if token in vocabulary else "stands there twice"
            )
            raise InputError(f"tokens: {token!r} {reason}; leave it out.")
    if not tokens and not without:
        raise InputError("tokens: give at least one.")
    before = min(len(tokenizer), rows)
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=False) for token in tokens])
    if len(tokenizer) > rows:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    matrices = {id(m.weight): m.weight for m in (model.get_input_embeddings(), model.get_output_embeddings())}
    with torch.no_grad():
        for weight in matrices.values():
            weight[before : len(tokenizer)] = weight[:before].float().mean(0).to(weight.dtype)
    return sorted(tokenizer.convert_tokens_to_ids(token) for token in [*without, *tokens])
