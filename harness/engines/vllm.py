"""vLLM inside the training process: continuous batching, weights replaced in memory."""

from __future__ import annotations

import atexit
import contextlib
import gc
import itertools
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from harness.engines.completion import (
    Decoder,
    check_request,
    sample_seed,
    stop_strings,
    thought_tokens,
    token_limit,
)
from harness.engines.config import DEFAULT_CONFIG, EngineConfig
from harness.engines.isolation import (
    VLLM_GROUP,
    RandomStream,
    keep_environment,
    keep_random_state,
    keep_torch_threads,
    quiet,
)
from harness.engines.memory import DEFAULT_SHARE, cached_values
from harness.engines.vllm_model import (
    after_reload,
    before_reload,
    config_overrides,
    forget_rotary_tables,
    keep_transformers_classes,
    make_expert_group,
)
from harness.engines.weights import WeightLayout, checkpoint_version
from harness.errors import EngineError, InputError, first_line
from harness.models.checkpoints import (
    check_generates,
    check_vocabulary,
    eos_token_ids,
    load_tokenizer,
    resolve_checkpoint,
    stored_dtype,
)
from harness.progress import tell
from harness.prompts.chats import END_OF_THOUGHT, THOUGHT, end_of_turn
from harness.types import GenerationRequest, GenerationResult

MIB = 2**20
CPU_CACHE_RANGE = (64 * MIB, 4096 * MIB)
CPU_BATCH_TOKENS = 4096
"""Tokens of one step at least, prompts included."""

_open_engines: set[VLLMEngine] = set()
"""Held until they are closed, because vLLM's own finalizer would destroy the trainer's process groups."""


