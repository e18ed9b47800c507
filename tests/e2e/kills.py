"""Pieces of a run that end their own process at a named moment, which `KILL_AT` holds, with SIGKILL or the signal whose
number `KILL_WITH` holds. Moments are
"search probe 16", the 16th search of the process for a problem of that split that is about to hand in its responses,
"score train 30" and "select 2", counted likewise, "step 5", the end of an optimizer step, and "open PATTERN 1",
"os.rename PATTERN 2", ...: before a file operation of which Python tells its audit hooks, on a path that fits. And
"reward 1", the first call of the reward, with which every rank ends its share of a block, however small.

At the moments that `SLOW_AT` holds, separated by commas, a rank takes five times the time-out of its process group.
"""

import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from lightning.pytorch import Callback

from harness.protocols import Search, Selection
from harness.rewards import ArithmeticSteps
from harness.search import Sampling
from harness.selection import TopK
from harness.types import Problem, Response, Rollout, RolloutConfig, SamplingConfig, Score

FILE_OPERATIONS = ("open", "os.rename", "os.link", "os.remove", "os.symlink", "shutil.rmtree", "shutil.copytree")
seen = Counter()


def moment(name):
    """End the process if its moment has come."""
    seen[name] += 1
    now = f"{name} {seen[name]}"
    if os.environ.get("KILL_AT") == now:
        os.kill(os.getpid(), int(os.environ.get("KILL_WITH", signal.SIGKILL)))
    if now in os.environ.get("SLOW_AT", "").split(","):
        group = torch.distributed.distributed_c10d._get_default_group()
        time.sleep(5 * group._get_backend(torch.device("cpu")).options._timeout.total_seconds())


def split_of(problem):
    """`arithmetic/probe/0/7` is a problem of the split `probe`."""
    return problem.id.split("/")[1]


class KilledSearch:
    def __call__(self, rollout: Rollout, sampling: SamplingConfig) -> Search:
        responses = yield from Sampling()(rollout, sampling)
        moment(f"search {split_of(rollout.problem)}")
        return responses


class KilledReward:
    def __call__(
        self, problems: Sequence[Problem], responses: Sequence[Response], correct: Sequence[bool]
    ) -> list[Score]:
        scores = ArithmeticSteps()(problems, responses, correct)
        moment("reward")
        for problem in problems:
            moment(f"score {split_of(problem)}")
        return scores


class KilledSelector:
    def __call__(
        self, rollouts: Sequence[Rollout], config: RolloutConfig, render: Callable[[Problem], str]
    ) -> Selection:
        rows = TopK(keep_cut=True, keep_unanswered=True)(rollouts, config, render)
        moment("select")
        return rows


class KilledTraining(Callback):
    def on_train_batch_end(self, trainer, *_):
        moment("step")


def watch_files():
    """Make moments of the operations on files that the wanted pattern fits."""
    operation, _, rest = os.environ.get("KILL_AT", "").partition(" ")
    pattern = rest.rpartition(" ")[0]
    if operation not in FILE_OPERATIONS:
        return

    def hook(event, arguments):
        if event == operation and any(re.search(pattern, str(a)) for a in arguments[:2] if isinstance(a, str | Path)):
            moment(f"{operation} {pattern}")

    sys.addaudithook(hook)


watch_files()
