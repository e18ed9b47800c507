"""What a causal language model says of given tokens, without a tensor of all logits.

At a vocabulary of 152,000 the logits of 16,000 tokens take 9.3 GiB in float32, and a loss on all of them three to four
times that. Here the head is applied to tiles, some tokens times some words of the vocabulary: each is reduced to what
is asked for and forgotten, and computed again in the backward pass (online softmax, arXiv:1805.02867; the same for
losses: Cut Your Losses, arXiv:2411.09009). N tokens, V words, H the width of the hidden states.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from harness.models.losses import token_entropies, token_logps
from harness.models.weights import logits_at, plain_model

TILE_ELEMENTS = {"cpu": 1 << 22, "cuda": 1 << 25}
"""Logits in memory at once, by type of device. Fewer than that are computed as one tensor and kept for the backward
pass, as the second computation would save nothing."""

TILE_TOKENS = {"cpu": 512, "cuda": 4096}
"""Tokens of a tile, where there are as many: enough for the matrix products to run at full speed."""


@dataclass(frozen=True)
class TokenStats:
    """Of N tokens, each (N,) and float32 unless said otherwise."""

    logps: Tensor
    """Log-probability of each token in nats, with its gradient."""
    entropies: Tensor | None = None
    """Entropy in nats of the distribution that each token was predicted with, with its gradient."""
    top: Tensor | None = None
    """Id (int64) of the most likely token in each one's place, the first of several."""


@dataclass(frozen=True)
class LogitTransform:
    """What an architecture does to the output of its head: multiply, then cap softly."""

    factor: float = 1.0
    cap: float | None = None
    """Largest absolute value, approached as cap * tanh(logit / cap) does (Gemma 2, arXiv:2408.00118, section 2)."""

    @staticmethod
    def of(config: Any) -> LogitTransform:
        """As the configuration of a transformers model names it."""

        def given(name: str, default: Any) -> Any:
            value = getattr(config, name, None)
            return default if value is None else value

        # Cohere; Falcon-H1; Muse; Granite divides.
        factor = given("logit_scale", 1.0) * given("lm_head_multiplier", 1.0) * given("output_multiplier", 1.0)
        cap = given("final_logit_softcapping", given("logits_soft_cap", None))
        return LogitTransform(factor / given("logits_scaling", 1.0), cap)

    def __call__(self, logits: Tensor) -> Tensor:
        """In the logits' own dtype, as the models do it."""
        if self.factor != 1.0:
            logits = logits * self.factor
        return logits if self.cap is None else torch.tanh(logits / self.cap) * self.cap

    def backward(self, grad: Tensor, transformed: Tensor) -> Tensor:
        """Gradient of the head's output, from that of its transform (overwritten) and the transform itself."""
        if self.cap is not None:
            grad.mul_(1 - (transformed / self.cap).square_())
        return grad.mul_(self.factor) if self.factor != 1.0 else grad


