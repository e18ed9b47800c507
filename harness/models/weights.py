"""Models: loaded from and saved to Hugging Face checkpoint directories, their weights named and fingerprinted.

Every model is a plain transformers model, so whatever opens a checkpoint directory opens ours.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch._guards import detect_fake_mode

from harness.errors import InputError, first_line
from harness.models.checkpoints import (
    ADAPTER_WEIGHTS,
    adapter_base,
    check_checkpoint,
    check_generates,
    load_tokenizer,
    weights_directory,
)
from harness.models.four_bits import packed_layers, whole_weight
from harness.models.safetensors_file import SafetensorsWriter
from harness.models.shards import block_of, finish_without_weights, stored_names
from harness.store import write_sums

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

REWARD_HEAD_FILE = "reward_head.safetensors"
"""Holds a causal language model's `reward_head`, which transformers has no place for."""
SUMMED = 1 << 20
"""Elements that are summed at a time."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_causal_lm(
    checkpoint: str | Path,
    *,
    dtype: str = "float32",
    attn_implementation: str | None = None,
    gradient_checkpointing: bool | int = False,
    unfilled: bool = False,
) -> PreTrainedModel:
    """Load a causal language model in train mode; of low-rank updates (PEFT's format) the model with them merged.

    With `unfilled` weights are on the meta device, for `harness.models.shards.fill_shards`; not of low-rank updates.

    Raises:
        InputError: the checkpoint cannot be found or opened, lacks weights, or the dtype is unknown.
    """
    from transformers import AutoModelForCausalLM

    base = adapter_base(checkpoint)
    check_generates(base or check_checkpoint(checkpoint))
    unfilled = unfilled and base is None  # updates are merged into whole weights
    model, missing = _open(AutoModelForCausalLM, checkpoint, dtype, attn_implementation, unfilled)
    if missing:
        raise InputError(f"{checkpoint}: the checkpoint lacks weights of a causal language model ({missing[0]}, ...).")
    if base is not None:
        model = with_adapter(model, checkpoint).merge_and_unload()
    return _ready(model, gradient_checkpointing)


def with_adapter(model: Any, folder: str | Path, trainable: bool = False) -> Any:
    """A model with the low-rank updates of a directory, wrapped by PEFT and not merged.

    Raises:
        InputError: PEFT is not installed, or the updates are of another architecture.
    """
    try:
        from peft import PeftModel
    except ImportError as error:
        raise InputError(f"{folder}: adapters need the package peft; install harness-reason[peft].") from error
    try:
        return PeftModel.from_pretrained(model, str(folder), is_trainable=trainable)
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        raise InputError(
            f"{folder}: the adapter does not fit {type(model).__name__} ({first_line(error)}); give the model that it "
            "was made for."
        ) from error


def load_reward_model(
    checkpoint: str | Path,
    *,
    dtype: str = "float32",
    attn_implementation: str | None = None,
    gradient_checkpointing: bool | int = False,
    head_start: tuple[float, float] | None = None,
    unfilled: bool = False,
) -> PreTrainedModel:
    """Load a one-label sequence classifier in train mode; a causal LM's directory gets a new head.

    Where transformers has no such class for the architecture, `harness.models.classifier` makes one.

    A new head is drawn with a fixed seed from a normal distribution of mean and standard deviation `head_start`; if not
    given, so small that first rewards are about 0.01 in size: the loss starts at ln 2.

    With `unfilled` all weights but a new head's are on the meta device, for `harness.models.shards.fill_shards`.

    Raises:
        InputError: the checkpoint cannot be found or opened, or has another number of labels.
    """
    from harness.models.classifier import classifier_class, fill_buffers

    if adapter_base(checkpoint) is not None:
        raise InputError(f"{checkpoint}: an adapter has no reward head; merge it first (harness merge).")
    directory = weights_directory(checkpoint)
    kind = classifier_class(directory)
    model, missing = _open(kind, directory, dtype, attn_implementation, unfilled, num_labels=1)
    if isinstance(model, kind):  # one of ours; transformers' own is opened by an Auto class
        fill_buffers(model)
    head = reward_head(model)
    if unfilled and "score.weight" not in stored_names(directory):
        head.to_empty(device="cpu")
        missing = ["score.weight"]
    if missing == ["score.weight"]:
        generator = torch.Generator().manual_seed(0)
        size = head.weight.shape
        mean, deviation = head_start or (0.0, 0.01 / size[-1] ** 0.5)
        with torch.no_grad():
            head.weight.copy_(mean + deviation * torch.randn(size, generator=generator))
    elif missing:
        raise InputError(f"{checkpoint}: the checkpoint lacks weights of a reward model ({missing[0]}, ...).")
    # Without weights the tokens are of no account either.
    pad = 0 if detect_fake_mode() else load_tokenizer(checkpoint, distinct_pad=True).pad_token_id
    model.config.get_text_config().pad_token_id = pad
    return _ready(model, gradient_checkpointing)


def reward_head(model: nn.Module) -> nn.Linear:
    """The linear layer from hidden states to rewards; raises `InputError` if the architecture names it otherwise."""
    head = getattr(plain_model(model), "score", None)
    if not isinstance(head, nn.Linear):
        raise InputError(
            f"{type(model).__name__} has no linear `score` head; choose a decoder architecture that has one."
        )
    return head


def _open(
    auto_class: Any,
    checkpoint: str | Path,
    dtype: str,
    attn_implementation: str | None,
    unfilled: bool,
    **options: Any,
) -> tuple[Any, list[str]]:
    """The model, and the names of weights that the checkpoint lacks; under torch's fake tensors its shapes alone."""
    from safetensors import SafetensorError
    from transformers.utils import logging

    if dtype not in DTYPES:
        raise InputError(f"unknown dtype '{dtype}'; known: {', '.join(DTYPES)}.")
    name = weights_directory(checkpoint)
    if detect_fake_mode() is not None:
        return _of_config(auto_class, name, DTYPES[dtype], attn_implementation, **options), []
    if unfilled:
        with torch.device("meta"):
            model = _of_config(auto_class, name, DTYPES[dtype], attn_implementation, **options)
        finish_without_weights(model, name)
        return model, []
    options |= {"dtype": DTYPES[dtype], "attn_implementation": attn_implementation, "output_loading_info": True}
    logging.disable_progress_bar()
    verbosity = logging.get_verbosity()
    # What is missing is judged by the caller, not reported as a table.
    logging.set_verbosity_error()
    try:
        model, info = auto_class.from_pretrained(name, **options)
    except (OSError, RuntimeError, ValueError, ImportError, SafetensorError) as error:
        raise InputError(f"{name}: the checkpoint cannot be opened ({first_line(error)}).") from error
    finally:
        logging.set_verbosity(verbosity)
    return model, sorted(info["missing_keys"])


def _of_config(auto_class: Any, name: str, dtype: torch.dtype, attn_implementation: str | None, **options: Any) -> Any:
    """A model of the class with the shapes that the checkpoint's configuration says."""
    from transformers import AutoConfig

    build = auto_class.from_config if hasattr(auto_class, "from_config") else auto_class._from_config
    config = AutoConfig.from_pretrained(name, **options)
    return build(config, dtype=dtype, attn_implementation=attn_implementation)


def _ready(model: Any, gradient_checkpointing: bool | int) -> Any:
    if gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if gradient_checkpointing > 1:
        blocks: list[Any] = transformer_blocks(model)
        if not blocks or not all(hasattr(block, "gradient_checkpointing") for block in blocks):
            raise InputError(
                f"gradient_checkpointing: {type(model).__name__} recomputes all layers or none; set it true."
            )
        for number, block in enumerate(blocks):
            block.gradient_checkpointing = number % gradient_checkpointing == 0
    return model.train()


def plain_model(model: nn.Module) -> Any:
    """The transformers model inside a PEFT wrapper, or the model itself."""
    wrapper: Any = model
    return wrapper.get_base_model() if hasattr(model, "peft_config") else model


def transformer_blocks(model: nn.Module) -> list[nn.Module]:
    """The repeated layers of a transformers model, in order."""
    names = set(getattr(plain_model(model), "_no_split_modules", None) or ())
    return [module for module in model.modules() if type(module).__name__.removeprefix("FSDP") in names]


def logits_at(model: nn.Module, input_ids: Tensor, positions: Tensor, **inputs: Any) -> Tensor:
    """Logits of a causal LM at chosen positions only, so that the vocabulary projection of all others is never made.

    Goes through the model's own `forward`, hence works under DDP, FSDP2 and PEFT and keeps logit scaling or capping.

    Args:
        model: causal language model.
        input_ids: (B, T).
        positions: (N,) indices into the B*T flattened tokens.
        inputs: further arguments of the model's forward, such as `position_ids`.

    Returns:
        (N, V) logits.
    """

    def select(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (args[0].flatten(0, 1).index_select(0, positions), *args[1:])

    hook = plain_model(model).get_output_embeddings().register_forward_pre_hook(select)
    try:
        return model(input_ids=input_ids, use_cache=False, **inputs).logits
    finally:
        hook.remove()


def rewards_at(model: nn.Module, input_ids: Tensor, positions: Tensor, **inputs: Any) -> Tensor:
    """Rewards of a one-label sequence classifier at chosen positions.

    Args:
        model: sequence classifier with a `score` head.
        input_ids: (B, T).
        positions: (N,) indices into the B*T flattened tokens.
        inputs: further arguments of the model's forward.

    Returns:
        (N,) rewards in float32.
    """
    found: list[Tensor] = []
    hook = reward_head(model).register_forward_hook(lambda _, __, output: found.append(output))
    try:
        model(input_ids=input_ids, use_cache=False, **inputs)
    finally:
        hook.remove()
    return found[0].flatten().index_select(0, positions).float()


def named_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield (name, full tensor) for every weight, under the names of the plain transformers model.

    LoRA updates are merged into their base weights (the model itself is left as it is), and weights of four bits are
    given whole; sharded tensors are gathered one at a time, a collective that all ranks must take part in; a tied
    `lm_head.weight` is always given.
    """
    for name, _, make in _weights(model):
        yield name, _full(make())


def weight_shapes(model: nn.Module) -> dict[str, Tensor]:
    """For each of `named_weights` a tensor of its shape and type on the meta device; nothing is gathered."""
    return {name: torch.empty(like.shape, dtype=like.dtype, device="meta") for name, like, _ in _weights(model)}


def _weights(model: nn.Module) -> Iterator[tuple[str, Tensor, Callable[[], Tensor]]]:
    """Name, shape and type of every weight, and what makes it, of a sharded model this rank's part of it."""
    base = plain_model(model)
    packed = packed_layers(base)
    unpacked = {f"{name}.weight": layer for name, layer in packed.items()}
    further = tuple(f"{name}.weight." for name in packed)  # what it takes to unpack them
    # PEFT wraps a layer, or one parameter of a module that holds several, such as experts.
    lora = {
        f"{_without_wrappers(name)}.{getattr(module, 'parameter_name', 'weight')}": module
        for name, module in base.named_modules()
        if hasattr(module, "get_delta_weight")
    }
    seen = set()
    for key, tensor in base.state_dict().items():
        if ".lora_" in key or key.startswith(further):
            continue
        name = _without_wrappers(key)
        seen.add(name)
        whole = whole_weight(unpacked[key]) if key in unpacked else tensor.detach()
        yield name, whole, partial(_merged, whole, lora.get(name))
    head = getattr(base, "lm_head", None)
    if head is not None and "lm_head.weight" not in seen:
        yield "lm_head.weight", head.weight, head.weight.detach


def _merged(tensor: Tensor, layer: Any) -> Tensor:
    """A weight with the low-rank updates of a layer of PEFT, if it has one."""
    for adapter in layer.active_adapters if layer is not None else ():
        tensor = tensor + layer.get_delta_weight(adapter).detach().to(tensor.dtype)
    return tensor


def _tied(model: Any) -> set[str]:
    """Names of weights that are another one under a second name, and are not stored."""
    parameters = {_without_wrappers(name): value for name, value in model.state_dict(keep_vars=True).items()}
    tied = dict(getattr(model, "all_tied_weights_keys", None) or {})
    if getattr(model.config.get_text_config(), "tie_word_embeddings", False):
        tied |= {"lm_head.weight": ""}
    return {name for name, source in tied.items() if not source or parameters.get(name) is parameters.get(source)}


def adapter_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield (name, full tensor) of the low-rank updates of a PEFT model, under the names of PEFT's files.

    Of a model with a trained head there are none, as they are not all that was trained; and of one in four bits none,
    as beside the base's whole weights they would be another model than was trained.
    """
    if not hasattr(model, "peft_config") or getattr(plain_model(model), "score", None) is not None:
        return
    if packed_layers(model):
        return
    if getattr(plain_model(model), "reward_head", None) is not None:
        return
    for key, tensor in plain_model(model).state_dict().items():
        if ".lora_" in key:
            yield f"base_model.model.{key.replace('.default.', '.')}", _full(tensor.detach())


def _without_wrappers(name: str) -> str:
    return ".".join(part for part in name.split(".") if part != "base_layer")


def stored_form(model: nn.Module, weights: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """Weights under the names and shapes that a checkpoint on disk has, one transformer block after the other.

    Transformers builds some architectures otherwise than they are stored, such as experts in one tensor; this is the
    reverse of its conversion, as `save_pretrained` applies it. The others pass through one by one.

    Args:
        model: transformers model, on any device (the meta device included).
        weights: (name, tensor) of its weights, those of a block one after the other.
    """
    from transformers.core_model_loading import revert_weight_conversion

    base = plain_model(model)
    if not _stored_otherwise(base):
        yield from weights
        return
    for _, pairs in itertools.groupby(weights, key=lambda pair: block_of(pair[0])):
        block = dict(pairs)
        stored = revert_weight_conversion(base, block)
        # Sorted where the model was opened from a checkpoint: the order is kept where the names are.
        yield from ((name, stored[name]) for name in (block if stored.keys() == block.keys() else stored))


def _stored_otherwise(model: Any) -> bool:
    """Whether transformers may have something to convert, by what `revert_weight_conversion` looks at."""
    from transformers.conversion_mapping import get_model_conversion_mapping

    known = getattr(model, "_weight_conversions", None)
    return bool(get_model_conversion_mapping(model, add_legacy=False) if known is None else known)


def _full(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def fingerprint(weights: Iterable[tuple[str, Tensor]]) -> str:
    """Content hash of named tensors as 16 hex digits; equal weights hash equally on any device.

    Over each tensor's name, shape, dtype, the integer sum of its elements' bit patterns (exact, so the order of
    summation does not matter) and up to 256 elements at regular distances: one pass at memory speed.
    """
    digest = hashlib.sha256()
    integers = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    for name, tensor in weights:
        bits = tensor.detach().contiguous().flatten().view(integers[tensor.element_size()])
        sample = bits[:: max(1, -(-bits.numel() // 256))].to(torch.int64)
        total = torch.zeros(1, dtype=torch.int64, device=bits.device)
        for part in bits.split(SUMMED):  # a sum of another type copies what it sums
            total += part.sum(dtype=torch.int64)
        numbers = torch.cat([total, sample]).tolist()
        digest.update(repr((name, tuple(tensor.shape), str(tensor.dtype), numbers)).encode())
    return digest.hexdigest()[:16]


def stored_fingerprint(folder: Path) -> str:
    """Fingerprint of all that the weight files of a checkpoint directory hold, whatever model they belong to."""
    from safetensors import safe_open

    def stored() -> Iterator[tuple[str, Tensor]]:
        for file in sorted(folder.glob("*.safetensors")):
            with safe_open(file, framework="pt") as weights:
                for name in sorted(weights.keys()):
                    yield f"{file.name}/{name}", weights.get_tensor(name)
        for file in sorted(folder.glob("pytorch_model*.bin")):
            tensors = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
            for name in sorted(tensors):
                yield f"{file.name}/{name}", tensors[name]

    return fingerprint(stored())


def model_version(model: nn.Module, dtype: torch.dtype | None = None) -> str:
    """Fingerprint of a model's weights in their stored form, equal to that of the checkpoint it is saved to.

    With `dtype` that of the weights as rounded to it.
    """
    weights = stored_form(model, named_weights(model))
    return fingerprint(weights if dtype is None else ((name, tensor.to(dtype)) for name, tensor in weights))


def save_checkpoint(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, folder: str | Path, dtype: torch.dtype | None = None
) -> None:
    """Write a Hugging Face checkpoint directory: complete or not at all, replacing an older one of that name.

    Low-rank updates are merged, and lie in its folder `adapter` by themselves too. With `dtype` the weights are rounded
    to it, but for the updates in `adapter` and a `reward_head`.

    With several ranks all must call it; the first writes, and all return when the directory is complete.

    Raises:
        InputError: the folder cannot be written or the disk is full.
    """
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    adapter = {name: tensor.cpu().contiguous() for name, tensor in adapter_weights(model)}
    if not distributed or torch.distributed.get_rank() == 0:
        _write_checkpoint(model, tokenizer, adapter, Path(folder), dtype)
    else:
        for _ in named_weights(model):  # which the first rank gathers, one at a time
            pass
    if distributed:
        torch.distributed.barrier()


def _save_reward_head(head: Any, weights: dict[str, Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    plain = {name.removeprefix("reward_head."): tensor.contiguous() for name, tensor in weights.items()}
    save_file(plain, path, metadata={"likelihood": head.likelihood})


def _write_adapter(model: Any, tokenizer: Any, weights: dict[str, Tensor], folder: Path) -> None:
    from safetensors.torch import save_file

    folder.mkdir()
    [config] = model.peft_config.values()
    base = plain_model(model).name_or_path
    named = os.path.abspath(base) if Path(base).is_dir() else base
    settings = copy.copy(config)
    settings.inference_mode, settings.base_model_name_or_path = True, named
    settings.save_pretrained(str(folder))
    save_file(weights, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    tokenizer.save_pretrained(folder)
    write_sums(folder)


def _write_weights(model: Any, folder: Path, dtype: torch.dtype | None) -> dict[str, Tensor]:
    """Write the weights into a folder one by one; those of a `reward_head` are returned instead."""
    base = plain_model(model)
    head: dict[str, Tensor] = {}
    left_out = _tied(base) | set(base._keys_to_ignore_on_save or ())

    def stored(weights: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        for name, tensor in weights:
            if name.startswith("reward_head."):
                head[name] = tensor
            elif name not in left_out:
                yield name, tensor

    def rounded(tensor: Tensor) -> Tensor:
        return tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor

    shapes = {name: rounded(like) for name, like in stored_form(model, stored(weight_shapes(model).items()))}
    with SafetensorsWriter(folder, shapes) as writer:
        for name, tensor in stored_form(model, stored(named_weights(model))):
            writer.write(name, rounded(tensor))
    return {name: tensor.cpu() for name, tensor in head.items()}


def _write_checkpoint(
    model: Any, tokenizer: Any, adapter: dict[str, Tensor], folder: Path, dtype: torch.dtype | None
) -> None:
    from transformers.utils import logging

    base = plain_model(model)
    new = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    try:
        shutil.rmtree(new, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        logging.disable_progress_bar()
        base.save_pretrained(new, state_dict={})  # the configurations alone
        if dtype is not None:
            _say_dtype(new / "config.json", dtype)
        if head := _write_weights(model, new, dtype):
            _save_reward_head(base.reward_head, head, new / REWARD_HEAD_FILE)
        tokenizer.save_pretrained(new)
        write_sums(new)
        if adapter:
            _write_adapter(model, tokenizer, adapter, new / "adapter")
        if folder.exists():
            os.replace(folder, old)
        os.replace(new, folder)
    except OSError as error:
        raise InputError(f"{folder}: the checkpoint cannot be written ({error.strerror or error}).") from error
    finally:
        for leftover in (new, old):
            with contextlib.suppress(OSError):
                shutil.rmtree(leftover, ignore_errors=True)


def _say_dtype(file: Path, dtype: torch.dtype) -> None:
    """Have a configuration, and those within it, name the type of the weights."""
    config = json.loads(file.read_text(encoding="utf-8"))
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        if part is config or "dtype" in part:
            part["dtype"] = str(dtype).removeprefix("torch.")
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
