"""torchmetrics, without what it would import for metrics of sound and text and for plots.

Lightning imports torchmetrics for the class `Metric` alone. With scipy, matplotlib and transformers installed that
takes three quarters of the start of `harness fit`, and no metric that training logs needs them.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from unittest.mock import patch

HIDDEN = frozenset({"matplotlib", "scipy", "transformers"})


def import_torchmetrics() -> None:
    """Import it as if the packages `HIDDEN` were not installed; call it before the first import of Lightning.

    Those of its metrics that need them say so when they are built; everything else finds the packages as ever.
    """
    if "torchmetrics" not in sys.modules:
        with _hidden():
            import torchmetrics  # noqa: F401


@contextlib.contextmanager
def _hidden() -> Iterator[None]:
    from lightning_utilities.core import imports

    version, available = imports._version, imports.package_available

    def hidden_version(name: str) -> str:
        if name in HIDDEN:
            raise PackageNotFoundError(name)
        return version(name)

    def hidden_available(name: str) -> bool:
        return name not in HIDDEN and available(name)

    with (
        patch.object(imports, "_version", hidden_version),
        patch.object(imports, "package_available", hidden_available),
    ):
        yield
