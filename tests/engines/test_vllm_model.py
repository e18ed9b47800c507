"""What the harness reaches into vLLM for is there in the installed version, and leaves transformers as it was."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch

from tests.engines.conftest import CONFIG, build_tokenizer, need_vllm, prompt, sample, save

pytestmark = pytest.mark.vllm


@pytest.fixture(autouse=True)
def _vllm():
    need_vllm()


def test_the_parts_of_vllm_that_are_used_have_the_names_and_arguments_used():
    from vllm.compilation import decorators
    from vllm.distributed import parallel_state
    from vllm.model_executor.layers import rotary_embedding
    from vllm.model_executor.layers.fused_moe.unquantized_fused_moe_method import UnquantizedFusedMoEMethod
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, UnquantizedEmbeddingMethod
    from vllm.model_executor.model_loader.reload import layerwise, meta
    from vllm.model_executor.model_loader.reload.types import LayerReloadingInfo
    from vllm.model_executor.models.gpt_oss import GptOssForCausalLM
    from vllm.v1.engine.llm_engine import LLMEngine
    from vllm.v1.executor.uniproc_executor import ExecutorWithExternalLauncher
    from vllm.v1.worker.gpu_worker import Worker

    def binds(function, *arguments, **options):
        inspect.signature(function).bind(*arguments, **options)

    assert isinstance(rotary_embedding._ROPE_DICT, dict)
    assert parallel_state._EP is None or isinstance(parallel_state._EP, parallel_state.GroupCoordinator)
    binds(parallel_state.init_model_parallel_group, [[0]], 0, "gloo", group_name="ep", use_all2all=False)
    binds(decorators._support_torch_compile, object, {}, enable_if=None, is_encoder=False)
    assert "_support_torch_compile(" in inspect.getsource(decorators.support_torch_compile)
    binds(layerwise.initialize_layerwise_reload, None)
    binds(layerwise.get_layerwise_info, None)
    binds(meta.materialize_layer, None, None)
    assert {"load_numel", "kernel_tensors"} <= LayerReloadingInfo.__dataclass_fields__.keys()
    # Packing where a kernel is set up, and only there, is what `before_reload` makes up for.
    assert "self.moe_kernel is not None" in inspect.getsource(UnquantizedFusedMoEMethod._setup_kernel)
    assert "param.copy_(narrow_weight)" in inspect.getsource(inspect.getmodule(GptOssForCausalLM))
    binds(UnquantizedEmbeddingMethod.process_weights_after_loading, None, ParallelLMHead)
    binds(LLMEngine.apply_model, None, print)
    # What an engine over several ranks says of its place, and that vLLM takes the process group it finds.
    binds(ExecutorWithExternalLauncher._distributed_args, None)
    assert "not torch.distributed.is_initialized()" in inspect.getsource(parallel_state.init_distributed_environment)
    # The configuration that layers look up while they are built is set by vLLM's own worker.
    assert "set_current_vllm_config" in inspect.getsource(Worker.reload_weights)


@pytest.fixture(scope="module")
def olmo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An architecture that vLLM 0.32 runs through transformers' own class."""
    from transformers import Olmo2Config, Olmo2ForCausalLM

    tokenizer = build_tokenizer()
    config = Olmo2Config(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=320, eos_token_id=tokenizer.eos_token_id, pad_token_id=None,
    )  # fmt: skip
    torch.manual_seed(0)
    return save(Olmo2ForCausalLM(config), tmp_path_factory.mktemp("olmo"))


def test_transformers_classes_are_as_before_once_an_engine_is_open(olmo: Path):
    from transformers import AutoModelForCausalLM, Olmo2Model

    from harness.engines import open_engine, verify_sync
    from harness.models.weights import named_weights

    bases, names = Olmo2Model.__bases__, dict(vars(Olmo2Model))
    engine = open_engine(olmo, CONFIG)
    try:
        assert Olmo2Model.__bases__ == bases
        assert {name: vars(Olmo2Model)[name] for name in names} == names
        assert not hasattr(Olmo2Model, "save_aot_compiled_function")
        model = AutoModelForCausalLM.from_pretrained(olmo)  # "Current vLLM config is not set" if the class were changed
        decoder = engine._engine.apply_model(lambda model: model.model)[0]
        assert isinstance(decoder, Olmo2Model)
        assert type(decoder) is not Olmo2Model
        with torch.no_grad():
            model.model.layers[0].mlp.up_proj.weight.mul_(2)
        engine.sync(named_weights(model), "new")
        assert verify_sync(engine, model, [prompt(5)], "new").max_error < 1e-5
        assert sample(engine, prompt(3), max_tokens=2)
    finally:
        engine.close()
