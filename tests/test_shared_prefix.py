"""Shared prefixes: the same logits and gradients as two plain sequences, from fewer tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.datamodules.preference import Pair, collate_pairs
from harness.losses import sum_by_row, token_logps
from harness.models import load_causal_lm, load_reward_model, logits_at, rewards_at
from harness.shared_prefix import (
    attention_inputs,
    last_tokens,
    longest_shareable,
    share_prefixes,
    supervised_tokens,
)

PAIRS = [  # prompt, chosen, rejected
    ([3, 4, 5, 6, 7, 8, 9], [10, 11, 12, 1], [10, 13, 1]),
    ([3, 4, 5, 6], [20, 21, 1], [22, 1]),
    ([30, 31, 32, 33, 34, 35, 36, 37, 38], [40, 41], [40, 41, 42, 43]),  # one side begins the other
    ([5], [6, 1], [7, 1]),
    ([9, 8, 7, 6, 5, 4, 3, 2, 3, 4, 5, 6], [7], [8]),
]


def batch_of(pairs):
    rows = [Pair(np.array(p + c, dtype=np.int32), np.array(p + r, dtype=np.int32), len(p), 1.0) for p, c, r in pairs]
    return collate_pairs(rows, rows[0], pad_token_id=1)


def side_logps(model, batch):
    sources, targets, sides = supervised_tokens(batch)
    logits = logits_at(model, batch["input_ids"], sources, **attention_inputs(batch, model))
    return sum_by_row(token_logps(logits, targets), sides, len(batch["lengths"]))


def side_rewards(model, batch):
    return rewards_at(model, batch["input_ids"], last_tokens(batch), **attention_inputs(batch, model))


def dpo(model, batch):
    chosen, rejected = side_logps(model, batch).chunk(2)
    return -F.logsigmoid(0.1 * (chosen - rejected)).mean()


def bradley_terry(model, batch):
    chosen, rejected = side_rewards(model, batch).chunk(2)
    return -F.logsigmoid(chosen - rejected).mean()


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(
    ("load", "values", "loss"),
    [(load_causal_lm, side_logps, dpo), (load_reward_model, side_rewards, bradley_terry)],
    ids=["dpo", "reward"],
)
def test_values_and_gradients_equal_those_of_plain_sequences(tiny_model_dir, attention, load, values, loss):
    model = load(tiny_model_dir, attn_implementation=attention)
    plain = batch_of(PAIRS)
    shared = share_prefixes(plain)
    assert shared["input_ids"].numel() < 0.7 * plain["input_ids"].numel()
    gradients = []
    for batch in (plain, shared):
        model.zero_grad()
        loss(model, batch).backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters()})
    with torch.no_grad():
        torch.testing.assert_close(values(model, shared), values(model, plain), atol=1e-5, rtol=1e-6)
    for name, expected in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], expected, atol=1e-6, rtol=1e-5)


@given(
    st.lists(
        st.tuples(*(st.lists(st.integers(2, 5), min_size=1, max_size=n) for n in (14, 6, 6))), min_size=1, max_size=6
    )
)
@settings(max_examples=15, deadline=None)
def test_any_pairs_keep_their_log_probabilities(tiny_model_dir, pairs):
    model = _model(tiny_model_dir)
    plain = batch_of(pairs)
    with torch.no_grad():
        torch.testing.assert_close(
            side_logps(model, share_prefixes(plain)), side_logps(model, plain), atol=1e-5, rtol=1e-5
        )


_MODELS: dict = {}


def _model(folder):
    return _MODELS.setdefault(folder, load_causal_lm(folder))


def test_changing_one_pair_leaves_its_neighbours_in_the_row_alone(tiny_model_dir):
    model = _model(tiny_model_dir)
    shared = share_prefixes(batch_of(PAIRS))
    rows = shared["segments"].div(3, rounding_mode="floor")
    crowded = next(row for row in rows if len(row[row > 0].unique()) > 1)
    changed = {**shared, "input_ids": shared["input_ids"].clone()}
    pair = int(crowded[crowded > 0][0])
    changed["input_ids"][rows == pair] = 60
    with torch.no_grad():
        before, after = side_logps(model, shared), side_logps(model, changed)
    moved = (before - after).abs() > 1e-6
    assert moved.nonzero().flatten().tolist() == [pair - 1, pair - 1 + len(PAIRS)]


def test_pairs_that_share_little_stay_plain():
    plain = batch_of([([5], [6] * 9 + [1], [7] * 9 + [1])])
    assert share_prefixes(plain) is plain


def test_models_that_cannot_share_are_known(tiny_model_dir):
    from transformers import BloomConfig, BloomForCausalLM, MistralConfig, MistralForCausalLM

    assert longest_shareable(_model(tiny_model_dir)) > 10**9
    size = {"hidden_size": 8, "num_attention_heads": 2, "vocab_size": 10}
    mistral = MistralConfig(**size, num_hidden_layers=1, num_key_value_heads=2, intermediate_size=8, sliding_window=64)
    assert longest_shareable(MistralForCausalLM(mistral)) == 64
    assert longest_shareable(BloomForCausalLM(BloomConfig(**size, n_layer=1))) == 0
