"""Several independent searches over one problem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from harness.protocols import Parallel, Search, SearchMethod
from harness.search.driver import own_seed
from harness.types import Response, Rollout, SamplingConfig


@dataclass(frozen=True)
class Forest:
    """Run a search `num_trees` times, each with its own seed and all at once, and keep the best of each.

    rStar-Math (arXiv:2501.04519) calls the best responses of 64 trees "64 trajectories" and votes over them.
    """

    search: SearchMethod
    """It must return its best response first."""
    num_trees: int = 8
    keep: int = 1
    """Responses kept of each."""

    @property
    def judges(self) -> bool:
        """Whether what it finds depends on the reward."""
        return getattr(self.search, "judges", True)

    def __call__(self, rollout: Rollout, sampling: SamplingConfig) -> Search:
        """Return the kept responses, tree by tree."""
        seeds = [own_seed(sampling, "tree", index) for index in range(self.num_trees)]
        searches = tuple(self.search(rollout, own) for own in seeds)
        results = cast(list[list[Response]], (yield Parallel(searches)))
        return [response for responses in results for response in responses[: self.keep]]
