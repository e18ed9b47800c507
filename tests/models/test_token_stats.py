"""Statistics of tokens in tiles, against the whole logits: values, gradients, architectures and memory."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from harness.models import token_stats as module
from harness.models.losses import token_entropies, token_logps
from harness.models.token_stats import LogitTransform, _tiled, token_stats
from harness.models.weights import logits_at
from tests.conftest import build_tiny_model

IDS = torch.randint(0, 88, (3, 11), generator=torch.Generator().manual_seed(1))
POSITIONS = torch.tensor([0, 3, 4, 9, 12, 13, 20, 31])
TARGETS = IDS.flatten()[POSITIONS + 1]


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """Three tokens and 20 words, so that the last tile of each kind is smaller."""
    monkeypatch.setitem(module.TILE_ELEMENTS, "cpu", 60)
    monkeypatch.setitem(module.TILE_TOKENS, "cpu", 3)


def plain_stats(model, temperature=1.0):
    logits = logits_at(model, IDS, POSITIONS).float() / temperature
    return token_logps(logits, TARGETS), token_entropies(logits), logits.argmax(-1)


def gradients(model, logps, entropies):
    model.zero_grad()
    weights = torch.linspace(-1, 2, len(logps))
    (logps @ weights + entropies @ weights.flip(0)).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_equal_to_plain(model, temperature=1.0):
    """Values to 1e-6, gradients to 1e-6 of their size."""
    logps, entropies, top = plain_stats(model, temperature)
    stats = token_stats(model, IDS, POSITIONS, TARGETS, entropy=True, top=True, temperature=temperature)
    torch.testing.assert_close(stats.logps, logps, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(stats.entropies, entropies, atol=1e-6, rtol=1e-6)
    assert torch.equal(stats.top, top)
    expected = gradients(model, logps, entropies)
    found = gradients(model, stats.logps, stats.entropies)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= 1e-6 * gradient.norm(), name


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_values_and_gradients_are_those_of_the_whole_logits(tied, temperature):
    assert_equal_to_plain(build_tiny_model(tied=tied), temperature)


def small(architecture, **options):
    import transformers

    sizes = {"vocab_size": 88, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 8}
    sizes |= {"num_key_value_heads": 2, "intermediate_size": 48, "initializer_range": 0.1, "pad_token_id": 0}
    config = getattr(transformers, architecture + "Config")(**(sizes | options))
    torch.manual_seed(0)
    return getattr(transformers, architecture + "ForCausalLM")(config)


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("Gemma2", {"final_logit_softcapping": 0.5}),
        ("Cohere", {"logit_scale": 0.25}),
        ("Granite", {"logits_scaling": 4.0}),
    ],
)
def test_capped_and_scaled_logits_are_those_of_the_architecture(architecture, options, recwarn):
    model = small(architecture, **options)
    assert LogitTransform.of(model.config) != LogitTransform()
    assert_equal_to_plain(model)
    assert model not in module._UNKNOWN


def test_an_architecture_whose_logits_are_changed_in_an_unknown_way_falls_back_to_all_logits():
    class Shifted(type(build_tiny_model())):
        def forward(self, *args, **kwargs):
            output = super().forward(*args, **kwargs)
            output.logits = output.logits * 1.3
            return output

    torch.manual_seed(0)
    model = Shifted(build_tiny_model().config)
    with pytest.warns(UserWarning, match="does to its logits what harness does not know"):
        token_stats(model, IDS, POSITIONS, TARGETS)
    assert_equal_to_plain(model)


def test_a_head_with_bias_and_frozen_weights():
    """Gradients of a bias, and none computed for a frozen weight."""
    torch.manual_seed(0)
    head = nn.Linear(16, 88)
    hidden = torch.randn(8, 16, requires_grad=True)
    logps = token_logps(head(hidden), TARGETS)
    expected = torch.autograd.grad(logps.sum(), [hidden, head.weight, head.bias])
    stats = _tiled(head, hidden, TARGETS, LogitTransform(), 1.0, False, False)
    found = torch.autograd.grad(stats.logps.sum(), [hidden, head.weight, head.bias])
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    head.weight.requires_grad_(False)
    _tiled(head, hidden, TARGETS, LogitTransform(), 1.0, False, False).logps.sum().backward()
    assert head.weight.grad is None
    torch.testing.assert_close(hidden.grad, expected[0], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], ["q_proj", "lm_head"]])
def test_lora_on_the_layers_and_on_the_head_itself(targets):
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    config = peft.LoraConfig(r=4, target_modules=targets, init_lora_weights=False)
    model = peft.get_peft_model(build_tiny_model(tied=False), config)
    assert_equal_to_plain(model)


def test_bfloat16_is_as_exact_as_with_the_whole_logits():
    """Under autocast the head's matrix product is rounded; sums over tiles may not add to the error."""
    model = build_tiny_model(tied=False)
    exact_logps, exact_entropies, _ = plain_stats(model.double())
    exact = gradients(model, exact_logps.float(), exact_entropies.float())
    model.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        plain, stats = plain_stats(model), token_stats(model, IDS, POSITIONS, TARGETS, entropy=True, top=True)
    torch.testing.assert_close(stats.logps, plain[0], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(stats.entropies, plain[1], atol=1e-6, rtol=1e-6)
    assert torch.equal(stats.top, plain[2])
    errors = []
    for logps, entropies in (plain[:2], (stats.logps, stats.entropies)):
        found = gradients(model, logps, entropies)
        errors.append({name: (found[name] - g.float()).norm() / g.norm() for name, g in exact.items()})
    for name, error in errors[1].items():
        assert error < 0.05, name
        assert error < 1.1 * errors[0][name] + 1e-3, name


def test_no_token_gives_zero_with_a_gradient():
    model = build_tiny_model()
    none = torch.zeros(0, dtype=torch.long)
    stats = token_stats(model, IDS, none, none, entropy=True, top=True)
    stats.logps.sum().backward()
    assert stats.logps.shape == stats.entropies.shape == stats.top.shape == (0,)


MEASURE = """
import re, torch
from torch import nn
from harness.models.losses import token_logps
from harness.models.token_stats import LogitTransform, _tiled

def peak():  # of this program alone: getrusage's begins with that of the process which started it
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])

torch.set_num_threads(1)
head = nn.Linear(32, 151936, bias=False)
hidden, targets = torch.randn(256, 32, requires_grad=True), torch.randint(0, 151936, (256,))
start = peak()
_tiled(head, hidden, targets, LogitTransform(), 1.0, False, True).logps.sum().backward()
tiled = peak()
head.weight.grad = None
token_logps(head(hidden), targets).sum().backward()
print((tiled - start) / (peak() - start))
"""


def test_memory_at_a_vocabulary_of_152_thousand_is_less_than_half():
    """Growth of the peak; one tensor of these logits takes 148 MiB, the weight's gradient 19."""
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, check=True)
    assert float(done.stdout) < 0.5
