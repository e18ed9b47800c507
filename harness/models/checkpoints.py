"""Hugging Face checkpoint directories and hub names: found, checked, and their tokenizers opened."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from harness.errors import InputError, first_line
from harness.store import check_sums, read_json

WEIGHT_FILES = ("*.safetensors", "pytorch_model*.bin")
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
"""Files of low-rank updates without the model that they adapt, in PEFT's format."""
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json")
HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
HUB_TIMEOUT = 5.0
SCORERS = re.compile(r"For(SequenceClassification|TokenClassification|QuestionAnswering|MultipleChoice|MaskedLM)$")
"""Architectures without a head that writes."""


def adapter_base(checkpoint: str | Path) -> str | None:
    """Directory or hub id of the model that a directory of low-rank updates adapts; None of any other checkpoint.

    Raises:
        InputError: the directory lacks the updates, or does not name the model, or that is not there.
    """
    path = Path(os.path.expanduser(str(checkpoint)))
    if not (path / ADAPTER_CONFIG).is_file() or (path / "config.json").exists():
        return None
    check_sums(path)
    _demand(path, (ADAPTER_WEIGHTS,), f"no {ADAPTER_WEIGHTS}")
    base = read_json(path / ADAPTER_CONFIG).get("base_model_name_or_path")
    if not base or (Path(str(base)).is_absolute() and not Path(str(base)).is_dir()):
        raise InputError(
            f"{path / ADAPTER_CONFIG}: the model that it adapts is {base!r}, which is not there; correct "
            "base_model_name_or_path."
        )
    return check_checkpoint(str(base))


def check_checkpoint(checkpoint: str | Path) -> str:
    """Return the checkpoint's directory or hub id after checking, without network access, that it can be one.

    Raises:
        InputError: a local path that does not exist or holds no config.json.
    """
    name = _directory_or_hub_id(checkpoint)
    if base := adapter_base(name):
        raise InputError(
            f"{name}: low-rank updates of {base}; where they are trained on, give that as checkpoint and these as "
            "lora.adapter, elsewhere merge them first (harness merge)."
        )
    if Path(name).is_dir():
        _demand(Path(name), ("config.json",), "no config.json")
        check_files(Path(name))
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
    check_files(path)
    return path


def weights_directory(checkpoint: str | Path) -> str:
    """As `check_checkpoint`, and a hub id is looked up: a name that is nowhere is refused within seconds.

    Of low-rank updates it is that of the model that they adapt.
    """
    name = adapter_base(checkpoint) or check_checkpoint(checkpoint)
    return name if Path(name).is_dir() else str(_from_hub(name))


def check_files(path: Path) -> None:
    """Check the files of a checkpoint directory: by the hashes in it, and the weights' lengths by what they say.

    Raises:
        InputError: a file is damaged, changed since it was saved, cut short or gone.
    """
    check_sums(path)
    read_config(path)
    for file in sorted(path.glob("*.safetensors")):
        _check_length(file)
    for file in sorted(path.glob("*.safetensors.index.json")):
        for name in sorted(set(map(str, (read_json(file).get("weight_map") or {}).values()))):
            if not (path / name).is_file():
                raise InputError(
                    f"{path / name}: no such file, but {file.name} names it; save or copy the whole model."
                )


def _check_length(file: Path) -> None:
    """A safetensors file says how long it is: its header's length, and in the header where the last tensor ends."""
    size = file.stat().st_size
    try:
        with open(file, "rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(length)) if length < size else {}
        ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
        whole = bool(header) and 8 + length + max(ends, default=0) == size
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        whole = False
    if not whole:
        raise InputError(f"{file}: damaged or cut short ({size} bytes are not what its header says); copy it again.")


def read_config(path: Path) -> dict[str, Any]:
    """The config.json of a checkpoint directory, {} where there is none; raises `InputError` if it cannot be read."""
    file = path / "config.json"
    return read_json(file, "restore it or save the model again") if file.is_file() else {}


def check_generates(path: str | Path) -> None:
    """Raise `InputError` if a checkpoint directory holds a model that scores or classifies and writes no text."""
    architectures = read_config(Path(path)).get("architectures") or []
    if scorer := next((str(name) for name in architectures if SCORERS.search(str(name))), None):
        raise InputError(
            f"{path}: a {scorer} writes no text; give a causal language model here, and this one, if it is a reward "
            "model, as --reward RewardModel --reward.checkpoint."
        )


def check_vocabulary(checkpoint: str | Path, tokenizer: Any) -> None:
    """Raise `InputError` if the tokenizer makes tokens for which the checkpoint's model has no row in its embedding.

    Special tokens that only other parts of a larger model know, such as the place of an image, may lack one.
    """
    rows = embedding_rows(checkpoint)
    added = getattr(tokenizer, "added_tokens_decoder", {})
    needed = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
    spare = {number for number, token in added.items() if token.special} - needed
    over = {number: token for token, number in tokenizer.get_vocab().items() if number >= rows and number not in spare}
    if over:
        first = min(over)
        raise InputError(
            f"{checkpoint}: the tokenizer has {len(over)} tokens ({over[first]!r}, id {first}, ...) beyond the {rows} "
            "rows of the model's embedding; restore the tokenizer that belongs to the model, or give them rows with "
            f"`harness add-tokens --model {checkpoint} --tokens '[]' --output DIRECTORY`."
        )


def embedding_rows(checkpoint: str | Path) -> int:
    """How many tokens a checkpoint's model knows, as its configuration says.

    Raises:
        InputError: the configuration cannot be opened.
    """
    from transformers import AutoConfig

    name = weights_directory(checkpoint)
    try:
        config = AutoConfig.from_pretrained(name)
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"{name}: the model's configuration cannot be opened ({first_line(error)}).") from error
    return int(config.get_text_config().vocab_size)


def _directory_or_hub_id(checkpoint: str | Path) -> str:
    text = os.path.expanduser(str(checkpoint))
    path = Path(text)
    if path.is_dir():
        run = not (path / "config.json").exists() and (path / "hf").is_dir()  # the directory of a run
        return str(path / "hf") if run else text
    if path.suffix == ".ckpt" and path.is_file():
        raise InputError(f"{text}: a checkpoint to resume training from; give the directory {path.stem} beside it.")
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
    if (base := adapter_base(name)) and not any((Path(name) / file).exists() for file in TOKENIZER_FILES):
        name = base
    if Path(name).is_dir():
        _demand(Path(name), TOKENIZER_FILES, "no tokenizer (tokenizer.json); save the tokenizer beside the model")
        check_sums(name)
    else:
        name = str(_from_hub(name))
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except Exception as error:  # the tokenizers package raises just that for a file that it cannot read
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
    config = read_config(path)
    name = config.get("dtype") or config.get("torch_dtype") or "float32"
    return str(name).removeprefix("torch.")
