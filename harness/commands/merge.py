"""`harness merge`: low-rank updates put into the model that they adapt."""

from __future__ import annotations

from pathlib import Path

from harness.errors import InputError


def merge(adapter: str, output: Path) -> int:
    """Write the model that low-rank updates (LoRA) make of the one they adapt, as a plain checkpoint directory.

    Args:
        adapter: directory with adapter_config.json and adapter_model.safetensors, such as RUN/hf/adapter.
        output: directory to write; it must not exist.
    """
    from harness.models.checkpoints import adapter_base, load_tokenizer, stored_dtype, weights_directory

    if (base := adapter_base(adapter)) is None:
        raise InputError(f"{adapter}: no adapter (adapter_config.json); give a folder such as RUN/hf/adapter.")
    if output.exists():
        raise InputError(f"{output}: exists already; choose another output.")
    from harness.models.weights import load_causal_lm, save_checkpoint

    dtype = stored_dtype(Path(weights_directory(base)))
    save_checkpoint(load_causal_lm(adapter, dtype=dtype), load_tokenizer(adapter), output)
    print(
        f"{output}: {base} with the updates of {adapter}; measure it with `harness eval --model {output} --task TASK`"
    )
    return 0
