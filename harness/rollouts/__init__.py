"""Problems become scored rollouts: drawn, graded, kept."""

from __future__ import annotations

from typing import Any

from harness.moved import moved_attribute


def __getattr__(name: str) -> Any:
    return moved_attribute(__name__, name)
