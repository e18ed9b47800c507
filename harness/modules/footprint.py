"""What a training step takes of memory, found by running it on tensors that have shapes and no content.

Torch's fake tensors go through the model's own forward and backward pass, whatever the architecture, and the bytes that
are alive are counted; nothing is read of the weights, and nothing is computed.
"""

from __future__ import annotations

import contextlib
import copy
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from harness.errors import InputError
from harness.models.reward_head import likelihood_rewards
from harness.models.token_stats import take_as_known, token_stats
from harness.models.weights import load_causal_lm, load_reward_model, rewards_at, transformer_blocks
from harness.modules.base import TrainingModule
from harness.modules.optimizer import moment_bytes
from harness.modules.pairs import PairModule
from harness.modules.policy_gradient import PolicyGradientModule
from harness.modules.reward import RewardModule


@dataclass(frozen=True)
class Footprint:
    """Bytes that training takes on a device that holds the whole model."""

    num_parameters: int
    weights: int
    gradients: int
    """Of the trained weights."""
    moments: int
    frozen: int
    """Of a second model that is kept beside the trained one, such as a frozen reference."""
    activations: int
    """Most at once of everything else, in the forward and backward pass of a micro-batch."""
    step: int
    """Most at once of gradients and everything else, where gradients are made anew in each micro-batch."""
    block: int
    """Weights of the largest transformer block."""
    rest: int
    """Weights outside of all blocks."""

    @property
    def resting(self) -> int:
        """What stays between two steps, once gradients are given back."""
        return self.weights + self.moments + self.frozen


def footprint(module: TrainingModule, batch_size: int, length: int, precision: str = "32-true") -> Footprint:
    """Run a training step of a module without its weights.

    Args:
        module: is left as it is; its checkpoint's configuration is read, and of the weights nothing.
        batch_size: of a micro-batch on one device, as the datamodule counts: sequences, or pairs.
        length: tokens of every sequence; nothing is saved by prefixes that rows share.
        precision: the Trainer's.

    Raises:
        InputError: the model cannot be built, or its forward pass needs values that only real tensors have.
    """
    skeleton: Any = copy.copy(module)
    skeleton.__dict__.update(_modules={}, _parameters={}, _buffers={}, model=None, compile_blocks=False)
    if hasattr(module, "_reference_model"):
        skeleton._reference_model = []
    if precision in ("bf16-true", "16-true"):
        skeleton.dtype_name = "bfloat16"
    with FakeTensorMode(allow_non_fake_inputs=True), _Live() as live, _without_values():
        skeleton.configure_model()
        model: nn.Module = skeleton.model
        weights = list(model.parameters())
        trained = [weight for weight in weights if weight.requires_grad]
        size = sum(map(_bytes, weights))
        live.start(trained)
        mixed = precision in ("bf16-mixed", "16-mixed")
        with torch.autocast("cpu", dtype=torch.bfloat16) if mixed else contextlib.nullcontext():
            loss = _loss(skeleton, batch_size * (2 if isinstance(module, PairModule) else 1), length)
        loss.backward()
        del loss
        blocks = [sum(map(_bytes, block.parameters())) for block in transformer_blocks(model)]
        gradients = sum(map(_bytes, trained))
        return Footprint(
            num_parameters=sum(weight.numel() for weight in weights),
            weights=size,
            gradients=gradients,
            moments=sum(moment_bytes(module.optimizer_config.name, weight) for weight in trained),
            frozen=sum(_bytes(weight) for other in _others(skeleton) for weight in other.parameters()),
            activations=live.most_beside,
            step=live.most,
            block=max(blocks, default=0),
            rest=size - sum(blocks),
        )


def count_parameters(checkpoint: str | Path, scores: bool = False) -> int:
    """Of the model that a checkpoint's configuration describes.

    Args:
        scores: a reward model, not a language model.
    """
    with FakeTensorMode():
        model: nn.Module = (load_reward_model if scores else load_causal_lm)(checkpoint)
    return sum(weight.numel() for weight in model.parameters())


@contextlib.contextmanager
def _without_values() -> Iterator[None]:
    """Have libraries do with fake tensors what they do with real ones of the same sizes."""
    with (
        # Asks whether rows are packed, and takes unknown positions for packed ones, whose mask needs more memory.
        patch("transformers.masking_utils.find_packed_sequence_indices", lambda *_, **__: None),
        # How modules are moved to where they are already, as adapters are; fake tensors cannot be swapped.
        patch("torch.utils.swap_tensors", lambda *_: None),
    ):
        yield


def _loss(module: Any, rows: int, length: int) -> Tensor:
    """A sum over what the module's loss is computed from: log-probabilities of all tokens, or rewards."""
    model, ids = module.model, torch.zeros(rows, length, dtype=torch.long)
    positions, ends = torch.arange(rows * length), torch.zeros(rows, dtype=torch.long)
    targets = torch.zeros_like(positions)
    take_as_known(model)
    try:
        if isinstance(module, RewardModule):
            if module.likelihood == "none":
                return rewards_at(model, ids, ends).sum()
            return likelihood_rewards(model, ids, (positions, targets, targets), ends).sum()
        entropy = isinstance(module, PairModule | PolicyGradientModule)
        return token_stats(model, ids, positions, targets, entropy=entropy, top=not entropy).logps.sum()
    except (RuntimeError, NotImplementedError, TypeError) as error:
        raise InputError(
            f"{module.checkpoint}: {type(model).__name__} cannot be run without weights "
            f"({type(error).__name__}), so its activations are not known; measure a step instead."
        ) from error


def _others(module: Any) -> list[nn.Module]:
    return list(getattr(module, "_reference_model", ()))


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


class _Live(TorchDispatchMode):
    """Counts the bytes of the tensors that are alive."""

    def __init__(self) -> None:
        super().__init__()
        self.most = self.most_beside = 0
        """Since `start`, most bytes at once, beyond those alive then; the second without gradients."""
        self._alive = self._base = self._gradients = 0
        self._seen: dict[int, weakref.ref[Any]] = {}

    def start(self, trained: list[nn.Parameter]) -> None:
        self._base, self.most, self.most_beside = self._alive, 0, 0
        for weight in trained:
            weight.register_post_accumulate_grad_hook(self._note_gradient)

    def _note_gradient(self, weight: Tensor) -> None:
        self._gradients += _bytes(weight)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor):
                self.add(tensor)
        return output

    def add(self, tensor: Tensor) -> None:
        storage: Any = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen:
            return

        def gone(_: Any) -> None:
            self._alive -= size
            del self._seen[key]

        self._seen[key] = weakref.ref(storage, gone)
        self._alive += size
        self.most = max(self.most, self._alive - self._base)
        self.most_beside = max(self.most_beside, self._alive - self._base - self._gradients)
