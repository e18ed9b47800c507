"""What the routers of a mixture of experts decide in a forward pass: how evenly, as a loss and in numbers.

L layers with routers, N tokens, E experts of a layer, K of them for each token.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harness.models.weights import plain_model


@dataclass(frozen=True)
class Routing:
    """What the router of one layer said of some tokens."""

    logits: Tensor
    """(N, E), with their gradient."""
    chosen: Tensor
    """(N, K), the experts that each token went to."""

    def of(self, tokens: Tensor) -> Routing:
        """Of some of the tokens, by a mask (N,)."""
        return Routing(self.logits[tokens], self.chosen[tokens])

    def loads(self) -> Tensor:
        """(E,), how often each expert was chosen."""
        return torch.bincount(self.chosen.flatten(), minlength=self.logits.shape[1])


class Routers:
    """The routers of a model, as transformers knows them (what it records as `router_logits`); none of a dense one.

    They are watched by hooks that stay, which a compiled layer has to meet before it is compiled.
    """

    def __init__(self, model: nn.Module) -> None:
        self._modules: list[nn.Module] = []
        self._top_k = 0
        self._caught: dict[int, Routing] | None = None
        base = plain_model(model)
        for module, index in _recorded(base):
            number = len(self._modules)
            self._modules.append(module)
            module.register_forward_hook(lambda _, __, output, n=number, i=index: self._catch(n, output, i))
        if self._modules:
            self._top_k = base.config.get_text_config().num_experts_per_tok

    def __len__(self) -> int:
        return len(self._modules)

    @property
    def balanced_by_bias(self) -> bool:
        """Whether they choose by a bias that evens the load out instead of a loss (arXiv:2408.15664)."""
        return any(hasattr(module, "e_score_correction_bias") for module in self._modules)

    @contextlib.contextmanager
    def watched(self) -> Iterator[dict[int, Routing]]:
        """What the routers say until the end of the context, by number of the router: the last pass with gradients."""
        caught: dict[int, Routing] = {}
        self._caught = caught
        try:
            yield caught
        finally:
            self._caught = None

    def _catch(self, number: int, output: Any, index: int) -> None:
        # A reference computed by the same weights has no gradients; what checkpointing computes again comes too late.
        if self._caught is None or not torch.is_grad_enabled():
            return
        parts = output if isinstance(output, tuple) else (output,)
        logits = parts[index].flatten(0, -2)
        named = [part for part in parts if not part.is_floating_point() and part.dim() > 1]
        chosen = named[0].flatten(0, -2) if named else logits.topk(self._top_k, dim=-1).indices
        self._caught[number] = Routing(logits, chosen)


def _recorded(base: Any) -> Iterator[tuple[nn.Module, int]]:
    """The modules whose output holds a router's logits, and at which place."""
    recorders: Any = (getattr(base, "_can_record_outputs", None) or {}).get("router_logits", [])
    for name, module in base.named_modules():
        for recorder in recorders if isinstance(recorders, list) else [recorders]:
            inside = recorder.layer_name is None or f".{recorder.layer_name.strip('.')}." in f".{name}."
            if isinstance(module, recorder.target_class) and inside:
                yield module, recorder.index


def balance_loss(routing: Routing) -> Tensor:
    """How unevenly a layer's tokens are spread over its experts: E times the sum over experts of the share of tokens
    that were sent to it times its mean probability (Switch Transformer, arXiv:2101.03961, equations 4 to 6).

    With K experts a token the shares sum to K, as in transformers' `load_balancing_loss_func`: K where all is even.
    """
    shares = routing.loads() / max(1, len(routing.chosen))
    probabilities = routing.logits.float().softmax(-1).sum(0) / max(1, len(routing.logits))
    return routing.logits.shape[1] * (shares * probabilities).sum()


def router_entropy(routing: Routing) -> Tensor:
    """Entropy in nats of the softmax of a router's logits, summed over the tokens."""
    logps = routing.logits.detach().float().log_softmax(-1)
    return -(logps.exp() * logps).sum()


def load_metrics(loads: Tensor) -> dict[str, float]:
    """How evenly experts are loaded, from how often each was chosen (L, E).

    Returns:
        `router_load_max`, `router_load_min`: the largest and the smallest share of an expert, of any layer, over the
        even share, 1 where all are equal; `router_load_cv`: the coefficient of variation of a layer's shares, mean
        over the layers, 0 where all are equal.
    """
    relative = loads.double() / loads.double().mean(1, keepdim=True).clamp(min=1e-12)
    return {
        "router_load_max": relative.max().item(),
        "router_load_min": relative.min().item(),
        "router_load_cv": relative.std(1, correction=0).mean().item(),
    }