class VLLMEngine:
    """Samples with vLLM (https://github.com/vllm-project/vllm), whose engine loop runs in this process.

    A request joins the running batch at the next step. Global random state, environment, thread count and process
    groups are the same after every call as before it. Several engines may be open at once; each must be closed.

    Raises:
        InputError: the checkpoint cannot be used, or `max_model_len` is more than the model was made for.
    """

    def __init__(self, checkpoint: str | Path, config: EngineConfig = DEFAULT_CONFIG, version: str = "") -> None:
        self._path = resolve_checkpoint(checkpoint)
        check_generates(self._path)
        tokenizer = load_tokenizer(self._path)
        check_vocabulary(self._path, tokenizer)
        self._failure = ""
        self.seeds = config.seeds
        self._stream = RandomStream()
        self._keys: dict[str, GenerationRequest] = {}
        self._queued: set[str] = set()
        self._ids = itertools.count()
        self._asleep = self._has_room = False
        tell(f"starting vLLM on {checkpoint} ...")
        with keep_random_state():
            self._layout = WeightLayout.of_checkpoint(self._path)
            with self._isolated():
                try:
                    self._start(config, thought_tokens(tokenizer) is not None)
                except Exception:
                    _forget_parallel_state()
                    raise
        from transformers import GenerationConfig
        from vllm import __version__

        fp8 = config.dtype == "fp8"
        self.name = f"vllm {__version__}{' fp8' if fp8 else ''}"
        self.version = version or checkpoint_version(self._path)
        model_config = self._engine.vllm_config.model_config
        self.dtype = "fp8" if fp8 else str(model_config.dtype).removeprefix("torch.")
        self.max_context: int = model_config.max_model_len
        self._vocab_size: int = model_config.get_vocab_size()
        defaults = None
        if (self._path / "generation_config.json").is_file():
            defaults = GenerationConfig.from_pretrained(self._path)
        self._decoder = Decoder(tokenizer, eos_token_ids(tokenizer, defaults) | {end_of_turn(tokenizer)})

    def _start(self, config: EngineConfig, thinks: bool) -> None:
        import torch
        from transformers import AutoConfig
        from vllm.config.reasoning import ReasoningConfig
        from vllm.engine.arg_utils import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine
        from vllm.v1.executor.uniproc_executor import UniProcExecutor

        whole = AutoConfig.from_pretrained(self._path)
        model = whole.get_text_config()
        longest = getattr(model, "max_position_embeddings", None)
        if config.max_model_len and longest and config.max_model_len > longest:
            raise InputError(f"{self._path}: max_model_len is {config.max_model_len}, the model's limit is {longest}.")
        heads, parts = getattr(model, "num_attention_heads", None), config.tensor_parallel_size
        if isinstance(heads, int) and heads % parts:
            raise InputError(
                f"{self._path}: tensor_parallel_size {parts} does not divide the model's {heads} attention heads; set "
                f"it to a divisor of {heads}."
            )
        self._cuda = torch.cuda.is_available()
        context = config.max_model_len or longest
        max_num_seqs = config.max_num_seqs or (256 if self._cuda else 128)
        cache = config.kv_cache_bytes
        if cache is None and not self._cuda:
            cache = _cpu_cache_bytes(model, max_num_seqs, context or CPU_BATCH_TOKENS)
        reasoning = ReasoningConfig(reasoning_start_str=THOUGHT, reasoning_end_str=END_OF_THOUGHT) if thinks else None
        arguments = EngineArgs(
            model=str(self._path),
            dtype=_dtype(config, self._path),  # type: ignore[arg-type]
            quantization="fp8_per_channel" if config.dtype == "fp8" else None,
            max_model_len=context,  # type: ignore[arg-type]
            max_num_seqs=max_num_seqs,
            kv_cache_memory_bytes=cache,
            gpu_memory_utilization=config.gpu_memory_utilization or DEFAULT_SHARE,
            tensor_parallel_size=config.tensor_parallel_size,
            **self._placement(config),
            seed=config.seed,
            hf_overrides=config_overrides(whole),
            enforce_eager=not self._cuda if config.enforce_eager is None else config.enforce_eager,
            enable_sleep_mode=self._cuda and config.enable_sleep,
            enable_prefix_caching=True,
            generation_config="vllm",  # the checkpoint's sampling defaults must not change what a request asks for
            # A prompt is never split over two steps on a CPU, where vLLM 0.32 cannot rewind a seeded random generator
            # after the first of them (RuntimeError: CPU Generator does not use offset).
            enable_chunked_prefill=self._cuda,
            max_num_batched_tokens=None if self._cuda else max(context or 0, CPU_BATCH_TOKENS),
            reasoning_config=reasoning,  # type: ignore[arg-type]
            disable_log_stats=True,
            use_tqdm_on_load=False,
        )
        forget_rotary_tables()
        with keep_transformers_classes() as adopt:
            vllm_config = arguments.create_engine_config()
            if config.dtype == "fp8":
                _check_fp8(vllm_config.model_config.is_moe)
            executor = self._executor(vllm_config, config)
            # vLLM may take worker processes for a single device too.
            self._parallel = not issubclass(executor, UniProcExecutor)
            if vllm_config.model_config.is_moe and not self._parallel:
                make_expert_group(vllm_config)
            self._engine = LLMEngine(
                vllm_config=vllm_config,
                executor_class=executor,
                log_stats=False,
                multiprocess_mode=False,
            )
            if not self._parallel:  # else the model is in other processes, which keep what vLLM did to them
                self._engine.apply_model(adopt)
        _open_engines.add(self)

    def _placement(self, config: EngineConfig) -> dict[str, Any]:
        """Arguments of vLLM that say where it runs."""
        return {
            "distributed_executor_backend": config.distributed_executor_backend,
            "device_ids": None if config.device is None else [config.device],
        }

    def _executor(self, vllm_config: Any, config: EngineConfig) -> type:
        """What runs vLLM's model."""
        from vllm.v1.executor import Executor

        return Executor.get_class(vllm_config)

    @contextlib.contextmanager
    def _isolated(self) -> Iterator[None]:
        with keep_environment(), quiet():
            import vllm  # noqa: F401 - sets environment variables when it is imported

            with keep_torch_threads(), VLLM_GROUP.entered():
                yield

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        """Around everything that computes."""
        import torch

        # On a CPU, compiling the few compilable parts costs more than it saves.
        stance = contextlib.nullcontext() if self._cuda else torch.compiler.set_stance("force_eager")
        with keep_random_state(), keep_torch_threads(), VLLM_GROUP.entered(), stance:
            yield

    def _check_usable(self) -> None:
        if self._failure:
            raise EngineError(self._failure)

    def submit(self, request: GenerationRequest) -> None:
        from vllm import SamplingParams
        from vllm.inputs import tokens_input
        from vllm.sampling_params import RequestOutputKind

        self._check_usable()
        if self._asleep:
            raise EngineError("the engine has slept and holds no weights; sync it first.")
        check_request(request, self.max_context, self._vocab_size, self._queued)
        self._decoder.check_budget(request)
        sampling = request.sampling
        stop = stop_strings(sampling)
        params = SamplingParams(
            n=sampling.n if sampling.temperature > 0 else 1,  # greedy samples are all the same
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            repetition_penalty=sampling.repetition_penalty,
            thinking_token_budget=sampling.thinking_budget,
            # vLLM gives sample j of n the seed + j
            seed=sample_seed(sampling) if self.seeds == "request" else None,
            max_tokens=token_limit(request, self.max_context),
            stop=stop or None,
            include_stop_str_in_output=True,
            detokenize=bool(stop),
            stop_token_ids=sorted(self._decoder.eos_ids),
            logprobs=0,  # of the sampled token, at temperature 1 (logprobs_mode "raw_logprobs")
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        name = str(next(self._ids))
        with keep_random_state():
            self._engine.add_request(name, tokens_input(list(request.prompt_ids)), params)
        self._keys[name] = request
        self._queued.add(request.key)

    def poll(self) -> list[GenerationResult]:
        self._check_usable()
        results: list[GenerationResult] = []
        stream = self._stream.entered() if self.seeds == "none" else contextlib.nullcontext()
        with self._running(), stream:
            while self._keys and not results:
                try:
                    outputs = self._engine.step()
                except Exception as error:
                    self._failure = f"vLLM failed while sampling ({first_line(error)}); open a new engine."
                    raise
                for output in outputs:
                    if output.finished:
                        request = self._keys.pop(output.request_id)
                        self._queued.discard(request.key)
                        results.append(self._result(request, output.outputs))
        return results

    def _result(self, request: GenerationRequest, outputs: Any) -> GenerationResult:
        completions = []
        for output in sorted(outputs, key=lambda output: output.index):
            matched = output.stop_reason if isinstance(output.stop_reason, str) else None
            logps = [at[token].logprob for token, at in zip(output.token_ids, output.logprobs, strict=True)]
            completions.append(
                self._decoder.completion(
                    request, output.token_ids, float(output.cumulative_logprob), matched, token_logps=logps
                )
            )
        if len(completions) < request.sampling.n:
            completions *= request.sampling.n
        return GenerationResult(request.key, tuple(completions))

    @property
    def num_pending(self) -> int:
        return len(self._keys)

    def sync(self, weights: Iterable[tuple[str, Any]], version: str) -> None:
        self._check_usable()
        if self._keys:
            raise EngineError(f"weight sync: {len(self._keys)} requests are still pending; poll until none is.")
        self.wake()
        self._failure = "the last weight sync failed, so the engine's weights are unknown; open a new engine."
        try:
            with self._running():
                self._reload(self._layout.stored(weights))
                if not self._engine.reset_prefix_cache():
                    raise EngineError("weight sync: the prefix cache could not be reset.")
                if self._asleep:
                    self._engine.wake_up(tags=["kv_cache"])
                    self._asleep = self._has_room = False
        except Exception as error:
            self._failure = f"{self._failure} The sync failed with: {first_line(error)}"
            raise
        self._failure = ""
        self.version = version

    def _reload(self, weights: Iterator[tuple[str, Any]]) -> None:
        """Replace the weights by others, which have the names and shapes of a checkpoint on disk."""
        self._engine.apply_model(before_reload)
        self._load(weights)
        self._engine.apply_model(after_reload)

    def _load(self, weights: Iterator[tuple[str, Any]]) -> None:
        if not self._parallel:
            self._engine.collective_rpc("reload_weights", kwargs={"weights_iterator": weights})
            return
        # The workers are other processes: hand the weights over through a file in memory.
        from safetensors.torch import save_file

        memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
        with tempfile.TemporaryDirectory(dir=memory, prefix="harness-sync-") as folder:
            tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights}
            save_file(tensors, Path(folder, "model.safetensors"))
            self._engine.collective_rpc("reload_weights", kwargs={"weights_path": folder})

    def sleep(self) -> None:
        """Free weights and cache on CUDA; `version` is then "", as nothing is kept that a `sync` will replace."""
        self._check_usable()
        if self._keys:
            raise EngineError(f"sleep: {len(self._keys)} requests are still pending; poll until none is.")
        if self._engine.vllm_config.model_config.enable_sleep_mode and not self._asleep:
            with self._running():
                self._engine.sleep(level=2)
            self._asleep, self.version = True, ""

    def wake(self) -> None:
        """Make room for the weights that `sync` brings; the cache gets its memory after them, when they are loaded."""
        self._check_usable()
        if self._asleep and not self._has_room:
            with self._running():
                self._engine.wake_up(tags=["weights"])
            self._has_room = True

    def close(self) -> None:
        if self not in _open_engines:
            return
        from vllm.v1.engine import core

        _open_engines.discard(self)
        self._failure = "the engine is closed."
        self._keys.clear()
        self._queued.clear()
        # vLLM's parallel state is shared by all engines of the process, so only the last one takes it down.
        shared = core.cleanup_dist_env_and_memory
        core.cleanup_dist_env_and_memory = lambda: None  # type: ignore[assignment,misc]
        try:
            with keep_environment(), VLLM_GROUP.entered():
                self._engine.engine_core.shutdown()
        finally:
            core.cleanup_dist_env_and_memory = shared
        del self._engine
        gc.collect()
        _forget_parallel_state()


