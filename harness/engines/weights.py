"""The weights of checkpoints, read without building the model, and their names and shapes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.engines.config import EngineError


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
        known = {name: layout.tied.get(name, name) if name not in readers else name for name in layout.shapes}
        # Some architectures are stored under other names than those they are built with.
        names = (
            known if all(stored in readers for stored in known.values()) else {name: name for name in sorted(readers)}
        )
        for name, stored in names.items():
            yield name, readers[stored](stored)


@dataclass(frozen=True)
class WeightLayout:
    """Names and shapes of a model's parameters, tied ones included."""

    shapes: dict[str, tuple[int, ...]]
    tied: dict[str, str]
    """Names of parameters that are another one under a second name, such as lm_head.weight."""

    @classmethod
    def of(cls, model: Any) -> WeightLayout:
        """The layout of a transformers model (on any device, the meta device included)."""
        return cls(
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

    def complete(self, weights: Iterable[tuple[str, Any]]) -> list[tuple[str, Any]]:
        """All weights by name, tied ones written out, after a check of every name and shape.

        A tied name must be explicit because vLLM may keep a packed copy of it, which would silently stay as it was.

        Raises:
            EngineError: a name is unknown, given twice or missing, or a shape differs.
        """
        given: dict[str, Any] = {}
        for name, tensor in weights:
            if name not in self.shapes:
                raise EngineError(f"weight sync: the model has no parameter '{name}'.")
            if name in given:
                raise EngineError(f"weight sync: '{name}' was given twice.")
            if tuple(tensor.shape) != self.shapes[name]:
                raise EngineError(
                    f"weight sync: '{name}' has shape {tuple(tensor.shape)}, the model's is {self.shapes[name]}."
                )
            given[name] = tensor
        for name, source in self.tied.items():
            if name not in given and source in given:
                given[name] = given[source]
        missing = [name for name in self.shapes if name not in given]
        if missing:
            raise EngineError(f"weight sync: {len(missing)} parameters are missing, such as '{missing[0]}'.")
        return list(given.items())
