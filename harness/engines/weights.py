"""The weights of checkpoints, read without building the model, and their names and shapes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import EngineError

BUCKET = 1 << 29
"""Bytes of weights that are handed on together."""


def checkpoint_version(path: Path) -> str:
    """Fingerprint of the weights as stored, equal to that of the model loaded in the stored number format."""
    from harness.models.weights import fingerprint

    return fingerprint(stored_weights(path))


def stored_weights(path: Path) -> Iterator[tuple[str, Any]]:
    """All weights of a checkpoint in the model's own order, tied ones included, read one at a time."""
    import torch
    from safetensors import safe_open

    layout = WeightLayout.of_checkpoint(path)
    with contextlib.ExitStack() as stack:
        readers: dict[str, Callable[[str], Any]] = {}
        for file in sorted(path.glob("*.safetensors")):
            opened = stack.enter_context(safe_open(file, framework="pt"))
            readers |= dict.fromkeys(opened.keys(), opened.get_tensor)
        if not readers:
            for file in sorted(path.glob("pytorch_model*.bin")):
                tensors = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
                readers |= dict.fromkeys(tensors, tensors.__getitem__)
        known = layout.stored_names()
        # A checkpoint that others have written may use names that are older still.
        names = (
            known if all(stored in readers for stored in known.values()) else {name: name for name in sorted(readers)}
        )
        for name, stored in names.items():
            yield name, readers[stored](stored)


def in_buckets(weights: Iterable[tuple[str, Any]]) -> Iterator[dict[str, Any]]:
    """Weights on the CPU in buckets of about `BUCKET` bytes, one in memory at a time."""
    bucket: dict[str, Any] = {}
    size = 0
    for name, tensor in weights:
        bucket[name] = tensor.detach().to("cpu").contiguous()
        size += bucket[name].nbytes
        if size >= BUCKET:
            yield bucket
            bucket, size = {}, 0
    if bucket:
        yield bucket


@dataclass(frozen=True)
class WeightLayout:
    """Names and shapes of a model's weights, tied ones included."""

    model: Any
    """A transformers model, on any device (the meta device included)."""
    shapes: dict[str, tuple[int, ...]]
    tied: dict[str, str]
    """Names of weights that are another one under a second name, such as lm_head.weight."""

    @classmethod
    def of(cls, model: Any) -> WeightLayout:
        return cls(
            model,
            {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()},
            dict(getattr(model, "all_tied_weights_keys", None) or {}),
        )

    @classmethod
    def of_checkpoint(cls, path: Path) -> WeightLayout:
        """The layout of the model that transformers would build from the checkpoint; no weights are read."""
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        with torch.device("meta"):
            return cls.of(AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(path)))

    def stored_names(self) -> dict[str, str]:
        """Name of each weight in its stored form -> the name under which a checkpoint on disk holds it."""
        from harness.models.weights import stored_form

        state = self.model.state_dict()
        names = {name: name for name, _ in stored_form(self.model, state.items())}
        for tied, source in self.tied.items():
            [(name, _)] = stored_form(self.model, [(tied, state[tied])])
            [(names[name], _)] = stored_form(self.model, [(source, state[source])])
        return names

    def checked(self, weights: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
        """The weights one after the other, each checked by name and shape; those that are tied may be left out.

        Raises:
            EngineError: a name is unknown, given twice or missing, or a shape differs.
        """
        given: set[str] = set()
        for name, tensor in weights:
            if name not in self.shapes:
                raise EngineError(f"weight sync: the model has no parameter '{name}'.")
            if name in given:
                raise EngineError(f"weight sync: '{name}' was given twice.")
            if tuple(tensor.shape) != self.shapes[name]:
                raise EngineError(
                    f"weight sync: '{name}' has shape {tuple(tensor.shape)}, the model's is {self.shapes[name]}."
                )
            given.add(name)
            yield name, tensor
        missing = [name for name in self.shapes if name not in given and self.tied.get(name) not in given]
        if missing:
            raise EngineError(f"weight sync: {len(missing)} parameters are missing, such as '{missing[0]}'.")

    def stored(self, weights: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
        """The weights as a checkpoint on disk has them, where tied ones are left out; checked as by `checked`."""
        from harness.models.weights import stored_form

        return stored_form(self.model, (pair for pair in self.checked(weights) if pair[0] not in self.tied))
