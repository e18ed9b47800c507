"""transformers behind the engine interface: where vLLM does not run, and the oracle it is tested against."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, GenerationConfig, LogitsProcessor, StoppingCriteria
from transformers.cache_utils import DynamicCache

from harness.engines.completion import Decoder, check_request, sample_seed, stop_strings, token_limit
from harness.engines.config import DEFAULT_CONFIG, EngineConfig
from harness.engines.gumbel import choose_tokens, penalize
from harness.engines.isolation import keep_random_state
from harness.engines.weights import WeightLayout, checkpoint_version
from harness.errors import EngineError, InputError, first_line
from harness.models.checkpoints import (
    check_eos,
    check_generates,
    check_vocabulary,
    eos_token_ids,
    load_tokenizer,
    resolve_checkpoint,
    stored_dtype,
)
from harness.prompts.chats import end_of_turn
from harness.types import Completion, GenerationRequest, GenerationResult

BATCH_SIZE = 64
CHUNK = 16
"""Tokens generated between two looks at which rows are done; those leave the batch."""


@dataclass(eq=False)
class _Row:
    """One sample in progress."""

    request: GenerationRequest
    index: int
    limit: int
    generator: torch.Generator | None
    stops: list[str]
    token_ids: list[int] = field(default_factory=list)
    token_logps: list[float] = field(default_factory=list)
    done: bool = False


@dataclass
class _Batch:
    """Left-padded rows with their cache; the last token of each row is not in the cache yet."""

    rows: list[_Row]
    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    cache: DynamicCache

    def keep(self, alive: list[int]) -> None:
        index = torch.tensor(alive, device=self.input_ids.device)
        self.rows = [self.rows[i] for i in alive]
        self.input_ids, self.attention_mask = self.input_ids[index], self.attention_mask[index]
        self.cache.batch_select_indices(index)


class HFEngine:
    """Samples with transformers' `generate`: batches sorted by length, finished rows leave the batch early.

    A sample depends on its own seed alone: the noise of the Gumbel-max trick comes from a random generator of its own,
    on the CPU, whatever batch it is in (up to rounding of the logits).

    Raises:
        InputError: the checkpoint cannot be used, or `max_model_len` is more than the model was made for.
    """

    def __init__(self, checkpoint: str | Path, config: EngineConfig = DEFAULT_CONFIG, version: str = "") -> None:
        path = resolve_checkpoint(checkpoint)
        check_generates(path)
        tokenizer = load_tokenizer(path)
        check_vocabulary(path, tokenizer)
        dtype = stored_dtype(path) if config.dtype == "auto" else config.dtype
        with keep_random_state(), _no_progress_bar():
            model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype))
        self._home = torch.device("cuda", config.device or 0) if torch.cuda.is_available() else None
        model.to(self._home)
        self._set_up(model, tokenizer, config, version or checkpoint_version(path), owned=True)

    @classmethod
    def from_model(
        cls, model: Any, tokenizer: Any, config: EngineConfig = DEFAULT_CONFIG, version: str = ""
    ) -> HFEngine:
        """An engine over a live transformers model, whose weights, device and dtype it shares.

        It needs no `sync` to see new weights (a sync sets the version and copies into the model). The model is in eval
        mode while it samples and as it was afterwards.
        """
        check_eos(tokenizer, type(tokenizer).__name__)
        engine = cls.__new__(cls)
        engine._set_up(model, tokenizer, config, version, owned=False)
        return engine

    def _set_up(self, model: Any, tokenizer: Any, config: EngineConfig, version: str, owned: bool) -> None:
        longest = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        if config.max_model_len and longest and config.max_model_len > longest:
            raise InputError(f"max_model_len is {config.max_model_len}, the model's limit is {longest}.")
        self.name = f"transformers {transformers.__version__}"
        self.version = version
        self.dtype = str(model.dtype).removeprefix("torch.")
        self.max_context: int = config.max_model_len or longest or 4096
        self._model = model
        self._owned = owned
        self._vocab_size: int = model.config.get_text_config().vocab_size
        self._batch_size = config.max_num_seqs or BATCH_SIZE
        self._decoder = Decoder(tokenizer, eos_token_ids(tokenizer, model.generation_config) | {end_of_turn(tokenizer)})
        self._failure = ""
        self._waiting: list[_Row] = []
        self._batch: _Batch | None = None
        self._unfinished: dict[str, tuple[GenerationRequest, dict[int, Completion]]] = {}

    def _check_usable(self) -> None:
        if self._failure:
            raise EngineError(self._failure)

    def submit(self, request: GenerationRequest) -> None:
        self._check_usable()
        check_request(request, self.max_context, self._vocab_size, self._unfinished)
        self._decoder.check_budget(request)
        sampling = request.sampling
        for index in range(sampling.n if sampling.temperature > 0 else 1):
            generator = None
            if sampling.temperature > 0:
                generator = torch.Generator().manual_seed(sample_seed(sampling, index))
            limit = token_limit(request, self.max_context)
            self._waiting.append(_Row(request, index, limit, generator, stop_strings(sampling)))
        self._unfinished[request.key] = (request, {})

    def poll(self) -> list[GenerationResult]:
        self._check_usable()
        results: list[GenerationResult] = []
        while self._unfinished and not results:
            with self._inference():
                if self._batch is None:
                    self._batch = self._next_batch()
                self._advance(self._batch)
            for row in [row for row in self._batch.rows if row.done]:
                results += self._finish(row)
            alive = [i for i, row in enumerate(self._batch.rows) if not row.done]
            if not alive:
                self._batch = None
            elif len(alive) < len(self._batch.rows):
                self._batch.keep(alive)
        return results

    def _next_batch(self) -> _Batch:
        """The shortest waiting prompts, padded on the left."""
        self._waiting.sort(key=lambda row: (len(row.request.prompt_ids), row.limit))
        rows, self._waiting = self._waiting[: self._batch_size], self._waiting[self._batch_size :]
        prompts = [torch.tensor(row.request.prompt_ids) for row in rows]
        masks = [torch.ones_like(prompt) for prompt in prompts]
        pad = torch.nn.utils.rnn.pad_sequence
        device = self._model.device
        return _Batch(
            rows,
            pad(prompts, batch_first=True, padding_value=self._pad_id, padding_side="left").to(device),
            pad(masks, batch_first=True, padding_side="left").to(device),
            DynamicCache(config=self._model.config),
        )

    @property
    def _pad_id(self) -> int:
        return min(self._decoder.eos_ids)

    def _advance(self, batch: _Batch) -> None:
        """Sample up to `CHUNK` more tokens for every row."""
        before = batch.input_ids.shape[1]
        sampler = _Sampler(batch.rows, self._decoder)
        chunk = min(CHUNK, max(row.limit - len(row.token_ids) for row in batch.rows))
        batch.input_ids = self._model.generate(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            past_key_values=batch.cache,
            generation_config=GenerationConfig(
                max_new_tokens=chunk,
                do_sample=False,  # the sampler has chosen already
                use_cache=True,
                eos_token_id=sorted(self._decoder.eos_ids),
                pad_token_id=self._pad_id,
            ),
            logits_processor=[sampler],
            stopping_criteria=[_Stopping(batch.rows, self._decoder)],
        )
        new = batch.input_ids[:, before:]
        batch.attention_mask = torch.cat([batch.attention_mask, torch.ones_like(new)], dim=1)
        logps = torch.stack(sampler.logps, dim=1).tolist()
        for row, ids, values in zip(batch.rows, new.tolist(), logps, strict=True):
            self._append(row, ids, values)

    def _append(self, row: _Row, ids: list[int], logps: list[float]) -> None:
        for token, logp in zip(ids, logps, strict=True):
            row.token_ids.append(token)
            row.token_logps.append(logp)
            if token in self._decoder.eos_ids or _at_end(row, row.token_ids, self._decoder):
                row.done = True
                return

    def _finish(self, row: _Row) -> list[GenerationResult]:
        request, completions = self._unfinished[row.request.key]
        completions[row.index] = self._decoder.completion(
            request, row.token_ids, sum(row.token_logps), token_logps=row.token_logps
        )
        expected = request.sampling.n if request.sampling.temperature > 0 else 1
        if len(completions) < expected:
            return []
        del self._unfinished[request.key]
        ordered = tuple(completions[index % expected] for index in range(request.sampling.n))
        return [GenerationResult(request.key, ordered)]

    @contextlib.contextmanager
    def _inference(self) -> Iterator[None]:
        training, defaults = self._model.training, self._model.generation_config
        self._model.eval()
        # The checkpoint's sampling defaults (such as a repetition penalty) must not change what a request asks for.
        self._model.generation_config = GenerationConfig()
        try:
            with torch.no_grad(), torch.autocast(self._model.device.type, enabled=False):
                yield
        finally:
            self._model.generation_config = defaults
            self._model.train(training)

    @property
    def num_pending(self) -> int:
        return len(self._unfinished)

    def sync(self, weights: Iterable[tuple[str, Any]], version: str) -> None:
        self._check_usable()
        if self._unfinished:
            raise EngineError(f"weight sync: {len(self._unfinished)} requests are still pending; poll until none is.")
        self._failure = "the last weight sync failed, so the engine's weights are unknown; open a new engine."
        try:
            own = self._model.state_dict()
            for name, tensor in WeightLayout.of(self._model).checked(weights):
                if tensor.data_ptr() != own[name].data_ptr():
                    own[name].copy_(tensor)
        except Exception as error:
            self._failure = f"{self._failure} The sync failed with: {first_line(error)}"
            raise
        self._failure = ""
        self.version = version

    def sleep(self) -> None:
        self._check_usable()
        if self._unfinished:
            raise EngineError(f"sleep: {len(self._unfinished)} requests are still pending; poll until none is.")
        if self._owned and self._model.device.type == "cuda":
            self._model.to("cpu")
            torch.cuda.empty_cache()

    def wake(self) -> None:
        self._check_usable()
        if self._owned and self._home is not None:
            self._model.to(self._home)

    def close(self) -> None:
        self._failure = "the engine is closed."
        self._waiting, self._batch = [], None
        self._unfinished.clear()
        self._model = None


class _Sampler(LogitsProcessor):
    """Chooses the next token of every row and leaves only that one possible; keeps its log-probability."""

    def __init__(self, rows: list[_Row], decoder: Decoder) -> None:
        self.logps: list[torch.Tensor] = []
        self._generators = [row.generator for row in rows]
        self._settings = [row.request.sampling for row in rows]
        self._penalties = [setting.repetition_penalty for setting in self._settings]
        self._seen = [[*row.request.prompt_ids, *row.token_ids] for row in rows]
        self._thoughts = [decoder.follow(row.request, row.token_ids) for row in rows]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        shaped = scores.float()
        if any(penalty != 1 for penalty in self._penalties):
            shaped = penalize(shaped, self._seen, self._penalties)
        chosen = choose_tokens(shaped, self._settings, self._generators)
        for row, (thought, setting) in enumerate(zip(self._thoughts, self._settings, strict=True)):
            if thought and thought.is_open and thought.length >= (setting.thinking_budget or 0):
                chosen[row] = thought.end
        for row, token in enumerate(chosen.tolist()):
            self._seen[row].append(token)
            if thought := self._thoughts[row]:
                thought.read(token)
        self.logps.append(scores.float().log_softmax(-1).gather(1, chosen[:, None])[:, 0])
        return torch.full_like(scores, -torch.inf).scatter(1, chosen[:, None], 0.0)


class _Stopping(StoppingCriteria):
    """Marks the rows that have reached their own limit or one of their own stop strings (transformers checks EOS)."""

    def __init__(self, rows: list[_Row], decoder: Decoder) -> None:
        self._rows = rows
        self._decoder = decoder
        self._done = [False] * len(rows)
        self._ids = [list(row.token_ids) for row in rows]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        for i, token in enumerate(input_ids[:, -1].tolist()):
            if not self._done[i]:
                self._ids[i].append(token)
                self._done[i] = _at_end(self._rows[i], self._ids[i], self._decoder)
        return torch.tensor(self._done, device=input_ids.device)


@contextlib.contextmanager
def _no_progress_bar() -> Iterator[None]:
    shown = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers.utils.logging.enable_progress_bar()


def _at_end(row: _Row, token_ids: list[int], decoder: Decoder) -> bool:
    """Whether the last of these tokens completes a stop string of the row or is the last it may have."""
    if len(token_ids) >= row.limit:
        return True
    if not row.stops:
        return False
    # A token holds at least a quarter of a character, so the string that the last token completes is in this tail.
    tail = token_ids[-4 * max(map(len, row.stops)) :]
    text = decoder.decode(tail)
    return any(stop in text for stop in row.stops)
