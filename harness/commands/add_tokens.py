"""`harness add-tokens`: a checkpoint whose tokenizer has the markers of a prompt format as tokens of their own."""

from __future__ import annotations

from pathlib import Path

from harness.errors import InputError


def add_tokens(model: str, tokens: list[str], output: Path) -> None:
    """Write a checkpoint with further tokens; whatever opens checkpoints opens it, engines and trainers alike.

    A new token begins with the mean of all others in the embeddings and the output matrix. rStar-Math's released code
    trains its policies from such a model (arXiv:2501.04519). Tokens of the model's own that its
    embedding has no rows for get rows too, also with `--tokens '[]'`.

    Args:
        model: directory or hub id of a causal language model.
        tokens: texts that become tokens, such as `["<code>", "<end_of_step>"]`.
        output: directory to write; must not exist.
    """
    from harness.models import vocabulary
    from harness.models.checkpoints import load_tokenizer, resolve_checkpoint, stored_dtype
    from harness.models.weights import load_causal_lm, save_checkpoint

    if output.exists():
        raise InputError(f"{output} exists; give a directory that does not.")
    folder = resolve_checkpoint(model)
    tokenizer, policy = load_tokenizer(folder), load_causal_lm(folder, dtype=stored_dtype(folder))
    ids = vocabulary.add_tokens(policy, tokenizer, tokens)
    save_checkpoint(policy, tokenizer, output)
    print(f"{output}: rows for {len(ids)} tokens added, {min(ids)} to {max(ids)}")
