"""A preference loss: the odds-ratio term of ORPO (arXiv:2403.07691, eq. 7), which needs no reference.

    harness fit --config configs/recipes/self_explore/arithmetic/50_dpo_outcome.yaml \
        --model.losses '{nll: 1.0, examples.loss.odds_ratio: 0.1}'
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.models.losses import PairLogps, PreferenceLossConfig


def odds_ratio(pairs: PairLogps, config: PreferenceLossConfig) -> Tensor:
    """-log sigmoid of log odds(chosen) - log odds(rejected), with p the geometric mean of a response's tokens; (B,)."""

    def log_odds(logp: Tensor, num_tokens: Tensor) -> Tensor:
        mean = logp / num_tokens
        return mean - torch.log1p(-mean.exp().clamp(max=1 - 1e-6))

    chosen = log_odds(pairs.chosen, pairs.num_chosen)
    return -F.logsigmoid(chosen - log_odds(pairs.rejected, pairs.num_rejected))


odds_ratio.needs_reference = False  # type: ignore[attr-defined]
