"""What the command line knows of a command before it imports it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """One line of the help."""

    summary: str
    function: str = ""
    """`module:function` whose typed parameters are the options; "" for the four that LightningCLI runs."""

    positional: tuple[str, ...] = ()
    """Options that bare words at the front stand for, in this order; where the last is a list it takes the rest."""

    writes: str = ""
    """Option that names a file which nothing else may write while the command runs."""

    def load(self) -> Callable[..., int | None]:
        """Import the function."""
        module, _, attribute = self.function.partition(":")
        return getattr(importlib.import_module(module), attribute)