def _forget_parallel_state() -> None:
    """Take vLLM's parallel state down unless an engine still needs it."""
    if not _open_engines:
        VLLM_GROUP.destroy()


@atexit.register
def _close_all() -> None:
    for engine in list(_open_engines):
        engine.close()


def _dtype(config: EngineConfig, path: Path) -> str:
    """What vLLM computes in where it does not compute in eight bits."""
    match config.dtype:
        case "auto":
            return stored_dtype(path)
        case "fp8":
            return "bfloat16"
        case named:
            return named


def _check_fp8(has_experts: bool) -> None:
    """Raise `InputError` where the device has no kernels for eight bits."""
    from vllm.platforms import current_platform

    if current_platform.is_cpu() and has_experts:
        raise InputError("engine option dtype is fp8, which vLLM's CPU build lacks for experts; choose bfloat16.")
    if current_platform.is_cuda() and not current_platform.supports_fp8():
        raise InputError(
            f"engine option dtype is fp8, which takes compute capability 8.9, more than that of "
            f"{current_platform.get_device_name()}; choose bfloat16."
        )


def _cpu_cache_bytes(model: Any, max_num_seqs: int, max_model_len: int) -> int:
    token = cached_values(model) * 4
    smallest, largest = CPU_CACHE_RANGE
    return min(max(token * max_num_seqs * max_model_len, smallest), max(largest, token * max_model_len))
