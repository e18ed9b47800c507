"""Any server that speaks the OpenAI completions API, such as vLLM's on another machine."""

from __future__ import annotations

import concurrent.futures
import itertools
import json
import logging
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from harness.engines.answers import (
    Choice,
    Malformed,
    Model,
    choices,
    models,
    printable,
    succeeded,
    token_ids,
    weight_version,
)
from harness.engines.completion import Decoder, check_request, sample_seed, stop_strings, token_limit
from harness.engines.config import EngineConfig
from harness.engines.deadline import DeadlineTransport, deadline
from harness.engines.server_weights import WeightsFolder
from harness.errors import EngineError, InputError
from harness.models.checkpoints import load_tokenizer, resolve_checkpoint
from harness.prompts.chats import end_of_turn
from harness.types import NEUTRAL, Completion, GenerationRequest, GenerationResult

log = logging.getLogger(__name__)

CONNECTIONS = 32
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds before the second attempt, and the most before any; each pause is twice the one before."""
MAX_STOPS = 4
"""The API's own limit."""
PROBE = (
    "Question 12: is 3,456 + 7.5e-3 = \\frac{1}{2}?\n\n\tdef f(x):\n    return x  # n\u00e9 \u65e5\u672c \U0001f642\n"
)
"""Text of many kinds, in whose tokens two tokenizers would differ."""
BUSY = (408, 409, 429, 500, 502, 503, 504)
MAX_ANSWER = 64 << 20
"""Bytes of one answer; a longer one is not read to its end."""


@dataclass(frozen=True)
class Answer:
    """An answer that was read whole."""

    status: int
    body: bytes
    retry_after: str


class NoAnswer(EngineError):
    """A server does not answer, however often it is asked."""


