"""Mixtures of experts: the loss that balances them, and what is logged of their load, counts tokens and no padding."""

from __future__ import annotations

import csv
import json
import math

import lightning as L
import pytest
import torch
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from harness.datamodules import PolicyDataModule, PreferenceDataModule, SFTDataModule, StepDataModule
from harness.errors import InputError
from harness.models.routers import Routers, Routing, balance_loss, load_metrics, router_entropy
from harness.models.shared_prefix import attention_inputs
from harness.models.weights import load_causal_lm, load_reward_model
from harness.modules import DPOModule, PolicyGradientModule, ProcessRewardModule, RewardModule, SFTModule
from harness.modules.base import LoRAConfig
from harness.modules.optimizer import OptimizerConfig
from harness.objectives import RFT
from harness.store import write_rows
from harness.types import PolicyExample
from tests.engines.conftest import build_tokenizer
from tests.families.zoo import build

FACTOR = 0.5
EXPERTS, CHOSEN = 4, 2


@pytest.fixture(scope="module")
def mixtral(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixtral")
    build("mixtral").save_pretrained(folder)
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens({"pad_token": "!"})  # a reward model pads with another token than EOS
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def files(tmp_path):
    """Rows of mixed lengths of each kind."""
    texts = [(f"{a}+{b}=", str(a + b) + "." * (3 * a)) for a, b in ((1, 2), (3, 1), (5, 7), (0, 4))]
    tokenizer = build_tokenizer()
    kinds = {
        "sft": [{"prompt": prompt, "response": response} for prompt, response in texts],
        "pairs": [{"prompt": prompt, "chosen": response, "rejected": f"{response}?"} for prompt, response in texts],
        "steps": [{"prompt": prompt, "steps": [f"{answer}\n", "so"], "labels": [1, 0]} for prompt, answer in texts],
    }
    for kind, rows in kinds.items():
        (tmp_path / f"{kind}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sampled = [
        PolicyExample(prompt, text, tuple(tokenizer(text)["input_ids"]), 1.0, problem_id=prompt, weights="w")
        for prompt, text in texts
    ]
    write_rows(tmp_path / "policy.jsonl", sampled)
    return tmp_path


def learner(kind, checkpoint, files, **options):
    """The module and the datamodule of a kind of training."""
    options = {"optimizer": OptimizerConfig(lr=0.0), "router_aux_loss": FACTOR} | options
    size = {"batch_size": 2, "max_length": 64}
    pairs = [str(files / "pairs.jsonl")]
    match kind:
        case "sft":
            return SFTModule(checkpoint, **options), SFTDataModule([str(files / "sft.jsonl")], **size)
        case "dpo":
            cache = str(files / "reference")
            return DPOModule(checkpoint, reference_cache=cache, **options), PreferenceDataModule(pairs, **size)
        case "reward":
            return RewardModule(checkpoint, **options), PreferenceDataModule(pairs, **size)
        case "process":
            return ProcessRewardModule(checkpoint, **options), StepDataModule([str(files / "steps.jsonl")], **size)
        case "policy":
            data = PolicyDataModule([str(files / "policy.jsonl")], group="none", **size)
            return PolicyGradientModule(checkpoint, RFT(), **options), data


class Seen(L.Callback):
    """The batches of a fit, and the gradients of its only optimizer step."""

    def __init__(self):
        self.batches, self.gradients = [], {}

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.batches.append(batch)

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.gradients = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def fitted(trainer, module, data):
    """One step of two micro-batches."""
    seen = Seen()
    built = trainer(accumulate_grad_batches=2, max_steps=1, callbacks=[seen])
    built.fit(module, data)
    return seen, {name: float(value) for name, value in built.logged_metrics.items()}


def expected_balance(model, batches):
    """By transformers' own loss, layer for layer, with its mask of padding; each batch by its share of tokens."""
    found = []
    trunk = model.base_model
    for batch in batches:
        mask, inputs = batch["is_token"], attention_inputs(batch, model)
        logits = trunk(input_ids=batch["input_ids"], output_router_logits=True, **inputs).router_logits
        layers = [load_balancing_loss_func((layer,), EXPERTS, CHOSEN, mask) for layer in logits]
        tokens = batch["lengths"].sum() if "until" in batch else mask.sum()
        found.append(torch.stack(layers).mean() * tokens / batch["step_tokens"])
    return torch.stack(found).sum()


def check_gradients(model, seen, without):
    """The gradients of a fit with the loss are those of one without and its factor times `model`'s."""
    for name, parameter in model.named_parameters():
        difference = seen.gradients[f"model.{name}"] - without.gradients[f"model.{name}"]
        expected = torch.zeros_like(parameter) if parameter.grad is None else FACTOR * parameter.grad
        torch.testing.assert_close(difference, expected, atol=2e-6, rtol=1e-3)


@pytest.mark.parametrize("kind", ["sft", "dpo", "reward", "process", "policy"])
def test_every_module_balances_experts_by_transformers_loss_over_tokens_alone(kind, mixtral, files, trainer):
    plain = {} if kind in ("sft", "process") else {"share_prefix": False}
    seen, logged = fitted(trainer, *learner(kind, mixtral, files, **plain))
    without, _ = fitted(trainer, *learner(kind, mixtral, files, router_aux_loss=0.0, **plain))
    assert any(not batch["is_token"].all() for batch in seen.batches)
    model = load_reward_model(mixtral) if kind in ("reward", "process") else load_causal_lm(mixtral)
    balance = expected_balance(model, seen.batches)
    assert logged["train/router_aux_loss"] == pytest.approx(balance.item(), rel=1e-5)
    balance.backward()
    check_gradients(model, seen, without)


def test_with_shared_prefixes_and_checkpointing_it_is_the_loss_of_the_tokens_that_are_computed(mixtral, files, trainer):
    options = {"gradient_checkpointing": True}
    seen, logged = fitted(trainer, *learner("dpo", mixtral, files, **options))
    without, _ = fitted(trainer, *learner("dpo", mixtral, files, router_aux_loss=0.0, **options))
    assert any("until" in batch for batch in seen.batches)
    model = load_causal_lm(mixtral)
    balance = expected_balance(model, seen.batches)
    assert logged["train/router_aux_loss"] == pytest.approx(balance.item(), rel=1e-5)
    balance.backward()
    check_gradients(model, seen, without)


def test_adapters_are_moved_by_the_balance_loss(mixtral, files, trainer):
    options = {"lora": LoRAConfig(rank=2), "optimizer": OptimizerConfig(lr=1e-2)}
    moved = []
    for factor in (0.0, FACTOR):
        module, data = learner("sft", mixtral, files, router_aux_loss=factor, **options)
        trainer(max_epochs=2).fit(module, data)
        moved.append({name: p.detach() for name, p in module.named_parameters() if "lora_B" in name})
    assert any(not torch.equal(moved[0][name], moved[1][name]) for name in moved[0])


def test_load_and_entropy_of_a_step_are_those_of_its_tokens_counted_by_hand(mixtral, files, trainer, tmp_path):
    seen, logged = fitted(trainer, *learner("sft", mixtral, files, router_aux_loss=0.0))
    assert "train/router_aux_loss" not in logged
    model = load_causal_lm(mixtral)
    counts, entropies = torch.zeros(2, EXPERTS), []
    with torch.no_grad():
        for batch in seen.batches:
            found = model(input_ids=batch["input_ids"], output_router_logits=True).router_logits
            for layer, logits in enumerate(found):
                for probabilities in logits[batch["is_token"].flatten()].softmax(-1):
                    counts[layer, probabilities.topk(CHOSEN).indices] += 1
                    entropies.append(-(probabilities * probabilities.log()).sum().item())
    shares = counts / counts.sum(1, keepdim=True) * EXPERTS
    assert logged["train/router_load_max"] == pytest.approx(shares.max().item())
    assert logged["train/router_load_min"] == pytest.approx(shares.min().item())
    assert logged["train/router_load_cv"] == pytest.approx(shares.std(1, correction=0).mean().item(), rel=1e-5)
    assert logged["train/router_entropy"] == pytest.approx(sum(entropies) / len(entropies), rel=1e-5)


def test_the_numbers_of_even_and_of_collapsed_routers():
    even = Routing(torch.zeros(4, 4), torch.tensor([[0, 1], [2, 3], [0, 1], [2, 3]]))
    assert balance_loss(even).item() == pytest.approx(2)
    assert router_entropy(even).item() == pytest.approx(4 * math.log(4))
    assert load_metrics(even.loads()[None]) == {"router_load_max": 1, "router_load_min": 1, "router_load_cv": 0}
    collapsed = Routing(torch.tensor([[50.0, 40.0, 0.0, 0.0]]), torch.tensor([[0, 1]]))
    assert balance_loss(collapsed).item() == pytest.approx(4)
    assert load_metrics(collapsed.loads()[None]) == {"router_load_max": 2, "router_load_min": 0, "router_load_cv": 1}


@pytest.mark.parametrize(
    "family", ["qwen2_moe", "qwen3_moe", "olmoe", "granitemoe", "gpt_oss", "deepseek_v2", "deepseek_v3"]
)
def test_the_routers_of_every_family_of_experts_are_found_and_name_what_they_choose(family):
    model = build(family)
    routers = Routers(model)
    ids = torch.randint(0, 90, (2, 7), generator=torch.Generator().manual_seed(0))
    with routers.watched() as caught:
        model(input_ids=ids)
    assert len(caught) == len(routers) == (1 if family.startswith("deepseek") else 2)
    assert all(layer.logits.shape == (14, EXPERTS) and layer.chosen.shape == (14, CHOSEN) for layer in caught.values())
    with routers.watched() as caught, torch.no_grad():
        model(input_ids=ids)
    assert not caught
    assert routers.balanced_by_bias == (family == "deepseek_v3")


def test_a_model_without_experts_to_balance_is_refused(mixtral, files, trainer, tiny_model_dir, tmp_path):
    with pytest.raises(InputError, match="LlamaForCausalLM has no experts to balance"):
        SFTModule(str(tiny_model_dir), router_aux_loss=0.1).configure_model()
    with pytest.raises(InputError, match="router_aux_loss is -1"):
        SFTModule(str(tiny_model_dir), router_aux_loss=-1)
    build("deepseek_v3").save_pretrained(tmp_path / "v3")
    build_tokenizer().save_pretrained(tmp_path / "v3")
    with pytest.raises(InputError, match="DeepseekV3ForCausalLM are balanced by a bias"):
        SFTModule(str(tmp_path / "v3"), router_aux_loss=0.1).configure_model()


def test_a_dense_model_logs_nothing_of_routers(tiny_model_dir, files, trainer, tmp_path):
    module, data = learner("sft", str(tiny_model_dir), files, router_aux_loss=0.0)
    built = trainer(max_steps=1)
    built.fit(module, data)
    with open(f"{built.logger.log_dir}/metrics.csv") as file:
        assert not [name for name in next(csv.reader(file)) if "router" in name]
