"""Process settings that must be in place before torch is imported; standard library only."""

from __future__ import annotations

import os

DEFAULTS = {
    # libgomp threads that spin while they wait make training and generation several times slower on shared cores.
    "OMP_WAIT_POLICY": "PASSIVE",
    "TOKENIZERS_PARALLELISM": "false",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    # The engine runs in the training process, where its weights can be replaced in memory.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}


def prepare_environment() -> None:
    """Set what torch and vLLM read from the environment when they are imported, unless it is set already.

    Call it before the first import of torch: OpenMP reads its settings once.
    """
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
