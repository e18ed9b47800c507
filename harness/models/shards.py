"""Models that no rank ever holds whole: built without weights, sharded, and then filled, on each rank with its part."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from harness.errors import InputError
from harness.models.classifier import fill_buffers

BLOCK = re.compile(r"(?:.*?\.\d+\.)?")
"""Name of a transformer block, at the beginning of its weights' names; empty for weights outside of all blocks."""


def block_of(name: str) -> str:
    """The block of a weight by its name."""
    return BLOCK.match(name)[0]  # type: ignore[index]


def finish_without_weights(model: Any, folder: str) -> None:
    """Give a model that was built on the meta device what no weight file holds: buffers, and how it generates."""
    from transformers import GenerationConfig

    model._move_missing_keys_from_meta_to_device(set(), None, None, None)
    fill_buffers(model)
    if model.can_generate() and (Path(folder) / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)


def stored_names(folder: str) -> dict[str, Path]:
    """Name of each weight of a checkpoint directory -> the file that holds it."""
    from safetensors import safe_open

    names: dict[str, Path] = {}
    for file in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(file, framework="pt") as weights:
            names |= dict.fromkeys(weights.keys(), file)
    if not names:
        for file in sorted(Path(folder).glob("pytorch_model*.bin")):
            names |= dict.fromkeys(torch.load(file, map_location="cpu", weights_only=True, mmap=True), file)
    return names


def fill(model: Any, folder: str) -> list[str]:
    """Read the weights of a checkpoint directory into a model; where it is sharded, each rank reads its own part.

    Blocks are read one after the other, and converted by transformers where an architecture is built otherwise than it
    is stored. Parameters on the meta device are made; others are overwritten where they are, as optimizers know them.

    Args:
        model: plain transformers model.
        folder: checkpoint directory.

    Returns:
        Names of the model's weights that the directory does not hold.

    Raises:
        InputError: a weight has another shape than the model's.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import convert_and_load_state_dict_in_model
    from transformers.modeling_utils import LoadStateDictConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    config = LoadStateDictConfig(
        device_map={"": _device(next(model.parameters()))},
        dtype=model.dtype,
        dtype_plan=model._get_dtype_plan(model.dtype),
        weight_mapping=get_model_conversion_mapping(model),  # type: ignore[arg-type]
    )
    missing = set(model.state_dict())
    files = stored_names(folder)
    for _, names in itertools.groupby(sorted(files, key=lambda name: (block_of(name), name)), key=block_of):
        before = dict(model.named_parameters(remove_duplicate=False))
        with _opened({name: files[name] for name in names}) as weights:
            found, _ = convert_and_load_state_dict_in_model(model, weights, config)
        failed = {*(name for name, *_ in found.mismatched_keys), *found.conversion_errors}
        # Transformers fails to merge none of the experts, where there are fewer than ranks.
        without = {name for name in failed if _local(model.get_parameter(name)).numel() == 0}
        if wrong := sorted(failed - without):
            raise InputError(f"{folder}: its weight '{wrong[0]}' does not fit {type(model).__name__}.")
        for name in without:
            parameter = model.get_parameter(name)
            _replace(model, name, parameter, torch.empty_like(_local(parameter), device=_device(parameter)))
        missing &= found.missing_keys - without
        _keep_parameters(model, before)
    model.tie_weights(missing_keys=missing, recompute_mapping=False)
    return sorted(missing)


def fill_shards(model: Any, folder: str) -> None:
    """`fill` a model that was sharded without weights.

    Raises:
        InputError: the directory lacks weights.
    """
    fill(model, folder)
    lacking = [name for name, tensor in model.state_dict().items() if tensor.is_meta]
    if lacking:
        raise InputError(f"{folder}: the checkpoint lacks weights of {type(model).__name__} ({lacking[0]}, ...).")


def _device(parameter: torch.Tensor) -> str:
    """Where it is, or will be."""
    if isinstance(parameter, DTensor):
        return parameter.device_mesh.device_type
    return "cpu" if parameter.is_meta else str(parameter.device)


@contextlib.contextmanager
def _opened(files: dict[str, Path]) -> Iterator[dict[str, Any]]:
    """The weights of these names, read when they are indexed; the memory mapping ends with the context."""
    from safetensors import safe_open

    with contextlib.ExitStack() as stack:
        weights: dict[str, Any] = {}
        for file in sorted(set(files.values())):
            names = [name for name in files if files[name] == file]
            if file.suffix == ".safetensors":
                opened = stack.enter_context(safe_open(file, framework="pt"))
                weights |= {name: opened.get_slice(name) for name in names}
            else:
                tensors = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
                weights |= {name: tensors[name] for name in names}
        yield weights


def _replace(model: Any, name: str, parameter: torch.Tensor, local: torch.Tensor) -> None:
    """Put a parameter like another one, with this rank's part of it, into the model."""
    if isinstance(parameter, DTensor):
        local = DTensor.from_local(
            local, parameter.device_mesh, parameter.placements, shape=parameter.shape, stride=parameter.stride()
        )
    owner, _, key = name.rpartition(".")
    setattr(model.get_submodule(owner), key, nn.Parameter(local, requires_grad=parameter.requires_grad))


def _keep_parameters(model: Any, before: dict[str, Any]) -> None:
    """Put back the parameters that were there before, with the values of those that have taken their places.

    What has taken the place of one on the meta device gets memory of its own, where it is the mapped file.
    """
    for name, parameter in before.items():
        owner, _, key = name.rpartition(".")
        module = model.get_submodule(owner)
        new = getattr(module, key)
        if new is parameter:
            continue
        if not parameter.is_meta:
            _local(parameter).copy_(_local(new))
            setattr(module, key, parameter)
        elif new.device.type == "cpu":
            _replace(model, name, new, _local(new).clone())


def _local(parameter: torch.Tensor) -> torch.Tensor:
    return (parameter.to_local() if isinstance(parameter, DTensor) else parameter).detach()
