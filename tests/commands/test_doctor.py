import importlib.util

import pytest

from harness.commands.doctor import doctor, engine, examine, package, sandbox
from harness.commands.doctor_model import examine_model
from harness.errors import InputError
from tests.engines.conftest import build_model, save


def test_what_works_is_listed_and_the_status_says_so(capsys):
    assert doctor(quick=True) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("python", "torch", "devices", "memory", "disk", "W&B", "engine transformers"))
    assert text.endswith("Everything essential works.\n")


def test_a_missing_package_is_broken_when_essential_and_missing_when_optional():
    essential = package("no-such-package-as-this")
    assert (essential.state, essential.core) == ("broken", True)
    assert "make setup" in essential.text
    optional = package("no-such-package-as-this", "colours; install the extra colours")
    assert (optional.state, optional.core) == ("missing", False)
    assert "install the extra colours" in optional.text


def test_something_essential_that_is_broken_fails(monkeypatch, capsys):
    monkeypatch.setattr("harness.commands.doctor.CORE", ("no-such-package-as-this",))
    assert doctor(quick=True) == 1
    assert "Something essential is broken" in capsys.readouterr().out


def test_every_finding_that_is_not_ok_names_a_remedy(monkeypatch):
    monkeypatch.setattr("harness.commands.doctor.MIN_MEMORY_GB", 10**6)
    monkeypatch.setattr("harness.commands.doctor.MIN_DISK_GB", 10**6)
    found = {finding.name: finding for finding in examine(quick=True, timeout=1)}
    assert found["memory"].state == found["disk"].state == "missing"
    assert "free some space" in found["disk"].text


@pytest.mark.slow
def test_the_sandbox_is_attacked_and_each_attack_is_listed():
    found = list(sandbox())
    assert len(found) > 3
    assert all(finding.name.startswith("sandbox ") and finding.text for finding in found)


@pytest.mark.slow
def test_the_transformers_engine_really_samples():
    finding = engine("transformers", timeout=120, start=True)
    assert finding.state == "ok"
    assert "sampled 16 tokens" in finding.text


@pytest.mark.slow
@pytest.mark.vllm
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
def test_the_vllm_engine_really_samples():
    finding = engine("vllm", timeout=240, start=True)
    assert finding.state == "ok"
    assert finding.text.startswith("vllm ")


def test_an_engine_that_does_not_answer_in_time_is_broken_and_is_ended():
    finding = engine("transformers", timeout=0.2, start=True)
    assert finding.state == "broken"
    assert "no answer within 0.2 s" in finding.text


def test_a_model_is_tried_through_the_loop(tiny_model_dir, monkeypatch, capsys):
    monkeypatch.setattr("harness.commands.doctor_model.importlib.util.find_spec", lambda name: None)  # without vLLM
    assert doctor(model=str(tiny_model_dir), layers=1) == 0
    lines = capsys.readouterr().out.splitlines()
    names = ["load", "loss", "packing", "shared prefixes", "reward head", "export", "vLLM"]
    assert [line.split("  ")[0] for line in lines[: len(names)]] == ["ok"] * len(names)
    assert [line[9:29].strip() for line in lines[: len(names)]] == names
    assert "LlamaForCausalLM, 1 layers" in lines[0]
    assert lines[-1] == "Everything works with this model."


def test_what_fails_with_a_model_is_said_and_the_rest_is_tried(tiny_model_dir, monkeypatch, capsys):
    import harness.models.weights as weights

    def cannot(*args, **options):
        raise ValueError("no such head\nand more")

    monkeypatch.setattr("harness.commands.doctor_model.importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(weights, "load_reward_model", cannot)
    assert doctor(model=str(tiny_model_dir)) == 1
    text = capsys.readouterr().out
    assert "fails    reward head          no such head\nok       export " in text
    assert text.endswith("1 of these fail.\n")


def test_layers_without_a_model_and_no_layers_are_refused(tiny_model_dir):
    with pytest.raises(InputError, match="give --model too"):
        doctor(layers=2)
    with pytest.raises(InputError, match="layers is 0; it must be at least 1"):
        doctor(model=str(tiny_model_dir), layers=0)


@pytest.mark.slow
@pytest.mark.vllm
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
def test_vllm_takes_a_models_weights(tmp_path):
    save(build_model(tied=True), tmp_path)
    found = {name: (holds, text) for name, holds, text in examine_model(str(tmp_path))}
    holds, text = found["sync to vLLM"]
    assert holds
    assert "samples from the weights after a step" in text
