"""Log-probabilities of responses under a fixed reference, kept on disk so that they are computed once."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.errors import InputError
from harness.models.losses import sum_by_row
from harness.models.token_stats import token_stats
from harness.models.weights import fingerprint
from harness.store import write_bytes

Side = tuple[np.ndarray, int]
"""Token ids (int32) of a prompt with its response, and where the response begins."""

RECORD = np.dtype([("key", "V16"), ("logp", "<f8")])


def default_cache_dir() -> Path:
    """`harness/reference_logps` in the user's cache folder (environment variable XDG_CACHE_HOME, else ~/.cache)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "harness" / "reference_logps"


def side_key(side: Side) -> bytes:
    """Content hash of all that a log-probability depends on beside the model: the tokens, and which are summed.

    The policy about EOS and the longest length have left their mark in the tokens.
    """
    ids, start = side
    return hashlib.sha256(start.to_bytes(8, "little") + np.ascontiguousarray(ids, dtype="<i4").tobytes()).digest()[:16]


def reference_key(checkpoint: str, precision: str) -> str:
    """Content hash of a checkpoint's weights and configuration, and of the precision it is run in.

    Raises:
        InputError: no safetensors weights can be found.
    """
    from safetensors import safe_open

    folder = Path(checkpoint)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(checkpoint, allow_patterns=["*.safetensors", "config.json"]))
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise InputError(
            f"{checkpoint}: no .safetensors weights to recognise the reference by; convert it, or set `reference: "
            "frozen`."
        )
    weights: dict[str, str] = {}
    for file in files:
        with safe_open(file, framework="pt") as tensors:
            weights |= {name: fingerprint([(name, tensors.get_tensor(name))]) for name in tensors.keys()}  # noqa: SIM118
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config = {k: v for k, v in config.items() if k not in ("_name_or_path", "transformers_version", "dtype")}
    text = json.dumps([sorted(weights.items()), config, precision], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class ReferenceCache:
    """Key of a side -> its log-probability. Files are only ever added, whole, so runs may share a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self) -> dict[bytes, float]:
        """Everything known; raises `InputError` for a damaged file."""
        known: dict[bytes, float] = {}
        for file in sorted(self.folder.glob("*.bin")):
            content = file.read_bytes()
            if hashlib.sha256(content).hexdigest()[:16] != file.stem:
                raise InputError(f"{file}: the file is damaged; delete it, its part will be computed again.")
            records = np.frombuffer(content, dtype=RECORD)
            known.update(zip((bytes(key) for key in records["key"]), records["logp"].tolist(), strict=True))
        return known

    def add(self, values: Mapping[bytes, float]) -> None:
        """Write a file of new values."""
        records = np.array([(np.void(key), value) for key, value in values.items()], dtype=RECORD).tobytes()
        write_bytes(self.folder / f"{hashlib.sha256(records).hexdigest()[:16]}.bin", records)


def length_batches(sides: Sequence[Side], batch_tokens: int) -> list[list[int]]:
    """Indices of sides in batches of at most `batch_tokens` padded tokens, longest first: the first needs most memory.

    A side longer than that is a batch of its own.
    """
    order = sorted(range(len(sides)), key=lambda i: -len(sides[i][0]))
    batches: list[list[int]] = []
    for i in order:
        if batches and (len(batches[-1]) + 1) * len(sides[batches[-1][0]][0]) <= batch_tokens:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches


def logps_of_sides(model: Any, sides: Sequence[Side], device: torch.device) -> Tensor:
    """Summed log-probability (B,) of each side's response."""
    return sum_by_row(*token_logps_of_sides(model, sides, device), len(sides))


def token_logps_of_sides(
    model: Any, sides: Sequence[Side], device: torch.device, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Log-probability (N,) of each token of the sides' responses, side after side, and the side (N,) of each."""
    lengths = [len(ids) for ids, _ in sides]
    width = max(lengths)
    padded = torch.zeros(len(sides), width, dtype=torch.long)
    sources, targets, rows = [], [], []
    for row, (ids, start) in enumerate(sides):
        padded[row, : len(ids)] = torch.from_numpy(ids.astype(np.int64))
        sources.append(torch.arange(start - 1, len(ids) - 1) + row * width)
        targets.append(padded[row, start : len(ids)])
        rows.append(torch.full((len(ids) - start,), row))
    where = (torch.cat(sources).to(device), torch.cat(targets).to(device))
    stats = token_stats(model, padded.to(device), *where, temperature=temperature)
    return stats.logps, torch.cat(rows).to(device)


@contextlib.contextmanager
def without_adapter(model: Any) -> Iterator[Any]:
    """A model without its low-rank updates, and without dropout."""
    training = model.training
    model.eval()
    try:
        with model.disable_adapter():
            yield model
    finally:
        model.train(training)


@contextlib.contextmanager
def reference_in_memory(module: Any, checkpoint: str, adapter_off: bool) -> Iterator[Any]:
    """A training module's reference model, on its device for as long as it is needed.

    Args:
        adapter_off: take the module's own model without its low-rank updates.
    """
    if adapter_off:
        with without_adapter(module.model) as model:
            yield model
        return
    model = module.load_frozen(checkpoint, compile_blocks=False).to(module.device)
    try:
        yield model
    finally:
        del model
        if module.device.type == "cuda":
            torch.cuda.empty_cache()


def chunks(batches: Sequence[list[int]], size: int) -> Iterator[Sequence[list[int]]]:
    """Consecutive pieces of at most `size` batches."""
    for start in range(0, len(batches), size):
        yield batches[start : start + size]
