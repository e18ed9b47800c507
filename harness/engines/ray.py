"""Many engines as one: replicas on the machines of a Ray cluster, of which any may be lost."""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from harness.engines.completion import check_request
from harness.engines.config import EngineConfig
from harness.engines.weights import in_buckets
from harness.environment import prepare_environment
from harness.errors import EngineError, InputError, first_line
from harness.types import GenerationRequest, GenerationResult

log = logging.getLogger(__name__)

SLOTS = 256
"""Samples that a replica draws at a time where `max_num_seqs` does not say."""
CALLS = 2
"""Calls under way at each replica, so that it finds the next requests when it has answered."""
MAX_LOSSES = 3
"""Times in a row that a replica may be lost before it has answered anything."""
CLOSING_SECONDS = 30.0


@dataclass(frozen=True)
class About:
    """What a replica says of its engine."""

    name: str
    dtype: str
    max_context: int


class Replica:
    """Owns one engine, in a process of its own."""

    def __init__(self) -> None:
        prepare_environment()
        self._engine: Any = None

    def open(self, checkpoint: str, config: EngineConfig, version: str, synced: str, *buckets: Bucket) -> About:
        """Open the engine; a replica that takes the place of a lost one gets the weights of the last sync, too.

        Args:
            version: of the checkpoint's weights.
            synced: version of the weights in the buckets, "" for none.
        """
        from harness.engines import open_engine

        self._engine = open_engine(checkpoint, config, version)
        if synced:
            self._engine.sync(_tensors(buckets), synced)
        return About(self._engine.name, self._engine.dtype, self._engine.max_context)

    def exchange(self, requests: list[GenerationRequest]) -> list[GenerationResult]:
        """Take requests, and return results as soon as there are some."""
        for request in requests:
            self._engine.submit(request)
        return self._engine.poll()

    def sync(self, version: str, *buckets: Bucket) -> str:
        self._engine.sync(_tensors(buckets), version)
        return self._engine.version

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()


Bucket = dict[str, tuple[str, tuple[int, ...], Any]]
"""Weights by name: number format, shape, and the bytes as a NumPy array, which Ray's store shares between processes."""


def _buckets(weights: Iterable[tuple[str, Any]]) -> Iterator[Bucket]:
    """Weights in buckets of bytes, one in memory at a time."""
    import torch

    for bucket in in_buckets(weights):
        yield {
            name: (
                str(whole.dtype).removeprefix("torch."),
                tuple(whole.shape),
                whole.view(-1).view(torch.uint8).numpy(),
            )
            for name, whole in bucket.items()
        }


def _tensors(buckets: Iterable[Bucket]) -> Iterator[tuple[str, Any]]:
    import torch

    for bucket in buckets:
        for name, (dtype, shape, content) in bucket.items():
            copy = torch.from_numpy(content.copy())  # what lies in the store cannot be written
            yield name, copy.view(getattr(torch, dtype)).view(shape)


@dataclass
class _Place:
    """A replica and what it has to do; when it is lost, another takes its place."""

    actor: Any
    opening: Any
    """Reference of its opening; None once it is open."""
    waiting: list[GenerationRequest] = field(default_factory=list)
    """Dealt to it, not sent yet."""
    pending: dict[str, GenerationRequest] = field(default_factory=dict)
    """Dealt to it, sent or not, by key."""
    calls: set[Any] = field(default_factory=set)
    """References of exchanges under way."""
    losses: int = 0

    @property
    def num_samples(self) -> int:
        return sum(request.sampling.n for request in self.pending.values())


