"""Several servers of one model as one engine."""

from __future__ import annotations

import concurrent.futures
import contextlib
import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.engines.config import EngineConfig
from harness.engines.http import NoAnswer, ServerEngine
from harness.errors import EngineError, InputError
from harness.types import GenerationRequest, GenerationResult

log = logging.getLogger(__name__)


class Servers:
    """Samples from servers that serve the same model; each request goes to the one that has the fewest.

    A server that does not answer, however often it is asked (`EngineConfig.max_retries`), is left out from then on, and
    what it had goes to the others: samples depend on their seeds, not on who draws them.

    Raises:
        InputError: as `ServerEngine`, or the servers do not serve a model of the same name.
    """

    def __init__(self, checkpoint: str | Path, config: EngineConfig, version: str = "") -> None:
        with contextlib.ExitStack() as stack:
            self._servers: list[ServerEngine] = []
            for url in config.urls:
                self._servers.append(ServerEngine(checkpoint, replace(config, kind=url), version))
                stack.callback(self._servers[-1].close)
            first = self._servers[0]
            if other := next((server for server in self._servers if server.version != first.version), None):
                raise InputError(
                    f"{first.name} and {other.name} serve different models; give servers of one, or set model_name."
                )
            stack.pop_all()
        self.version, self.dtype = first.version, first.dtype
        self.max_context = min(server.max_context for server in self._servers)
        self.name = ", ".join(server.name if server is first else server.host for server in self._servers)
        self._requests: dict[str, tuple[GenerationRequest, ServerEngine]] = {}

    def submit(self, request: GenerationRequest) -> None:
        if request.key in self._requests:
            raise InputError(f"request '{request.key}' is already queued; give each request a key of its own.")
        server = min(self._servers, key=lambda server: server.num_pending)
        server.submit(request)
        self._requests[request.key] = (request, server)

    def poll(self) -> list[GenerationResult]:
        while self._requests:
            futures = [future for server in self._servers for future in server.futures]
            concurrent.futures.wait(futures, return_when=concurrent.futures.FIRST_COMPLETED)
            results: list[GenerationResult] = []
            for server in list(self._servers):
                try:
                    results += server.answered()
                except NoAnswer as error:
                    self._leave_out(server, error)
            for result in results:
                del self._requests[result.key]
            if results:
                return results
        return []

    def _leave_out(self, server: ServerEngine, error: NoAnswer) -> None:
        """Go on without a server; raises its error where no other is left."""
        if len(self._servers) == 1:
            raise error
        log.warning("%s The other servers draw its samples.", error)
        self._servers.remove(server)
        server.close()
        lost = [request for request, owner in self._requests.values() if owner is server]
        for request in lost:
            del self._requests[request.key]
            self.submit(request)

    @property
    def num_pending(self) -> int:
        return len(self._requests)

    def sync(self, weights: Iterable[tuple[str, Any]], version: str) -> None:
        """As `ServerEngine`; all load the weights at the same time, and one that does not answer is left out."""
        folder_of = self._servers[0].weights
        if folder_of is None:
            raise EngineError(
                "the weights of servers cannot be replaced from here; set weights_folder, or train with vllm in "
                "process."
            )
        pool = concurrent.futures.ThreadPoolExecutor(len(self._servers), thread_name_prefix="server-weights")
        with folder_of.holding(weights) as folder, pool:
            loads = [(server, pool.submit(server.load, folder, version)) for server in self._servers]
            for server, load in loads:
                try:
                    load.result()
                except NoAnswer as error:
                    self._leave_out(server, error)
        self.version = version

    def sleep(self) -> None:
        """Nothing: the servers' memory is their own."""

    def wake(self) -> None:
        """Nothing: the servers' memory is their own."""

    def close(self) -> None:
        self._requests.clear()
        for server in self._servers:
            server.close()
