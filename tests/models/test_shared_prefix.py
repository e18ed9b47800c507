"""Shared prefixes: the same logits and gradients as two plain sequences, from fewer tokens."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.datamodules.pairs import Pair, collate_pairs
from harness.models.losses import sum_by_row, token_logps
from harness.models.shared_prefix import (
    WIDTHS,
    attention_inputs,
    last_tokens,
    longest_shareable,
    share_prefixes,
    supervised_tokens,
)
from harness.models.weights import load_causal_lm, load_reward_model, logits_at, rewards_at

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
    chosen, rejected = side_logps(model, batch)[batch["pairs"]]
    return -F.logsigmoid(0.1 * (chosen - rejected)).mean()


def bradley_terry(model, batch):
    chosen, rejected = side_rewards(model, batch)[batch["pairs"]]
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


def test_changing_one_tree_leaves_its_neighbours_in_the_row_alone(tiny_model_dir):
    model = _model(tiny_model_dir)
    shared = share_prefixes(batch_of(PAIRS))
    ends = shared["ends"].view(2, -1)
    rows = (ends[0] // shared["until"].shape[1]).tolist()
    first, *_ = (p for p, row in enumerate(rows) if rows.count(row) > 1)
    root = int(shared["sources"][shared["sides"] == first][0]) - len(PAIRS[first][0]) + 1
    changed = {**shared, "input_ids": shared["input_ids"].clone()}
    changed["input_ids"].view(-1)[root : int(ends[:, first].max()) + 1] = 60
    with torch.no_grad():
        before, after = side_logps(model, shared), side_logps(model, changed)
    moved = (before - after).abs() > 1e-6
    assert moved.nonzero().flatten().tolist() == [first, first + len(PAIRS)]


def test_a_tree_is_written_depth_first_and_seen_from_below_only():
    """Prompt 5 6; responses 7 8, 7 9 and 4, paired as (7 8, 4), (7 9, 4)."""
    batch = batch_of([([5, 6], [7, 8], [4]), ([5, 6], [7, 9], [4])])
    assert batch["pairs"].tolist() == [[0, 1], [2, 2]]
    shared = share_prefixes(batch)
    assert shared["input_ids"].tolist() == [[5, 6, 4, 7, 8, 9]]
    assert shared["position_ids"].tolist() == [[0, 1, 2, 2, 3, 3]]
    assert shared["until"].tolist() == [[6, 6, 3, 6, 5, 6]]
    assert shared["ends"].tolist() == [4, 5, 2]


def groups(num_prompts, right, wrong, prompt=24, response=6):
    """All pairs of `right` and `wrong` responses of each prompt; the responses of a kind begin alike too."""
    rng = random.Random(0)
    rows = []
    for _ in range(num_prompts):
        start = [rng.randrange(2, 80) for _ in range(prompt)]
        sides = [
            [[kind] + [rng.randrange(2, 80) for _ in range(rng.randrange(2, response))] for _ in range(number)]
            for kind, number in ((3, right), (4, wrong))
        ]
        rows += [(start, a, b) for a in sides[0] for b in sides[1]]
    return rows


def test_a_group_computes_each_response_once_and_its_prompt_once():
    batch = batch_of(groups(1, 4, 4))
    assert len(batch["lengths"]) == 8
    shared = share_prefixes(batch)
    responses = sum(length - 24 for length in batch["lengths"].tolist())
    # Both kinds begin with a token of their own, which is computed once too.
    assert shared["input_ids"].shape == (1, 24 + responses - 6)


def test_a_tree_that_grows_too_long_is_cut():
    batch = batch_of(groups(1, 20, 20))
    shared = share_prefixes(batch)
    longest = int(batch["lengths"].max())
    assert len(shared["input_ids"]) > 1
    assert shared["input_ids"].shape[1] <= max(WIDTHS) * longest


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("size", [(1, 4, 4), (3, 2, 3), (1, 12, 9)])
def test_groups_have_the_losses_and_gradients_of_their_pairs_one_by_one(tiny_model_dir, attention, size):
    pairs = groups(*size)
    for load, loss in ((load_causal_lm, dpo), (load_reward_model, bradley_terry)):
        model = load(tiny_model_dir, attn_implementation=attention)
        one_by_one = [loss(model, batch_of([pair])) for pair in pairs]
        torch.stack(one_by_one).mean().backward()
        expected = {name: p.grad.clone() for name, p in model.named_parameters()}
        model.zero_grad()
        batch = share_prefixes(batch_of(pairs))
        assert "until" in batch
        together = loss(model, batch)
        together.backward()
        assert together.item() == pytest.approx(sum(one_by_one).item() / len(pairs), abs=1e-6)
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(parameter.grad, expected[name], atol=1e-6, rtol=1e-5)


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