class RayEngine:
    """Deals requests to replicas on a Ray cluster, each to the one with the least to do.

    The cluster is the one that Ray finds (`RAY_ADDRESS`, or one that was started on this machine); where there is none,
    one of this machine alone is started, and ended by `close`. A replica that is lost, alone or with its machine, is
    replaced, and what it had under way is sampled again: results are those of one engine. Replicas have devices of
    their own, so `sleep` and `wake` do nothing.

    Weights of a `sync` go once into Ray's object store, from where every machine takes them.

    Args:
        checkpoint: directory or hub name that all machines of the cluster can read.

    Raises:
        InputError: Ray is not installed, the cluster is too small, or a replica finds that the checkpoint cannot be
            used.
        EngineError: the replicas are not alike, or none of them opens.
    """

    def __init__(self, checkpoint: str | Path, config: EngineConfig, version: str = "") -> None:
        if importlib.util.find_spec("ray") is None:
            raise InputError("engine 'ray' is not installed; install the extra ray (pip install ray).")
        import ray
        from transformers import AutoConfig

        from harness.engines.weights import checkpoint_version
        from harness.models.checkpoints import check_generates, resolve_checkpoint

        path = resolve_checkpoint(checkpoint)
        check_generates(path)
        self._vocab_size: int = AutoConfig.from_pretrained(path).get_text_config().vocab_size
        self.version = version or checkpoint_version(path)
        self._owns_ray = not ray.is_initialized()
        if self._owns_ray:
            ray.init(logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False)
        self._failure = ""
        self._queue: deque[GenerationRequest] = deque()
        self._queued: set[str] = set()
        self._places: list[_Place] = []
        self._about: About | None = None
        self._synced = ""
        self._weights: list[Any] = []
        self._timeout = config.timeout
        self._room = (config.max_num_seqs or SLOTS) * 5 // 4  # some more, so that no replica runs dry
        try:
            needs, count = _size(config)
            options = {**needs, "max_restarts": 0, "scheduling_strategy": "SPREAD"}
            self._make: Any = ray.remote(Replica).options(**options).remote
            own = dataclasses.replace(config, kind=config.replica, replicas=None, replica="auto", device=None)
            self._opened_with = str(path.resolve()), own, self.version
            self._places = [_Place(*self._new()) for _ in range(count)]
            while any(place.opening is not None for place in self._places):
                self._wait()
        except BaseException:
            self.close()
            raise
        about = self._about
        assert about is not None
        self.name = f"{about.name} (x {count} by ray {ray.__version__})"
        self.dtype, self.seeds = about.dtype, config.seeds
        self.max_context: int = about.max_context

    def submit(self, request: GenerationRequest) -> None:
        self._check_usable()
        check_request(request, self.max_context, self._vocab_size, self._queued)
        self._queued.add(request.key)
        self._queue.append(request)

    def poll(self) -> list[GenerationResult]:
        self._check_usable()
        while self.num_pending:
            self._deal()
            if results := self._wait():
                self._queued -= {result.key for result in results}
                return results
        return []

    @property
    def num_pending(self) -> int:
        return len(self._queued)

    def sync(self, weights: Iterable[tuple[str, Any]], version: str) -> None:
        """Hand new weights to all replicas; the lost are replaced by others that have them."""
        import ray

        self._check_usable()
        if self._queued:
            raise EngineError(f"weight sync: {len(self._queued)} requests are still pending; poll until none is.")
        self._failure = "the last weight sync failed, so the replicas' weights are unknown; open a new engine."
        self._weights = [ray.put(bucket) for bucket in _buckets(weights)]
        self._synced = version
        # A replica that is still opening comes to this call when it has opened.
        calls = [(place, place.actor.sync.remote(version, *self._weights)) for place in self._places]
        for place, call in calls:
            found = self._result(place, call)
            if found not in (None, version):
                raise EngineError(f"weight sync: a replica has the weights '{found}', not '{version}'.")
        self._failure = ""
        self.version = version

    def sleep(self) -> None:
        """Nothing: the replicas' devices are their own."""

    def wake(self) -> None:
        """Nothing, as `sleep`."""

    def close(self) -> None:
        import ray

        self._failure = "the engine is closed."
        places, self._places = self._places, []
        self._queue.clear()
        self._queued.clear()
        if closing := [place.actor.close.remote() for place in places if place.opening is None]:
            ray.wait(closing, num_returns=len(closing), timeout=CLOSING_SECONDS)
        for place in places:
            ray.kill(place.actor)
        if self._owns_ray and ray.is_initialized():
            ray.shutdown()
        self._owns_ray = False

    def _check_usable(self) -> None:
        if self._failure:
            raise EngineError(self._failure)

    def _new(self) -> tuple[Any, Any]:
        """A new replica, and the reference of its opening."""
        actor = self._make()
        return actor, actor.open.remote(*self._opened_with, self._synced, *self._weights)

    def _deal(self) -> None:
        """Deal requests to replicas with room; what is left waits here for the first that has some."""
        ready = [place for place in self._places if place.opening is None]
        load = {id(place): place.num_samples for place in ready}
        while self._queue and ready:
            place = min(ready, key=lambda place: load[id(place)])
            if load[id(place)] >= self._room:
                break
            request = self._queue.popleft()
            place.waiting.append(request)
            place.pending[request.key] = request
            load[id(place)] += request.sampling.n
        for place in ready:
            while place.pending and len(place.calls) < CALLS:
                sent, place.waiting = place.waiting, []
                place.calls.add(place.actor.exchange.remote(sent))

    def _wait(self) -> list[GenerationResult]:
        """Wait until one of the calls under way has ended, and return the results of all that have."""
        import ray

        owners = {ref: place for place in self._places for ref in (*place.calls, place.opening) if ref is not None}
        refs = list(owners)
        idle = all(place.opening is not None for place in self._places)
        ended, _ = ray.wait(refs, num_returns=1, timeout=self._timeout if idle else None)
        if not ended:
            self._fail(f"no replica has opened within {self._timeout:g} s; see `ray status`, or raise engine.timeout.")
        ended, _ = ray.wait(refs, num_returns=len(refs), timeout=0)
        results: list[GenerationResult] = []
        for ref in ended:
            place = owners[ref]
            if ref == place.opening:
                self._opened(place)
            elif ref in place.calls:  # else its replica has been lost since
                place.calls.discard(ref)
                for result in self._result(place, ref) or ():
                    del place.pending[result.key]
                    place.losses = 0
                    results.append(result)
        return results

    def _opened(self, place: _Place) -> None:
        about = self._result(place, place.opening)
        if about is None:
            return
        place.opening = None
        self._about = self._about or about
        if about != self._about:
            self._fail(f"the replicas are not alike: one is {about}, another {self._about}.")

    def _result(self, place: _Place, ref: Any) -> Any:
        """What a call has returned; None if the replica was lost and has been replaced."""
        import ray
        from ray.exceptions import NodeDiedError, ObjectLostError, RayActorError, RayTaskError, WorkerCrashedError

        try:
            return ray.get(ref)
        except RayTaskError as error:
            cause = error.cause
            if not isinstance(cause, InputError):
                self._failure = f"a replica failed ({first_line(cause)}); open a new engine."
                cause = cause if isinstance(cause, EngineError) else EngineError(self._failure)
            raise cause from None
        except (RayActorError, NodeDiedError, ObjectLostError, WorkerCrashedError) as error:
            self._replace(place, error)
            return None

    def _replace(self, place: _Place, error: Exception) -> None:
        """Put a new replica in the place of one that was lost, and its requests in front of the others."""
        import ray

        number, place.losses = self._places.index(place), place.losses + 1
        name = type(error).__name__
        if place.losses > MAX_LOSSES:
            self._fail(f"replica {number} was lost {place.losses} times before it had answered ({name}).")
        log.warning(
            "replica %d was lost (%s); its %d requests are sampled again, a new one opens.",
            number, name, len(place.pending),
        )  # fmt: skip
        ray.kill(place.actor)  # one that is said to be unavailable may live, and hold its device
        self._queue.extendleft(reversed(place.pending.values()))
        place.waiting, place.pending, place.calls = [], {}, set()
        place.actor, place.opening = self._new()

    def _fail(self, sentence: str) -> NoReturn:
        self._failure = sentence
        raise EngineError(sentence)


def _size(config: EngineConfig) -> tuple[dict[str, float], int]:
    """What a replica needs of Ray's resources, and how many replicas there are.

    Raises:
        InputError: the cluster has not room for as many.
    """
    import ray

    total = ray.cluster_resources()
    gpus, cpus = int(total.get("GPU", 0)), int(total.get("CPU", 0))
    needs: dict[str, float]
    if gpus:
        width = config.tensor_parallel_size
        room, what = gpus // width, f"{gpus} GPUs" + (f" in groups of {width}" if width > 1 else "")
        needs = {"num_gpus": width, "num_cpus": 1}
        usual = room
    else:
        room, what = cpus, f"{cpus} CPU cores and no GPU"
        needs = {"num_gpus": 0, "num_cpus": 1}
        usual = sum(node["Alive"] for node in ray.nodes())
    count = config.replicas or usual
    if not 0 < count <= room:
        raise InputError(
            f"engine.replicas is {config.replicas or 'not given'}, and the Ray cluster has {what}: room for {room}; "
            "give at most as many, or add machines to it."
        )
    return needs, count
