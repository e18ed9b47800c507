import importlib.util

import pytest

from harness.commands.doctor import doctor, engine, examine, package, sandbox


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
