"""Where tests find what lies outside the package."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]
"""The repository."""

DATA_DIR = Path(os.environ.get("HARNESS_DATA_DIR") or ROOT.parent / "shared" / "data")
"""The benchmarks; tests that need them are skipped where they are missing."""
