"""How an engine is opened; standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.errors import InputError


@dataclass(frozen=True)
class EngineConfig:
    """Which engine draws the samples, and how much memory it may use."""

    kind: str | list[str] = "auto"
    """"auto" (vLLM where it is installed and runs on the device, else transformers), "vllm", "transformers", "ray" (as
    many of these as `replicas` says, on the machines of a Ray cluster), or the http(s) URL of a server that speaks the
    OpenAI completions API, or a list of such URLs."""
    dtype: Literal["auto", "float32", "bfloat16", "float16", "fp8"] = "auto"
    """Number format of the engine's weights; "auto" is the one the checkpoint is stored in. "fp8", of vLLM alone, has
    eight bits (E4M3) in all linear layers but the head, weights with a scale per output and inputs with one per token,
    and bfloat16 elsewhere; on CUDA it takes compute capability 8.9, on a CPU a dense model."""
    max_model_len: int | None = None
    """Longest prompt plus response in tokens; None is what the model was made for."""
    max_num_seqs: int | None = None
    """Samples drawn at the same time (a server: concurrent connections); None is 256 for vLLM on an accelerator,
    128 for vLLM on a CPU, 64 for transformers and 32 for a server."""
    kv_cache_bytes: int | None = None
    """vLLM's cache of keys and values; None is what `gpu_memory_utilization` leaves on an accelerator, and on a CPU
    what `max_num_seqs` samples of full length need, at least 64 MiB and at most 4 GiB."""
    gpu_memory_utilization: float | None = None
    """Share of an accelerator's memory that vLLM may take; None is 0.9, and in training what the trainer at its fullest
    and the reward model leave (`harness plan` shows it)."""
    tensor_parallel_size: int = 1
    """Devices over which vLLM splits the model."""
    distributed_executor_backend: Literal["mp", "ray"] | None = None
    """How vLLM starts its workers where it needs several; None lets vLLM choose."""
    device: int | None = None
    """Index of the accelerator to sample on, among those visible; None is the first. In training it is the trainer's
    own."""
    enforce_eager: bool | None = None
    """Run vLLM without compiled graphs; None is False on CUDA and True elsewhere."""
    enable_sleep: bool = True
    """Whether `sleep` frees vLLM's memory on CUDA; costs nothing else."""
    seed: int = 0
    """vLLM's own seed; samples depend on their request's seed alone."""
    seeds: Literal["request", "none"] = "request"
    """"request" draws every sample by a seed of its own, so that it does not depend on what else is drawn, and a run
    that is killed and goes on draws what it would have drawn. "none", of vLLM alone, draws the tokens of a step for all
    samples at once, from random numbers that are others at every start: faster where batches are large, but no two
    runs are the same. Which it was is part of what stands beside the samples."""
    replicas: int | None = None
    """Engines of the kind ray; None is one for each accelerator of the cluster (for each `tensor_parallel_size` of
    them), and in a cluster without any one for each machine."""
    replica: Literal["auto", "vllm", "transformers"] = "auto"
    """What each engine of the kind ray is."""
    model_name: str = ""
    """Model that a server is asked for; "" is the only one it offers."""
    weights_folder: str | None = None
    """Folder on a file system that vLLM servers see under the same path, by which they take the weights of a training
    run; they must run with VLLM_SERVER_DEV_MODE=1. None: servers keep their own."""
    api_key_env: str = "HARNESS_API_KEY"
    """Environment variable that holds a server's bearer token, if it wants one."""
    timeout: float = 600.0
    """Seconds to wait for one answer of a server, and for the opening of replicas while none is open."""
    max_retries: int = 5
    """Further attempts after a server's time-out, refusal or overload, with growing pauses."""

    def __post_init__(self) -> None:
        if self.kind not in ("auto", "vllm", "transformers", "ray") and not self.is_url:
            raise InputError(f"unknown engine '{self.kind}'; give auto, vllm, transformers, ray or http(s) URLs.")
        if self.kind != "ray" and (self.replicas is not None or self.replica != "auto"):
            raise InputError(f"engine options replicas and replica are for the kind ray; this is {self.kind}.")
        if self.weights_folder is not None and not self.is_url:
            raise InputError(f"engine option weights_folder is for servers; this is {self.kind}.")
        for name in ("max_model_len", "max_num_seqs", "kv_cache_bytes", "tensor_parallel_size", "replicas"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"engine option {name} is {value}; it must be at least 1.")
        if self.dtype == "fp8" and (self.is_url or self.kind == "transformers"):
            raise InputError(
                f"engine option dtype is fp8, which vLLM alone samples in; with the engine {self.kind} choose bfloat16."
            )
        if self.seeds == "none" and (self.is_url or "transformers" in (self.kind, self.replica)):
            raise InputError(
                f"engine option seeds is none, which is vLLM's alone; with the engine {self.kind} choose request."
            )
        if self.gpu_memory_utilization is not None and not 0 < self.gpu_memory_utilization <= 1:
            raise InputError(
                f"engine option gpu_memory_utilization is {self.gpu_memory_utilization}; it must be above 0, at most 1."
            )

    @property
    def is_url(self) -> bool:
        return bool(self.urls) and all(url.startswith(("http://", "https://")) for url in self.urls)

    @property
    def urls(self) -> list[str]:
        """What `kind` names, as a list."""
        return [self.kind] if isinstance(self.kind, str) else self.kind


DEFAULT_CONFIG = EngineConfig()
