"""Run generated Python programs in isolation."""

from harness.sandbox.limits import Limits
from harness.sandbox.sandbox import Sandbox

__all__ = ["Limits", "Sandbox"]
