"""Log-probabilities of single sampled tokens under fixed weights, kept on disk so that they are computed once."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from harness.errors import InputError
from harness.store import write_bytes

HEADER = struct.Struct("<16sI")
"""Key of a row and the number of its tokens; as many 32-bit floats follow."""


class TokenLogpCache:
    """Key of a row (see `side_key`) -> log-probabilities of its sampled tokens.

    Files are only ever added, whole, so runs may share a folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self) -> dict[bytes, np.ndarray]:
        """Everything known; raises `InputError` for a damaged file."""
        known: dict[bytes, np.ndarray] = {}
        for file in sorted(self.folder.glob("*.tokens")):
            content = file.read_bytes()
            if hashlib.sha256(content).hexdigest()[:16] != file.stem:
                raise InputError(f"{file}: the file is damaged; delete it, its part will be computed again.")
            at = 0
            while at < len(content):
                key, count = HEADER.unpack_from(content, at)
                at += HEADER.size
                known[key] = np.frombuffer(content, dtype="<f4", count=count, offset=at)
                at += 4 * count
        return known

    def add(self, values: Mapping[bytes, np.ndarray]) -> None:
        """Write a file of new values."""
        content = b"".join(
            HEADER.pack(key, len(row)) + row.astype("<f4", copy=False).tobytes() for key, row in values.items()
        )
        write_bytes(self.folder / f"{hashlib.sha256(content).hexdigest()[:16]}.tokens", content)
