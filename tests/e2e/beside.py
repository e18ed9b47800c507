"""Pieces of a run with `staleness: 1` whose sampling and training wait for one another, and note when they worked.

Where `MEET` is set, the first search of iteration k+1 for a training problem waits until the first step of epoch k is
done, and the second step waits until most searches of iteration k+1 are: a run that does not sample beside its training
never ends. `MEET` is the number of searches that earlier starts of the run have done. The search of the number
`FAIL_AT` fails, at that of the number `KILL_AT` the process kills itself.
"""

import os
import signal
import threading
import time
from pathlib import Path

from lightning.pytorch import Callback

from harness.errors import InputError
from harness.protocols import Search
from harness.search import Sampling
from harness.store import write_json
from harness.types import Rollout, SamplingConfig
from tests.e2e.small import NUM_PROBLEMS

NUM_STEPS = 3
"""Steps of an iteration."""
MOST = 10
"""Searches of an iteration that are done when the second step beside it ends."""
PATIENCE = 300.0
MEET = os.environ.get("MEET")

changed = threading.Condition()
done = {"searches": int(MEET or 0), "steps": 0}
stamps: dict[str, float] = {}
"""When a search or a step of a number had ended, on one clock."""


def count(what):
    with changed:
        done[what] += 1
        stamps[f"{what} {done[what]}"] = time.monotonic()
        changed.notify_all()
        return done[what]


def wait_for(what, number):
    with changed:
        assert changed.wait_for(lambda: done[what] >= number, PATIENCE), f"{done[what]} {what}, not {number}"


class MeetingSearch:
    def __call__(self, rollout: Rollout, sampling: SamplingConfig) -> Search:
        responses = yield from Sampling()(rollout, sampling)
        if rollout.problem.id.split("/")[1] == "train":
            before = done["searches"]
            if MEET and before and before % NUM_PROBLEMS == 0:
                wait_for("steps", NUM_STEPS * (before // NUM_PROBLEMS - 1) + 1)
            number = str(count("searches"))
            if number == os.environ.get("KILL_AT"):
                os.kill(os.getpid(), signal.SIGKILL)
            if number == os.environ.get("FAIL_AT"):
                raise InputError("a search has failed; mend it.")
        return responses


class MeetingTraining(Callback):
    def on_train_batch_end(self, trainer, *_):
        epoch, batch = divmod(done["steps"], NUM_STEPS)
        if MEET and batch == 1 and epoch + 1 < trainer.max_epochs:
            wait_for("searches", NUM_PROBLEMS * (epoch + 1) + MOST)
        count("steps")

    def on_fit_end(self, trainer, pl_module):
        write_json(Path(trainer.default_root_dir) / "stamps.json", stamps)
