"""Every family is trained as its own transformers class is: losses, packing, shared prefixes, LoRA, heads, exports."""

from __future__ import annotations

import pytest
import torch

from harness.engines.weights import checkpoint_version
from harness.errors import InputError
from harness.models.checkpoints import load_tokenizer
from harness.models.losses import IGNORED, supervised_positions
from harness.models.shared_prefix import longest_shareable, packs_exactly, share_prefixes
from harness.models.token_stats import token_stats
from harness.models.weights import load_causal_lm, load_reward_model, model_version, named_weights, save_checkpoint
from harness.modules.base import LoRAConfig, _with_lora
from tests.engines.conftest import build_tokenizer
from tests.families.zoo import build, families
from tests.models.test_shared_prefix import PAIRS, batch_of, bradley_terry, dpo, side_logps

pytestmark = pytest.mark.parametrize("family", families(in_vllm=False))


@pytest.fixture
def saved(family, tmp_path):
    build(family).save_pretrained(tmp_path)
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens({"pad_token": "!"})  # a reward model pads with another token than EOS
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def rows(*lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(0, 90, (length,), generator=generator) for length in lengths]


def losses(model, ids, labels, **inputs):
    positions, targets, _ = supervised_positions(labels)
    return -token_stats(model, ids, positions, targets, **inputs).logps


def test_the_loss_is_transformers_own_and_every_weight_gets_a_finite_gradient(family):
    model = build(family)
    ids = torch.stack(rows(24, 24))
    labels = ids.clone()
    labels[:, :7] = IGNORED
    loss = losses(model, ids, labels).mean()
    assert loss.item() == pytest.approx(model(input_ids=ids, labels=labels).loss.item(), abs=1e-5)
    loss.backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    # The router's weights that only break ties have no gradient.
    assert without == [name for name in without if "e_score_correction_bias" in name]


def test_packed_rows_have_the_losses_of_each_alone_or_packing_is_refused(family, note):
    model = build(family)
    first, second = rows(11, 17)
    packed = torch.cat([first, second])[None]
    labels = packed.clone()
    labels[0, 11] = IGNORED
    positions = torch.cat([torch.arange(11), torch.arange(17)])[None]
    note(family, "packing", "equal" if packs_exactly(model) else "refused")
    if not packs_exactly(model):
        return
    with torch.no_grad():
        together = losses(model, packed, labels, position_ids=positions)
        alone = torch.cat([losses(model, row[None], row[None]) for row in (first, second)])
    torch.testing.assert_close(together, alone, atol=2e-5, rtol=1e-5)


def test_shared_prefixes_give_the_plain_values_and_gradients_or_are_left_alone(family, note):
    model = build(family)
    plain = batch_of(PAIRS)
    limit = longest_shareable(model)
    note(family, "shared prefixes", "plain" if not limit else "equal" if limit > 10**6 else f"equal up to {limit}")
    if not limit:
        return
    shared = share_prefixes(plain)
    gradients = []
    for batch in (plain, shared):
        model.zero_grad()
        dpo(model, batch).backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    with torch.no_grad():
        torch.testing.assert_close(side_logps(model, shared), side_logps(model, plain), atol=1e-4, rtol=1e-6)
    for name, expected in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], expected, atol=1e-5, rtol=1e-4)


def test_lora_trains_and_is_exported_merged(family, saved, tmp_path):
    if family == "falcon_h1":
        with pytest.raises(InputError, match=r"FalconH1ForCausalLM cannot be adapted so .* name layers"):
            _with_lora(load_causal_lm(saved), LoRAConfig(rank=2), str(saved))
    layers = ["q_proj", "v_proj"] if family == "falcon_h1" else "all-linear"
    model = _with_lora(load_causal_lm(saved), LoRAConfig(rank=2, target_modules=layers), str(saved))
    before = model_version(model)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    [row] = rows(20)
    for _ in range(2):  # B is zero at first, so that A moves from the second step on
        losses(model, row[None], row[None]).mean().backward()
        optimizer.step()
    assert model_version(model) != before
    save_checkpoint(model, build_tokenizer(), tmp_path / "merged")
    with torch.no_grad():
        expected = model.eval()(input_ids=row[None]).logits
        found = load_causal_lm(tmp_path / "merged").eval()(input_ids=row[None]).logits
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_a_reward_head_trains_and_reopens(family, saved, tmp_path, note):
    model = load_reward_model(saved)
    loss = bradley_terry(model, batch_of(PAIRS))
    assert torch.isfinite(loss)
    loss.backward()
    torch.optim.AdamW(model.parameters(), lr=1e-3).step()
    save_checkpoint(model, load_tokenizer(saved, distinct_pad=True), tmp_path / "reward")
    own = type(model).__module__.startswith("harness")
    note(family, "reward head", "ours" if own else "transformers'")
    again = load_reward_model(tmp_path / "reward")
    assert again.num_labels == 1
    weights = dict(named_weights(model))
    for name, tensor in named_weights(again):
        torch.testing.assert_close(tensor, weights[name], atol=0, rtol=0)
    with torch.no_grad():
        found, expected = (bradley_terry(each.eval(), batch_of(PAIRS)) for each in (again, model))
    torch.testing.assert_close(found, expected)


def test_an_export_reopens_with_the_version_of_the_model_it_is_of(family, saved, tmp_path):
    model = load_causal_lm(saved)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.25)
    save_checkpoint(model, build_tokenizer(), tmp_path / "export")
    version = model_version(model)
    assert checkpoint_version(tmp_path / "export") == version
    assert model_version(load_causal_lm(tmp_path / "export")) == version
