"""One fixed batch: four responses of at most six tokens, whose losses in TRL and verl are known to ten digits."""

from __future__ import annotations

import numpy as np
import torch

from harness.objectives.aggregation import AggregationName, aggregation_weights
from harness.objectives.objective import Objective
from harness.objectives.penalties import kl_loss
from harness.objectives.surrogate import PolicyTokens, ratios, surrogate_loss

B, T = 4, 6
INDEX = torch.arange(B * T, dtype=torch.float64).reshape(B, T)
NEW = -0.1 - 0.9 * torch.remainder(INDEX * 0.37, 1.0)
OLD = NEW + 0.3 * torch.sin(1.7 * INDEX)
ENGINE = OLD + 0.05 * torch.cos(2.3 * INDEX)
REFERENCE = NEW + 0.2 * torch.cos(0.9 * INDEX)
LENGTHS = torch.tensor([4, 6, 5, 2])
MASK = torch.arange(T)[None, :] < LENGTHS[:, None]
REWARDS = torch.tensor([1.0, 0.0, 1.0, 0.0], dtype=torch.float64)
CENTRED = REWARDS - REWARDS.mean()
NORMED = CENTRED / (REWARDS.std() + 1e-4)


def loss_of(
    objective: Objective,
    policy: torch.Tensor = NEW,
    advantages: torch.Tensor = NORMED,
    old: torch.Tensor = OLD,
    engine: torch.Tensor = ENGINE,
    reference: torch.Tensor = REFERENCE,
    mask: torch.Tensor = MASK,
    problems: np.ndarray | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss, and its gradient (B, T) with respect to the log-probabilities of the policy, as the module makes them."""
    policy = policy.clone().requires_grad_(True)
    rows = mask.nonzero()[:, 0]
    tokens = PolicyTokens(policy[mask], advantages, rows, old[mask], engine[mask])
    values = surrogate_loss(tokens, objective)
    if objective.kl != "none":
        ratio = ratios(tokens, objective.ratio) if objective.ratio != "none" else None
        values = values + objective.kl_coefficient * kl_loss(tokens.policy, reference[mask], objective.kl, ratio)
    weights, denominators = weights_of(objective.aggregation, mask, objective.constant_length, problems)
    loss = (values * weights[rows]).sum() / denominators.sum()
    loss.backward()
    assert policy.grad is not None
    return loss.detach(), policy.grad


def weights_of(name: AggregationName, mask: torch.Tensor, constant: int, problems: np.ndarray | None = None):
    problems = np.zeros(len(mask), dtype=int) if problems is None else problems
    found = aggregation_weights(name, mask.sum(1).numpy(), problems, constant)
    return tuple(torch.from_numpy(np.asarray(values)) for values in found)
