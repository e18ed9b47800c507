"""Checkpoints: what opens, what is refused, and that weights survive the way there and back."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from harness.engines.hf import HFEngine
from harness.errors import InputError
from harness.models.checkpoints import check_checkpoint, load_tokenizer
from harness.models.weights import (
    fingerprint,
    load_causal_lm,
    load_reward_model,
    logits_at,
    named_weights,
    reward_head,
    rewards_at,
    save_checkpoint,
)
from tests.conftest import build_tiny_model


def test_a_missing_local_path_is_refused_at_once(tmp_path):
    for path in (tmp_path / "none", "./none", "a/b/c"):
        with pytest.raises(InputError, match="no such directory"):
            check_checkpoint(path)


def test_a_missing_folder_inside_an_existing_one_is_not_taken_for_a_hub_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(InputError, match="runs/sft"):
        check_checkpoint("runs/sft")
    assert check_checkpoint("Qwen/Qwen2.5-0.5B") == "Qwen/Qwen2.5-0.5B"
    assert check_checkpoint("gpt2") == "gpt2"


def test_a_folder_without_config_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no config\.json"):
        load_causal_lm(tmp_path)


def test_a_torn_weight_file_is_one_clear_error(tmp_path, tiny_model_dir):
    folder = shutil.copytree(tiny_model_dir, tmp_path / "torn")
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:100])
    with pytest.raises(InputError, match=r"model.safetensors: damaged or cut short"):
        load_causal_lm(folder)


def test_a_checkpoint_that_lacks_weights_is_refused(tmp_path, tiny_model_dir, tiny_tokenizer):
    """Transformers would fill them with random numbers."""
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny_model_dir, tmp_path / "partial")
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    for load in (load_causal_lm, load_reward_model):
        with pytest.raises(InputError, match=r"lacks weights .*up_proj"):
            load(folder)


def test_a_tokenizer_without_eos_is_refused(tmp_path, tiny_model_dir):
    folder = shutil.copytree(tiny_model_dir, tmp_path / "no_eos")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("eos_token")
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="no EOS token"):
        load_tokenizer(folder)


def test_padding_defaults_to_eos_and_may_be_demanded_distinct(tmp_path, tiny_model_dir):
    folder = shutil.copytree(tiny_model_dir, tmp_path / "no_pad")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("pad_token")
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    assert load_tokenizer(folder).pad_token_id == 1
    assert load_tokenizer(tiny_model_dir, distinct_pad=True).pad_token_id == 0


def test_logits_at_positions_are_those_of_the_whole_forward(tiny_model_dir):
    model = load_causal_lm(tiny_model_dir).eval()
    ids = torch.randint(0, 88, (2, 7), generator=torch.Generator().manual_seed(0))
    positions = torch.tensor([0, 3, 9, 13])
    with torch.no_grad():
        torch.testing.assert_close(
            logits_at(model, ids, positions), model(input_ids=ids).logits.flatten(0, 1)[positions]
        )


def test_a_saved_checkpoint_opens_in_transformers_with_equal_weights(tmp_path, tiny_model_dir, tiny_tokenizer):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = load_causal_lm(tiny_model_dir)
    with torch.no_grad():
        model.lm_head.weight.mul_(1.5)
    save_checkpoint(model, tiny_tokenizer, tmp_path / "out")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert fingerprint(named_weights(again)) == fingerprint(named_weights(model))
    assert again.config.architectures == ["LlamaForCausalLM"]
    text = "12+3=15"
    assert AutoTokenizer.from_pretrained(tmp_path / "out")(text)["input_ids"] == tiny_tokenizer(text)["input_ids"]


def test_saving_over_a_checkpoint_replaces_it_and_leaves_nothing_behind(tmp_path, tiny_tokenizer):
    save_checkpoint(build_tiny_model(0), tiny_tokenizer, tmp_path / "out")
    (tmp_path / "out" / "stale").touch()
    save_checkpoint(build_tiny_model(1), tiny_tokenizer, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert not (tmp_path / "out" / "stale").exists()
    again = load_causal_lm(tmp_path / "out")
    assert fingerprint(named_weights(again)) == fingerprint(named_weights(build_tiny_model(1)))


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path, tiny_tokenizer):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        save_checkpoint(build_tiny_model(), tiny_tokenizer, tmp_path / "file" / "out")


@pytest.mark.parametrize("tied", [True, False])
def test_named_weights_always_hold_the_head(tied):
    weights = dict(named_weights(build_tiny_model(tied=tied)))
    assert torch.equal(weights["lm_head.weight"], weights["model.embed_tokens.weight"]) == tied


def test_fingerprints_tell_one_changed_element_apart():
    model, other = build_tiny_model(), build_tiny_model()
    assert fingerprint(named_weights(model)) == fingerprint(named_weights(other))
    with torch.no_grad():
        other.model.layers[1].mlp.down_proj.weight[3, 7] += 1e-6
    assert fingerprint(named_weights(model)) != fingerprint(named_weights(other))


def test_fingerprints_tell_swapped_rows_apart():
    """The sum is the same; the sampled elements are not."""
    model, other = build_tiny_model(), build_tiny_model()
    with torch.no_grad():
        other.model.embed_tokens.weight.copy_(model.model.embed_tokens.weight.roll(1, 0))
    assert fingerprint(named_weights(model)) != fingerprint(named_weights(other))


def test_fingerprints_do_not_depend_on_memory_layout():
    weight = torch.randn(6, 4, dtype=torch.bfloat16)
    assert fingerprint([("w", weight)]) == fingerprint([("w", weight.T.contiguous().T)])


def test_a_new_reward_head_starts_near_zero_and_the_same_everywhere(tiny_model_dir):
    first, second = load_reward_model(tiny_model_dir), load_reward_model(tiny_model_dir)
    ids = torch.randint(0, 88, (4, 9), generator=torch.Generator().manual_seed(0))
    rewards = rewards_at(first, ids, torch.arange(36))
    assert 0 < rewards.abs().max() < 0.1
    assert torch.equal(reward_head(first).weight, reward_head(second).weight)


def test_a_saved_reward_model_gives_the_same_rewards_in_transformers(tmp_path, tiny_model_dir):
    """Rows of several lengths, padded: the reward that transformers pools is the one at the EOS."""
    from transformers import AutoModelForSequenceClassification

    tokenizer = load_tokenizer(tiny_model_dir, distinct_pad=True)
    model = load_reward_model(tiny_model_dir).eval()
    save_checkpoint(model, tokenizer, tmp_path / "rm")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "rm")
    assert again.num_labels == 1
    lengths = torch.tensor([5, 9])
    ids = torch.randint(2, 88, (2, 9), generator=torch.Generator().manual_seed(0))
    ids[0, 4] = ids[1, 8] = tokenizer.eos_token_id
    ids[0, 5:] = tokenizer.pad_token_id
    with torch.no_grad():
        ours = rewards_at(model, ids, torch.arange(2) * 9 + lengths - 1)
        torch.testing.assert_close(again(input_ids=ids).logits.squeeze(-1), ours)
        alone = again(input_ids=ids[:1, :5]).logits.squeeze(-1)
        torch.testing.assert_close(alone, ours[:1])


def test_a_reward_model_is_no_policy_and_a_run_stands_for_its_model(tmp_path, tiny_model_dir, tiny_tokenizer):
    run = tmp_path / "run"
    save_checkpoint(load_reward_model(tiny_model_dir), tiny_tokenizer, run / "hf")
    for load in (load_causal_lm, HFEngine):
        with pytest.raises(InputError, match=r"a LlamaForSequenceClassification writes no text; .*--reward.checkpoint"):
            load(run)
    assert load_reward_model(run).config.num_labels == 1
    (tmp_path / "last.ckpt").touch()
    with pytest.raises(InputError, match=r"last.ckpt: a checkpoint to resume training from; give the directory last"):
        load_causal_lm(tmp_path / "last.ckpt")


def test_a_changed_file_of_a_saved_model_is_refused_by_its_hash(tmp_path, tiny_model_dir, tiny_tokenizer):
    save_checkpoint(load_causal_lm(tiny_model_dir), tiny_tokenizer, tmp_path / "hf")
    weights = tmp_path / "hf/model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-5] ^= 1
    weights.write_bytes(content)
    with pytest.raises(InputError, match=r"model.safetensors: damaged, changed or gone since it was saved"):
        HFEngine(tmp_path / "hf")
    (tmp_path / "hf/SHA256SUMS").unlink()
    load_causal_lm(tmp_path / "hf")  # as one of an earlier version, or of others


def test_the_documented_lines_open_a_reward_model_of_an_architecture_without_a_classifier(tmp_path, tiny_tokenizer):
    from transformers import GraniteConfig, GraniteForCausalLM, GranitePreTrainedModel
    from transformers.modeling_layers import GenericForSequenceClassification

    class GraniteForSequenceClassification(GenericForSequenceClassification, GranitePreTrainedModel): ...

    config = GraniteConfig(
        vocab_size=88, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    save_checkpoint(GraniteForCausalLM(config), tiny_tokenizer, tmp_path / "lm")
    model = load_reward_model(tmp_path / "lm").eval()
    with torch.no_grad():
        reward_head(model).weight.add_(0.1)
    save_checkpoint(model, tiny_tokenizer, tmp_path / "reward")
    again = GraniteForSequenceClassification.from_pretrained(tmp_path / "reward").eval()
    assert again.config.architectures == ["GraniteForSequenceClassification"]
    ids = torch.arange(2, 12)[None]
    with torch.no_grad():
        expected = rewards_at(model, ids, torch.tensor([9]))
        torch.testing.assert_close(again(input_ids=ids).logits[0], expected)
        torch.testing.assert_close(
            rewards_at(load_reward_model(tmp_path / "reward").eval(), ids, torch.tensor([9])), expected
        )
