"""Run as a script: `harness` as one of several ranks, whose process imported Lightning before its rank was known."""

import sys

from lightning.fabric.utilities.rank_zero import _get_rank, rank_zero_only

from harness.cli.main import main

rank_zero_only.rank = _get_rank() or 0
sys.exit(main())
