"""Searches for responses: pure algorithms that yield requests, and the loop that keeps many of them in flight."""

from harness.search.driver import drive
from harness.search.sampling import Sampling

__all__ = ["Sampling", "drive"]