def token_stats(
    model: nn.Module,
    input_ids: Tensor,
    positions: Tensor,
    targets: Tensor,
    *,
    entropy: bool = False,
    top: bool = False,
    temperature: float = 1.0,
    **inputs: Any,
) -> TokenStats:
    """Log-probabilities of tokens, and what else is asked for, in one forward pass of the model.

    Goes through the model's own `forward`, hence works under DDP, FSDP2 and PEFT and keeps logit scaling or capping.

    Args:
        model: causal language model.
        input_ids: (B, T).
        positions: (N,) indices into the B*T flattened tokens, whose logits predict the targets.
        targets: (N,) token ids.
        entropy: whether `TokenStats.entropies` is wanted.
        top: whether `TokenStats.top` is wanted.
        temperature: divides the logits, so that the log-probabilities are those of sampling at it.
        inputs: further arguments of the model's forward, such as `position_ids`.
    """
    base = plain_model(model)
    head, config = base.get_output_embeddings(), base.config.get_text_config()
    width = getattr(head, "out_features", config.vocab_size)
    if len(positions) * width <= _for_device(TILE_ELEMENTS, positions) or base in _UNKNOWN:
        logits = logits_at(model, input_ids, positions, **inputs)
        logits = logits.float() / temperature if temperature != 1.0 else logits
        return TokenStats(
            token_logps(logits, targets),
            token_entropies(logits) if entropy else None,
            logits.detach().argmax(-1) if top else None,
        )
    transform = LogitTransform.of(config)
    found: list[TokenStats] = []

    def measure(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        # Within the model's forward, where the weights of a sharded head are whole.
        hidden = args[0].flatten(0, 1).index_select(0, positions)
        found.append(_tiled(head, hidden, targets, transform, temperature, entropy, top))
        return (hidden[:1], *args[1:])

    def replace(_: nn.Module, args: Any, output: Any) -> Any:
        # The loss must come out of the forward pass of a sharded model, which begins its backward pass there.
        first.append(output.logits.detach())
        output.logits = found[0].logps
        return output

    first: list[Tensor] = []
    hooks = [head.register_forward_pre_hook(measure), model.register_forward_hook(replace, prepend=True)]
    try:
        logps = model(input_ids=input_ids, use_cache=False, **inputs).logits
    finally:
        for hook in hooks:
            hook.remove()
    if base not in _KNOWN:
        expected = token_logps(first[0].float() / temperature, targets[:1])
        if not torch.allclose(logps.detach()[:1], expected, atol=1e-2):
            _UNKNOWN.add(base)
            warnings.warn(
                f"{type(base).__name__} does to its logits what harness does not know, so all of them are kept in "
                "memory at once.",
                stacklevel=2,
            )
            return token_stats(
                model, input_ids, positions, targets, entropy=entropy, top=top, temperature=temperature, **inputs
            )
        _KNOWN.add(base)
    return TokenStats(logps, found[0].entropies, found[0].top)


_KNOWN: WeakSet[nn.Module] = WeakSet()
"""Models whose transform of logits has been compared with their own forward pass."""
_UNKNOWN: WeakSet[nn.Module] = WeakSet()


def take_as_known(model: nn.Module) -> None:
    """Leave out the comparison, for a model whose tensors hold no values."""
    _KNOWN.add(plain_model(model))


def _for_device(values: dict[str, int], tensor: Tensor) -> int:
    return values.get(tensor.device.type, values["cuda"])


def _tiled(
    head: Any,
    hidden: Tensor,
    targets: Tensor,
    transform: LogitTransform,
    temperature: float,
    entropy: bool,
    top: bool,
) -> TokenStats:
    """Statistics of tokens (N,) from the hidden states (N, H) before the head."""
    if type(head) is nn.Linear:
        logps, entropies, best = _TiledHead.apply(
            hidden, head.weight, head.bias, targets, transform, temperature, entropy
        )
        return TokenStats(logps, entropies if entropy else None, best if top else None)

    # A head with an adapter, say: tiles of whole rows.
    def row_stats(states: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        logits = transform(head.forward(states)).float() / temperature
        best = logits.detach().argmax(-1) if top else None
        return token_logps(logits, tokens), token_entropies(logits) if entropy else None, best

    rows = max(1, _for_device(TILE_ELEMENTS, hidden) // head.out_features)
    parts = [
        checkpoint(row_stats, states, tokens, use_reentrant=False)
        for states, tokens in zip(hidden.split(rows), targets.split(rows), strict=True)
    ]
    logps, entropies, best = zip(*parts, strict=True)
    return TokenStats(torch.cat(logps), torch.cat(entropies) if entropy else None, torch.cat(best) if top else None)


class _TiledHead(torch.autograd.Function):
    """(N, H) hidden states, (V, H) weight, (V,) bias or None, (N,) targets -> log-probabilities, entropies, top ids."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        transform: LogitTransform,
        temperature: float,
        entropy: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        kind = hidden.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
        head = _Head(hidden, weight, bias, transform, temperature, dtype)
        # Sums over the words seen so far, of exp(logit - highest) and of that times the logit.
        highest, total, moment, chosen = (hidden.new_zeros(len(hidden), dtype=torch.float32) for _ in range(4))
        highest.fill_(-torch.inf)
        best = torch.zeros_like(targets)
        with torch.autocast(kind, enabled=False):
            for words, tokens, logits in head.tiles():
                peak, where = logits.max(-1)
                best[tokens] = torch.where(peak > highest[tokens], where + words.start, best[tokens])
                inside, place = _places(targets[tokens], words)
                chosen[tokens] += logits.gather(1, place[:, None]).squeeze(1) * inside
                peak = torch.maximum(peak, highest[tokens])
                shrink = torch.exp(highest[tokens] - peak)
                highest[tokens] = peak
                powers = torch.sub(logits, peak[:, None], out=None if entropy else logits).exp_()
                total[tokens] = total[tokens] * shrink + powers.sum(-1)
                if entropy:
                    moment[tokens] = moment[tokens] * shrink + powers.mul_(logits).sum(-1)
        normaliser, mean_logit = highest + total.log(), moment / total
        ctx.save_for_backward(hidden, weight, bias, targets, normaliser, mean_logit)
        ctx.options = (transform, temperature, dtype, entropy)
        ctx.mark_non_differentiable(best)
        return chosen - normaliser, normaliser - mean_logit, best

    @staticmethod
    def backward(ctx: Any, grad_logps: Tensor, grad_entropies: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, normaliser, mean_logit = ctx.saved_tensors
        transform, temperature, dtype, entropy = ctx.options
        head = _Head(hidden, weight, bias, transform, temperature, dtype)
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        grad_hidden = torch.zeros_like(hidden, dtype=torch.float32) if wants_hidden else None
        grad_weight = torch.zeros_like(weight) if wants_weight else None
        grad_bias = torch.zeros_like(bias) if wants_bias else None
        for words, tokens, logits in head.tiles():
            part = grad_logps[tokens, None]
            inside, place = _places(targets[tokens], words)
            # d logp / d logit = [it is the target] - p, d entropy / d logit = -p (logit - its mean under p)
            grad = torch.exp(logits - normaliser[tokens, None]).neg_()
            if entropy:
                grad.mul_(part + grad_entropies[tokens, None] * (logits - mean_logit[tokens, None]))
            else:
                grad.mul_(part)
            grad.scatter_add_(1, place[:, None], part * inside[:, None])
            grad = transform.backward(grad.div_(temperature), logits.mul_(temperature)).to(dtype)
            if grad_hidden is not None:
                grad_hidden[tokens] += grad @ head.weight(words)
            if grad_weight is not None:
                grad_weight[words] += (grad.T @ head.hidden[tokens]).to(grad_weight.dtype)
            if grad_bias is not None:
                grad_bias[words] += grad.sum(0).to(grad_bias.dtype)
        grad_hidden = grad_hidden.to(hidden.dtype) if grad_hidden is not None else None
        return grad_hidden, grad_weight, grad_bias, None, None, None, None


def _places(targets: Tensor, words: slice) -> tuple[Tensor, Tensor]:
    """Which of the targets are among the words, and the place of each in them (any for the others)."""
    inside = (targets >= words.start) & (targets < words.stop)
    return inside, (targets - words.start).clamp(0, words.stop - words.start - 1)


class _Head:
    """A linear head that is applied tile by tile, in the dtype of the computation."""

    def __init__(
        self,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        transform: LogitTransform,
        temperature: float,
        dtype: torch.dtype,
    ) -> None:
        self.hidden = hidden.to(dtype)
        self._weight = weight
        self._bias = bias
        self._transform = transform
        self._temperature = temperature
        self._dtype = dtype

    def weight(self, words: slice) -> Tensor:
        return self._weight[words].to(self._dtype)

    def tiles(self) -> Iterator[tuple[slice, slice, Tensor]]:
        """Words, tokens and the float32 logits of the one for the other; the tokens of the same words in a row."""
        num_tokens, num_words = len(self.hidden), len(self._weight)
        height = min(num_tokens, _for_device(TILE_TOKENS, self.hidden))
        width = min(num_words, max(1, _for_device(TILE_ELEMENTS, self.hidden) // max(1, height)))
        for start in range(0, num_words, width):
            words = slice(start, min(num_words, start + width))
            weight = self.weight(words)
            bias = None if self._bias is None else self._bias[words].to(self._dtype)
            for first in range(0, num_tokens, height):
                tokens = slice(first, min(num_tokens, first + height))
                logits = self._transform(F.linear(self.hidden[tokens], weight, bias)).float()
                yield words, tokens, logits.div_(self._temperature) if self._temperature != 1.0 else logits
