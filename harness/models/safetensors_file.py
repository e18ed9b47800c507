"""Files of named tensors that are written one tensor after the other, so that no more than one is in memory.

The format is that of https://github.com/huggingface/safetensors: the length of a header (8 bytes, little-endian), the
header (JSON, names with types, shapes and offsets), the tensors. The files are byte for byte those of that package.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

CODES = {
    torch.bool: "BOOL", torch.uint8: "U8", torch.int8: "I8", torch.float8_e5m2: "F8_E5M2",
    torch.float8_e4m3fn: "F8_E4M3", torch.int16: "I16", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int32: "I32", torch.float32: "F32", torch.float64: "F64", torch.int64: "I64",
}  # fmt: skip
"""Types, in the reverse of the order in which tensors lie in a file: large ones come first, so that all are aligned."""
ORDER = list(CODES)
LARGEST_FILE = "50GB"
"""As transformers has it; what is larger is split over several files with an index."""


class SafetensorsWriter:
    """Writes `model.safetensors` into a folder, or `model-00001-of-00003.safetensors` and so on with their index.

    Args:
        folder: where the files are to lie.
        shapes: an (empty) tensor for each name, of the shape and type of the one that will be written.
    """

    def __init__(self, folder: Path, shapes: Mapping[str, Tensor]) -> None:
        from huggingface_hub import split_state_dict_into_shards_factory

        self._open = contextlib.ExitStack()
        split = split_state_dict_into_shards_factory(
            dict(shapes),
            get_storage_size=_size,
            filename_pattern="model{suffix}.safetensors",
            max_shard_size=LARGEST_FILE,
        )
        self._shapes = shapes
        self._places: dict[str, tuple[BinaryIO, int]] = {}
        for name, members in split.filename_to_tensors.items():
            self._start(folder / name, members)
        if split.is_sharded:
            metadata = {"total_parameters": sum(like.numel() for like in shapes.values()), **split.metadata}
            index = {"metadata": metadata, "weight_map": split.tensor_to_filename}
            text = json.dumps(index, indent=2, sort_keys=True) + "\n"
            (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")

    def _start(self, path: Path, members: list[str]) -> None:
        offset, starts = 0, {}
        header: dict[str, dict[str, Any]] = {"__metadata__": {"format": "pt"}}
        for name in sorted(members, key=lambda name: (-ORDER.index(self._shapes[name].dtype), name)):
            like = self._shapes[name]
            starts[name], offset = offset, offset + _size(like)
            place = [starts[name], offset]
            header[name] = {"dtype": CODES[like.dtype], "shape": list(like.shape), "data_offsets": place}
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % 8)
        file = self._open.enter_context(path.open("wb"))
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + offset)
        self._places |= {name: (file, 8 + len(text) + start) for name, start in starts.items()}

    def write(self, name: str, tensor: Tensor) -> None:
        """Write a tensor, whichever comes next."""
        file, start = self._places.pop(name)
        like = self._shapes[name]
        if (tensor.shape, tensor.dtype) != (like.shape, like.dtype):
            found, expected = (f"{t.dtype} of shape {tuple(t.shape)}" for t in (tensor, like))
            raise ValueError(f"{name} is {found} instead of {expected}")
        file.seek(start)
        file.write(tensor.contiguous().cpu().flatten().view(torch.uint8).numpy().data)

    def __enter__(self) -> SafetensorsWriter:
        return self

    def __exit__(self, error: object, *_: object) -> None:
        """Close the files; raises `ValueError` where one of the tensors was not written."""
        self._open.close()
        if error is None and self._places:
            raise ValueError(f"{len(self._places)} tensors were not written, such as {next(iter(self._places))}")


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
