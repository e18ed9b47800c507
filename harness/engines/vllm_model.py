"""What has to be known of the inside of vLLM's models, in one place; tests bind it to the installed version."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def keep_transformers_classes() -> Iterator[Callable[[Any], None]]:
    """Undo on exit what vLLM does to transformers' classes while it opens an engine.

    An architecture that vLLM has no code for runs through transformers' own decoder class, which vLLM decorates in
    place: from then on the trainer could neither build it ("Current vLLM config is not set") nor call it undisturbed.

    Yields:
        A function to call with vLLM's model, whose modules keep the decoration in classes of their own.
    """
    from vllm.compilation import decorators

    before: dict[type, tuple[tuple[type, ...], dict[str, Any]]] = {}
    decorate = decorators._support_torch_compile

    def remember(cls: type, *args: Any, **options: Any) -> type:
        if cls.__module__.startswith("transformers."):
            before.setdefault(cls, (cls.__bases__, dict(vars(cls))))
        return decorate(cls, *args, **options)

    def adopt(model: Any) -> None:
        for module in model.modules():
            cls = type(module)
            if cls in before:
                bases, names = before[cls]
                added = {name: value for name, value in vars(cls).items() if names.get(name) is not value}
                wrappers = (base for base in cls.__bases__ if base not in bases)
                module.__class__ = type(cls.__name__, (cls, *wrappers), {"__module__": cls.__module__, **added})

    decorators._support_torch_compile = remember
    try:
        yield adopt
    finally:
        decorators._support_torch_compile = decorate
        for cls, (bases, names) in before.items():
            for name, value in dict(vars(cls)).items():
                if name not in names:
                    delattr(cls, name)
                elif names[name] is not value:
                    setattr(cls, name, names[name])
            cls.__bases__ = bases


def forget_rotary_tables() -> None:
    """Have the next engine make its own tables of rotary embeddings, which vLLM shares among all models of a process.

    A reload empties them until it has all weights, so one that fails would leave every other engine without.
    """
    from vllm.model_executor.layers import rotary_embedding

    rotary_embedding._ROPE_DICT.clear()


def make_expert_group(vllm_config: Any) -> None:
    """Make the group of experts, which vLLM leaves out where the first open engine of the process has a dense model."""
    import torch
    from vllm.config import set_current_vllm_config
    from vllm.distributed import parallel_state

    if parallel_state.model_parallel_is_initialized() and parallel_state._EP is None:
        world = parallel_state.get_world_group()
        with set_current_vllm_config(vllm_config):
            parallel_state._EP = parallel_state.init_model_parallel_group(
                [world.ranks],
                world.local_rank,
                torch.distributed.get_backend(world.device_group),
                group_name="ep",
                use_all2all=vllm_config.parallel_config.use_all2all,
            )


def before_reload(model: Any) -> None:
    """Prepare vLLM's model for a reload of its weights, where vLLM 0.32 would not do it whole.

    Kernels of experts are set up anew: on a CPU they read packed weights, and vLLM packs only when it sets a kernel up.
    GPT-OSS copies experts and attention sinks straight into its parameters, which a reload has replaced by empty ones
    that wait for a loader; these are made real, and marked as having received weights.
    """
    from vllm.model_executor.model_loader.reload import initialize_layerwise_reload
    from vllm.model_executor.model_loader.reload.layerwise import get_layerwise_info
    from vllm.model_executor.model_loader.reload.meta import materialize_layer
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        for module in model.modules():
            if getattr(getattr(module, "quant_method", None), "moe_kernel", None) is not None:
                module.quant_method.moe_kernel = None
    if type(model).__name__ == "GptOssForCausalLM":
        initialize_layerwise_reload(model)
        for module in model.modules():
            if {"sinks", "w13_weight"} & module._parameters.keys():
                info = get_layerwise_info(module)
                materialize_layer(module, info)
                info.load_numel = 1


def after_reload(model: Any) -> None:
    """Pack heads that are tied to the embeddings again, from which vLLM keeps a packed copy on a CPU."""
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, UnquantizedEmbeddingMethod

    for module in model.modules():
        if isinstance(module, ParallelLMHead) and isinstance(module.quant_method, UnquantizedEmbeddingMethod):
            module.quant_method.process_weights_after_loading(module)


def config_overrides(config: Any) -> dict[str, Any]:
    """Values of a transformers configuration with which vLLM computes what transformers computes with `config`.

    vLLM lets a layer of Cohere 2 see one token more than transformers does.
    """
    if config.model_type == "cohere2" and config.sliding_window:
        return {"sliding_window": config.sliding_window - 1}
    return {}
