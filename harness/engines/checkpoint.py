"""What engines read from a checkpoint directory: its tokenizer, its number format, its weights' names and shapes."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.engines.config import EngineError
from harness.errors import InputError

WEIGHT_FILES = ("*.safetensors", "pytorch_model*.bin")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
HUB_TIMEOUT = 5.0


def resolve_checkpoint(checkpoint: str | Path, weights: bool = True) -> Path:
    """The directory of a checkpoint, which is checked to hold a tokenizer and (if `weights`) a config and weights.

    A name `owner/model` that is no local path is looked up on the model hub (or in its local cache).

    Raises:
        InputError: no such directory, nothing of that name on the hub, or a file is missing in it.
    """
    path = Path(checkpoint).expanduser()
    if not path.exists():
        path = _from_hub(str(checkpoint))
    if not path.is_dir():
        raise InputError(f"{path}: not a directory; give a checkpoint directory in the Hugging Face format.")
    if weights and not (path / "config.json").is_file():
        raise InputError(f"{path}: no config.json; give a checkpoint directory in the Hugging Face format.")
    if weights and not any(next(path.glob(pattern), None) for pattern in WEIGHT_FILES):
        raise InputError(f"{path}: no weights (model.safetensors); was the checkpoint saved completely?")
    if not any((path / name).is_file() for name in TOKENIZER_FILES):
        raise InputError(f"{path}: no tokenizer (tokenizer.json); save the tokenizer beside the model.")
    return path


def _from_hub(name: str) -> Path:
    if not HUB_ID.fullmatch(name) or Path(name).parent.exists():
        raise InputError(f"{name}: no such directory; give a checkpoint directory or a hub name like owner/model.")
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns, local_files_only=True))
    except LocalEntryNotFoundError:
        pass  # not in the cache
    try:
        HfApi().model_info(name, timeout=HUB_TIMEOUT)
    except HfHubHTTPError as error:
        raise InputError(f"{name}: no such directory, and the model hub has none to give ({error}).") from None
    except Exception as error:  # whatever the HTTP library raises when there is no network
        reason = type(error).__name__
        raise InputError(f"{name}: no such directory, and the model hub cannot be reached ({reason}).") from None
    return Path(snapshot_download(name, allow_patterns=patterns))


def load_tokenizer(path: Path) -> Any:
    """The tokenizer of a checkpoint.

    Raises:
        InputError: it cannot be read or has no end-of-sequence token.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: the tokenizer cannot be read ({str(error).splitlines()[0]}).") from None
    check_eos(tokenizer, str(path))
    return tokenizer


def check_eos(tokenizer: Any, where: str) -> None:
    if tokenizer.eos_token_id is None:
        raise InputError(
            f"{where}: the tokenizer has no end-of-sequence token, so no response would ever end; set eos_token."
        )


def eos_token_ids(tokenizer: Any, generation_config: Any) -> frozenset[int]:
    """Tokens that end a response: the tokenizer's EOS and those of the model's generation config (an int or a list)."""
    ids = getattr(generation_config, "eos_token_id", None)
    ids = [] if ids is None else [ids] if isinstance(ids, int) else list(ids)
    return frozenset([tokenizer.eos_token_id, *ids])


def stored_dtype(path: Path) -> str:
    """Name of the number format a checkpoint is stored in; "float32" where it does not say."""
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    name = config.get("dtype") or config.get("torch_dtype") or "float32"
    return str(name).removeprefix("torch.")


def checkpoint_version(path: Path) -> str:
    """Fingerprint of the weights as stored, equal to that of the model loaded in the stored number format."""
    from harness.models import fingerprint

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
