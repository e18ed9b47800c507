"""Sequence classifiers for causal architectures that transformers has none for, such as Granite and Cohere 2.

Such a classifier is made of transformers' own parts: the architecture's base model, and the linear `score` head and the
pooling of `GenericForSequenceClassification`. Its checkpoint is like every other one's: opened by three lines without
this project (docs/models.md), and by vLLM's pooling runner where vLLM has the architecture (tried with Granite, Cohere
2, OLMoE). A reward with a likelihood (`harness.models.reward_head`) is a language model without a head to both.
"""

from __future__ import annotations

from typing import Any

from harness.errors import InputError, first_line


def classifier_class(checkpoint: str) -> Any:
    """The class whose `from_pretrained` opens a checkpoint as a sequence classifier.

    Raises:
        InputError: the configuration cannot be read.
    """
    from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel
    from transformers.modeling_layers import GenericForSequenceClassification
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    )

    try:
        config = AutoConfig.from_pretrained(checkpoint)
    except (OSError, ValueError) as error:
        raise InputError(f"{checkpoint}: the checkpoint cannot be opened ({first_line(error)}).") from error
    kind = type(config)
    if kind in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING or kind not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return AutoModelForSequenceClassification
    causal: Any = MODEL_FOR_CAUSAL_LM_MAPPING[kind]
    # The architecture's own base class, which knows how its weights are initialised and its layers are split.
    base = next(cls for cls in causal.__mro__ if PreTrainedModel in cls.__bases__)
    name = f"{causal.__name__.removesuffix('ForCausalLM').removesuffix('LMHeadModel')}ForSequenceClassification"
    parts = (GenericForSequenceClassification, base)
    return type(name, parts, {"__module__": __name__, "base_model_prefix": base.base_model_prefix})


def fill_buffers(model: Any) -> None:
    """Compute what no checkpoint holds: buffers that transformers leaves undefined in a model of `classifier_class`.

    It computes them where a model is opened by itself, but takes a base model inside a classifier for finished: rewards
    of Falcon H1, whose multipliers the base model sets in its layers, were not numbers.
    """
    trunk = getattr(model, model.base_model_prefix)
    for tensor in model.state_dict(keep_vars=True).values():
        tensor._is_hf_initialized = True  # what transformers' own functions leave alone
    for module in trunk.modules():
        trunk._init_weights(module)
