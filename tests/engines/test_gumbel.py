"""Sampling against the processors of transformers and against the probabilities it should have."""

from __future__ import annotations

import pytest
import torch
from transformers import MinPLogitsWarper, RepetitionPenaltyLogitsProcessor, TopKLogitsWarper, TopPLogitsWarper

from harness.engines.gumbel import choose_tokens, penalize, truncate
from harness.types import SamplingConfig


@pytest.mark.parametrize(("k", "p"), [(0, 1.0), (5, 1.0), (0, 0.7), (5, 0.7), (1, 1.0), (500, 0.3), (0, 1e-6)])
def test_truncation_equals_that_of_transformers(k: int, p: float):
    logits = torch.randn(40, 100, generator=torch.Generator().manual_seed(0)) * 3
    expected = TopKLogitsWarper(k)(None, logits) if k else logits
    expected = TopPLogitsWarper(p)(None, expected) if p < 1 else expected
    assert torch.equal(truncate(logits, [k] * 40, [p] * 40), expected)


def test_each_row_is_truncated_by_its_own_settings():
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    together = truncate(logits, [0, 4, 0], [1.0, 1.0, 0.5])
    apart = [truncate(logits[i : i + 1], [k], [p]) for i, (k, p) in enumerate([(0, 1.0), (4, 1.0), (0, 0.5)])]
    assert torch.equal(together, torch.cat(apart))


def test_a_row_draws_the_same_in_any_company_and_greedy_rows_draw_nothing():
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    settings = [SamplingConfig(), SamplingConfig(temperature=0.0), SamplingConfig(temperature=0.7)]

    def generator() -> torch.Generator:
        return torch.Generator().manual_seed(5)

    crowd = choose_tokens(logits, settings, [generator(), None, generator()])
    alone = choose_tokens(logits[2:], settings[2:], [generator()])
    assert crowd[2] == alone[0]
    assert crowd[1] == logits[1].argmax()


def test_samples_have_the_probabilities_of_the_softmax():
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0]])
    generator = torch.Generator().manual_seed(0)
    draws = torch.cat([choose_tokens(logits, [SamplingConfig(temperature=2.0)], [generator]) for _ in range(8000)])
    shares = draws.bincount(minlength=4) / 8000
    # Standard deviation of a share is at most sqrt(0.25 / 8000) = 0.0056.
    assert shares.tolist() == pytest.approx((logits[0] / 2).softmax(-1).tolist(), abs=0.025)


@pytest.mark.parametrize("share", [0.05, 0.5, 1.0])
def test_min_p_leaves_the_tokens_that_transformers_leaves(share: float):
    logits = torch.randn(30, 60, generator=torch.Generator().manual_seed(1)) * 2
    expected = MinPLogitsWarper(share)(None, logits / 1.5)
    allowed = expected > -torch.inf
    setting = SamplingConfig(temperature=1.5, min_p=share)
    seen = torch.zeros_like(allowed)
    for seed in range(50):
        chosen = choose_tokens(logits, [setting] * 30, generators_of(seed))
        seen[torch.arange(30), chosen] = True
        plain = SamplingConfig(temperature=1.5)
        assert torch.equal(chosen, choose_tokens(expected * 1.5, [plain] * 30, generators_of(seed)))
    assert not (seen & ~allowed).any()


def generators_of(seed: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(1000 * seed + row) for row in range(30)]


def test_the_repetition_penalty_is_that_of_transformers_and_each_row_has_its_own():
    logits = torch.randn(3, 40, generator=torch.Generator().manual_seed(2))
    seen = [[1, 2, 2, 7], [3], [39, 0]]
    penalized = penalize(logits, seen, [1.3, 1.0, 0.8])
    for row, penalty in enumerate((1.3, 1.0, 0.8)):
        expected = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([seen[row]]), logits[row : row + 1].clone())
        assert torch.equal(penalized[row : row + 1], expected)