class ServerEngine:
    """Samples from a server. `sleep` and `wake` do nothing, and without `config.weights_folder` `sync` is refused.

    With it a vLLM server loads new weights from there by vLLM's own commands, which it offers where it was started with
    VLLM_SERVER_DEV_MODE=1. After every answer it is asked what weights it holds, so that one which was started again is
    noticed.

    A vLLM server gives the sampled token ids and says which stop string it met, so that results are those of
    `VLLMEngine`. Other servers return text: `token_ids` stays empty, `logp` is NaN where they give no
    log-probabilities, and `step_stop` is refused. Whether they heed seeds is theirs to say.

    A vLLM server is also asked for the tokens of a text, which must be those of the tokenizer at hand.

    What a server sends is not trusted: an answer has one deadline (`config.timeout`) and 64 MiB, must be of the API's
    form and hold no more tokens than were asked for; names and messages are shown without control characters.

    The bearer token is read from the environment variable `config.api_key_env` and appears in no message.

    Args:
        checkpoint: directory or hub name of the served model's tokenizer.

    Raises:
        InputError: no server answers there, it does not offer the model, its context length is unknown, or it has
            another tokenizer.
    """

    def __init__(self, checkpoint: str | Path, config: EngineConfig, version: str = "") -> None:
        tokenizer = load_tokenizer(resolve_checkpoint(checkpoint, weights=False))
        self._decoder = Decoder(tokenizer, frozenset([tokenizer.eos_token_id, end_of_turn(tokenizer)]))
        self._vocab_size = len(tokenizer)
        self._url = config.urls[0].rstrip("/").removesuffix("/v1")
        self.host = urlsplit(self._url).netloc.rpartition("@")[2]
        self._retries = config.max_retries
        connections = config.max_num_seqs or CONNECTIONS
        key = os.environ.get(config.api_key_env, "")
        self._timeout = config.timeout
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=config.timeout,
            transport=DeadlineTransport(httpx.Limits(max_connections=connections)),
        )
        model = self._find_model(config)
        self._model, self._is_vllm = model.id, model.is_vllm
        if self._is_vllm:
            self._check_tokenizer(tokenizer, str(checkpoint))
        limit = config.max_model_len or model.max_model_len
        if limit is None:
            raise InputError(f"server {self.host} does not say how long its context is; set max_model_len.")
        self.max_context: int = limit
        self.dtype = ""
        self.weights = self._open_weights(config, checkpoint) if config.weights_folder else None
        self.name = f"server {self.host} ({printable(self._model)})"
        self.version = version or f"server:{printable(self._model)}"
        self._pool = concurrent.futures.ThreadPoolExecutor(connections, thread_name_prefix="server-engine")
        self._futures: dict[concurrent.futures.Future[tuple[Completion, ...]], str] = {}
        self._failure = ""
        self._synced = ""
        """Name of the weights that the server was given; "" as long as it has its own."""

    def _find_model(self, config: EngineConfig) -> Model:
        try:
            answer = self._exchange("GET", "v1/models", min(config.timeout, 10.0))
            if answer.status != 200:
                raise InputError(f"server {self.host} does not list its models: {_complaint(answer)}.")
            offered = models(answer.body)
        except httpx.HTTPError as error:
            raise InputError(f"no server answers at {self.host} ({type(error).__name__}); is it running?") from None
        except Malformed as error:
            raise InputError(
                f"server {self.host} lists its models in a form that is not the API's ({error}); is it one?"
            ) from None
        name = config.model_name or (next(iter(offered)) if len(offered) == 1 else "")
        if name not in offered:
            names = printable(", ".join(sorted(offered))[:1000]) or "none"
            raise InputError(f"server {self.host} does not offer model '{name}'; set model_name to one of: {names}.")
        return offered[name]

    def _check_tokenizer(self, tokenizer: Any, checkpoint: str) -> None:
        """Raise `InputError` if the server turns text into other tokens than the tokenizer at hand."""
        text = PROBE + "".join(tokenizer.all_special_tokens)
        body = {"model": self._model, "prompt": text, "add_special_tokens": False}
        try:
            answer = self._insist("tokenize", min(self._timeout, 10.0), body)
            if answer.status in (404, 405):  # a gateway may hand on the API's paths alone
                log.warning("Server %s does not say how it tokenises, so that is not compared.", self.host)
                return
            if answer.status != 200:
                raise InputError(f"server {self.host} does not tokenise: {_complaint(answer)}.")
            theirs = token_ids(answer.body)
        except httpx.HTTPError as error:
            raise InputError(f"server {self.host} does not tokenise ({type(error).__name__}).") from None
        except Malformed as error:
            raise InputError(f"server {self.host} tokenises in a form that is not the API's ({error}).") from None
        ours = tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
        if theirs != ours:
            pairs = itertools.zip_longest(theirs, ours)
            at, (given, expected) = next((at, pair) for at, pair in enumerate(pairs) if pair[0] != pair[1])
            raise InputError(
                f"server {self.host} tokenises otherwise than {checkpoint}: token {at} of a text of {len(ours)} is "
                f"{given}, not {expected}; give the checkpoint that the server has loaded."
            )

    def _open_weights(self, config: EngineConfig, checkpoint: str | Path) -> WeightsFolder:
        """Raise `InputError` if the server does not take weights."""
        assert config.weights_folder is not None
        try:
            status = self._exchange("GET", "weight_info", min(self._timeout, 10.0)).status
        except httpx.HTTPError as error:
            raise InputError(
                f"server {self.host} does not say what weights it holds ({type(error).__name__})."
            ) from None
        if status != 200:
            raise InputError(
                f"server {self.host} does not take weights (HTTP {status}): start it with VLLM_SERVER_DEV_MODE=1 where "
                "only trusted machines reach it, or train with vllm in process."
            )
        self.dtype = "" if config.dtype == "auto" else config.dtype
        return WeightsFolder(config.weights_folder, checkpoint)

    def _exchange(self, method: str, path: str, seconds: float, body: dict[str, Any] | None = None) -> Answer:
        """Ask, and read the whole answer. Raises `httpx.HTTPError`, and `Malformed` for an answer that is too long."""
        parts, size = [], 0
        with deadline(seconds), self._client.stream(method, f"{self._url}/{path}", json=body) as response:
            for part in response.iter_bytes():
                size += len(part)
                if size > MAX_ANSWER:
                    raise Malformed(f"more than {MAX_ANSWER >> 20} MiB")
                parts.append(part)
            return Answer(response.status_code, b"".join(parts), response.headers.get("Retry-After", "0"))

    def submit(self, request: GenerationRequest) -> None:
        if self._failure:
            raise EngineError(self._failure)
        check_request(request, self.max_context, self._vocab_size, set(self._futures.values()))
        if len(stop_strings(request.sampling)) > MAX_STOPS:
            raise InputError(f"request '{request.key}': servers take at most {MAX_STOPS} stop strings.")
        self._decoder.check_budget(request)
        if (shaped := request.sampling.identity().keys() & NEUTRAL) and not self._is_vllm:
            raise InputError(
                f"request '{request.key}': server {self.host} is not known to take {', '.join(sorted(shaped))}; use "
                "a vLLM server."
            )
        if request.sampling.step_stop and not self._is_vllm:
            raise InputError(
                f"request '{request.key}': server {self.host} does not say which stop string it met, so it cannot "
                "sample step by step; use a vLLM server."
            )
        self._futures[self._pool.submit(self._sample, request)] = request.key

    def poll(self) -> list[GenerationResult]:
        concurrent.futures.wait(self.futures, return_when=concurrent.futures.FIRST_COMPLETED)
        return self.answered()

    @property
    def futures(self) -> list[concurrent.futures.Future[Any]]:
        """What there is to wait for."""
        return list(self._futures)

    def answered(self) -> list[GenerationResult]:
        """As `poll`, without waiting."""
        done = [future for future in self._futures if future.done()]
        answered = [future for future in done if future.exception() is None]
        if done and not answered:
            failed = done[0]
            del self._futures[failed]
            failed.result()
        return [GenerationResult(self._futures.pop(future), future.result()) for future in answered]

    def _sample(self, request: GenerationRequest) -> tuple[Completion, ...]:
        """All samples of a request; in one call where the server is known to seed sample j with seed + j."""
        n = request.sampling.n
        if request.sampling.temperature == 0:
            return self._ask(request, 0, 1) * n
        if self._is_vllm:
            return self._ask(request, 0, n)
        return tuple(self._ask(request, index, 1)[0] for index in range(n))

    def _ask(self, request: GenerationRequest, index: int, n: int) -> tuple[Completion, ...]:
        sampling = request.sampling
        body: dict[str, Any] = {
            "model": self._model,
            "prompt": list(request.prompt_ids),
            "n": n,
            "max_tokens": token_limit(request, self.max_context),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": sample_seed(sampling, index),
            "logprobs": 0 if self._is_vllm else 1,
        }
        if stop := stop_strings(sampling):
            body["stop"] = stop
        if sampling.top_k:
            body["top_k"] = sampling.top_k
        if self._is_vllm:
            body |= {
                # Said outright, because the server fills what is left out from the checkpoint's generation config.
                "top_k": sampling.top_k,
                "min_p": sampling.min_p,
                "repetition_penalty": sampling.repetition_penalty,
                "presence_penalty": 0.0,
                "frequency_penalty": 0.0,
                "include_stop_str_in_output": True,
                "return_token_ids": True,
            }
            if sampling.thinking_budget is not None:
                body["thinking_token_budget"] = sampling.thinking_budget
        try:
            found = choices(self._post(request.key, body), n, body["max_tokens"])
        except Malformed as error:
            raise EngineError(
                f"request '{request.key}': server {self.host} answered in a form that is not the API's ({error})."
            ) from None
        if self._synced:
            self._check_weights(request.key)
        return tuple(self._completion(request, choice) for choice in found)

    def _check_weights(self, key: str) -> None:
        """Raise `NoAnswer` unless the server holds the weights that it was given: started again, it has its own."""
        try:
            answer = self._exchange("GET", "weight_info", self._timeout)
            held = weight_version(answer.body) if answer.status == 200 else f"HTTP {answer.status}"
        except (httpx.HTTPError, Malformed) as error:
            held = f"{type(error).__name__}"
        if held != self._synced:
            raise NoAnswer(
                f"request '{key}': server {self.host} holds the weights '{printable(held)}' and not those that it was "
                "given; was it started again?"
            )

    def _completion(self, request: GenerationRequest, choice: Choice) -> Completion:
        ids, matched = choice.token_ids, choice.stop_reason
        if ids is None:
            return Completion(choice.text, (), choice.logp, "length" if choice.finish_reason == "length" else "stop")
        # A server may leave out the first value, or give none.
        logps = choice.token_logps if len(choice.token_logps) == len(ids) else ()
        if choice.finish_reason == "stop" and ids and not isinstance(matched, str):
            # Ended by one of the EOS tokens of the server's own generation config.
            decoder = Decoder(self._decoder.tokenizer, self._decoder.eos_ids | {ids[-1]})
            return decoder.completion(request, ids, choice.logp, token_logps=logps)
        stop = matched if isinstance(matched, str) else None
        return self._decoder.completion(request, ids, choice.logp, stop, token_logps=logps)

    def _post(self, key: str, body: dict[str, Any]) -> bytes:
        try:
            answer = self._insist("v1/completions", self._timeout, body)
        except httpx.HTTPError as error:
            reason = f"{type(error).__name__} after {self._retries + 1} attempts"
            raise NoAnswer(f"request '{key}': server {self.host} gave no answer ({reason}).") from None
        if answer.status != 200:
            raise EngineError(f"request '{key}': server {self.host} refused it: {_complaint(answer)}.")
        return answer.body

    def _insist(self, path: str, seconds: float, body: dict[str, Any]) -> Answer:
        """As `_exchange`, again and again while the server is busy or gives no answer."""
        pause = FIRST_PAUSE
        for attempt in range(self._retries + 1):
            last = attempt == self._retries
            try:
                answer = self._exchange("POST", path, seconds, body)
            except httpx.HTTPError:
                if last:
                    raise
            else:
                if last or answer.status not in BUSY:
                    return answer
                pause = max(pause, _retry_after(answer))
            time.sleep(min(pause, LONGEST_PAUSE))
            pause *= 2
        raise AssertionError("unreachable: the last attempt returns or raises")

    @property
    def num_pending(self) -> int:
        return len(self._futures)

    def sync(self, weights: Iterable[tuple[str, Any]], version: str) -> None:
        if self.weights is None:
            raise EngineError(
                f"the weights of server {self.host} cannot be replaced from here; set weights_folder, or train with "
                "vllm in process."
            )
        with self.weights.holding(weights) as folder:
            self.load(folder, version)

    def load(self, folder: Path, version: str) -> None:
        """Have the server take the weights that lie in a folder, and forget what it has cached of others.

        Raises:
            NoAnswer: it does not answer.
            EngineError: it refuses, does not see the folder, or has requests pending; it cannot be used any more.
        """
        if self._futures:
            raise EngineError(f"weight sync: {len(self._futures)} requests are still pending; poll until none is.")
        self._failure = f"the last weight sync failed, so the weights of server {self.host} are unknown."
        self._command("collective_rpc", {"method": "reload_weights", "kwargs": {"weights_path": str(folder)}})
        if not succeeded(self._command("reset_prefix_cache", {})):
            raise EngineError(f"weight sync: server {self.host} could not reset its prefix cache; does another use it?")
        self._command("update_weight_version", {"new_version": version})
        self._failure, self._synced, self.version = "", version, version

    def _command(self, path: str, body: dict[str, Any]) -> bytes:
        try:
            answer = self._insist(path, self._timeout, body)
        except httpx.HTTPError as error:
            raise NoAnswer(f"weight sync: server {self.host} gave no answer ({type(error).__name__}).") from None
        if answer.status != 200:
            raise EngineError(
                f"weight sync: server {self.host} refused {path}: {_complaint(answer)}; does it see weights_folder "
                "under the same path?"
            )
        return answer.body

    def sleep(self) -> None:
        """Nothing: a server's memory is its own."""

    def wake(self) -> None:
        """Nothing: a server's memory is its own."""

    def close(self) -> None:
        self._failure = "the engine is closed."
        self._futures.clear()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._client.close()


def _complaint(answer: Answer) -> str:
    """The server's own words for an error, in one line."""
    try:
        content = json.loads(answer.body)
        error = content.get("error", content) if isinstance(content, dict) else content
        message = error.get("message", error) if isinstance(error, dict) else error
    except (ValueError, RecursionError):
        message = answer.body[:1000].decode(errors="replace")
    line = printable(" ".join(str(message).split())[:300].rstrip("."))
    return f"HTTP {answer.status}, {line}" if line else f"HTTP {answer.status}"


def _retry_after(answer: Answer) -> float:
    try:
        return float(answer.retry_after)
    except ValueError:
        return 0.0
