"""Hugging Face checkpoint directories and hub names: found, checked, and their tokenizers opened."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from harness.errors import InputError, first_line

WEIGHT_FILES = ("*.safetensors", "pytorch_model*.bin")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json")
HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
HUB_TIMEOUT = 5.0


def check_checkpoint(checkpoint: str | Path) -> str:
    """Return the checkpoint's directory or hub id after checking, without network access, that it can be one.

    Raises:
        InputError: a local path that does not exist or holds no config.json.
    """
    name = _directory_or_hub_id(checkpoint)
    if Path(name).is_dir():
        _demand(Path(name), ("config.json",), "no config.json")
    return name


def resolve_checkpoint(checkpoint: str | Path, weights: bool = True) -> Path:
    """The directory of a checkpoint, which is checked to hold a tokenizer and (if `weights`) a config and weights.

    A hub id is looked up in the local cache, then on the model hub.

    Raises:
        InputError: no such directory, nothing of that name on the hub, or a file is missing in it.
    """
    name = _directory_or_hub_id(checkpoint)
    path = Path(name) if Path(name).is_dir() else _from_hub(name)
    if weights:
        _demand(path, ("config.json",), "no config.json")
        _demand(path, WEIGHT_FILES, "no weights (model.safetensors); was the checkpoint saved completely?")
    _demand(path, TOKENIZER_FILES, "no tokenizer (tokenizer.json); save the tokenizer beside the model")
    return path


def _directory_or_hub_id(checkpoint: str | Path) -> str:
    text = os.path.expanduser(str(checkpoint))
    path = Path(text)
    if path.is_dir():
        return text
    # "runs/sft" could be either; where the folder "runs" exists the local path is meant.
    meant_as_path = path.exists() or (len(path.parts) == 2 and path.parent.is_dir())
    if not HUB_ID.fullmatch(text) or meant_as_path:
        raise InputError(f"{text}: no such directory; give a checkpoint directory or a hub name like owner/model.")
    return text


def _demand(path: Path, patterns: tuple[str, ...], otherwise: str) -> None:
    if not any(next(path.glob(pattern), None) for pattern in patterns):
        raise InputError(f"{path}: {otherwise.rstrip('.?')}; give a checkpoint directory in the Hugging Face format.")


def _from_hub(name: str) -> Path:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=HUB_FILES, local_files_only=True))
    except LocalEntryNotFoundError:
        pass  # not in the cache
    try:
        HfApi().model_info(name, timeout=HUB_TIMEOUT)
    except HfHubHTTPError as error:
        raise InputError(f"{name}: no such directory, and the model hub has none to give ({error}).") from None
    except Exception as error:  # whatever the HTTP library raises when there is no network
        reason = type(error).__name__
        raise InputError(f"{name}: no such directory, and the model hub cannot be reached ({reason}).") from None
    return Path(snapshot_download(name, allow_patterns=HUB_FILES))


def load_tokenizer(checkpoint: str | Path, *, distinct_pad: bool = False) -> Any:
    """Load a tokenizer that pads on the right; padding defaults to the EOS token.

    Args:
        checkpoint: directory or hub id.
        distinct_pad: choose a padding token other than EOS. Transformers finds the end of a sequence to classify by
            its last token that is not padding, so a reward model's rewards would be read before the EOS otherwise.

    Raises:
        InputError: the tokenizer cannot be opened, has no EOS token, or has no token for `distinct_pad`.
    """
    from transformers import AutoTokenizer

    name = _directory_or_hub_id(checkpoint)
    if Path(name).is_dir():
        _demand(Path(name), TOKENIZER_FILES, "no tokenizer (tokenizer.json); save the tokenizer beside the model")
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{name}: the tokenizer cannot be opened ({first_line(error)}).") from error
    check_eos(tokenizer, name)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if distinct_pad and tokenizer.pad_token_id == tokenizer.eos_token_id:
        others = [token for token in tokenizer.all_special_tokens if token != tokenizer.eos_token]
        if not others:
            raise InputError(f"{name}: the only special token is EOS; add a padding token for a reward model.")
        tokenizer.pad_token = others[0]
    tokenizer.padding_side = "right"
    return tokenizer


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """Hash of all by which a tokenizer turns text and chats into tokens, as 16 hex digits.

    Of a tokenizer without a fast implementation its class, vocabulary and special tokens.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        rules = {"class": type(tokenizer).__name__, "vocabulary": tokenizer.get_vocab()}
    else:
        rules = json.loads(backend.to_str())
        # Set by calls, not by the checkpoint.
        rules.pop("padding", None)
        rules.pop("truncation", None)
    parts = [rules, tokenizer.chat_template, {name: str(token) for name, token in tokenizer.special_tokens_map.items()}]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def check_eos(tokenizer: Any, where: str) -> None:
    """Raise `InputError` if the tokenizer has no end-of-sequence token."""
    if tokenizer.eos_token_id is None:
        raise InputError(
            f"{where}: the tokenizer has no EOS token, so no response would ever end; "
            "set `eos_token` in its tokenizer_config.json."
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
