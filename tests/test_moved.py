"""Names of version 0.1: stored configurations and users' code that hold them go on working."""

from __future__ import annotations

import importlib
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from harness.moved import MODULES, NAMES, RENAMED

STORED = Path(__file__).parent / "stored" / "config_0_1.yaml"


@pytest.mark.parametrize("old", MODULES)
def test_an_old_module_is_the_new_one_after_one_warning(old):
    sys.modules.pop(f"harness.{old}", None)
    new = importlib.import_module(f"harness.{MODULES[old]}")
    spec = new.__spec__
    with pytest.warns(FutureWarning, match=f"harness.{old} is now harness.{MODULES[old]}"):
        found = importlib.import_module(f"harness.{old}")
    assert found is new
    assert new.__spec__ is spec
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert importlib.import_module(f"harness.{old}") is new


@pytest.mark.parametrize(("module", "name"), [(m, n) for m, names in NAMES.items() for n in names if n != "*"])
def test_an_old_attribute_is_the_new_one(module, name):
    home, _, attribute = NAMES[module][name].rpartition(".")
    with pytest.warns(FutureWarning, match="is now"):
        found = getattr(importlib.import_module(f"harness.{module}"), name)
    assert found is getattr(importlib.import_module(f"harness.{home}"), attribute)


@pytest.mark.parametrize(
    ("module", "name"),
    [("models", "fingerprint"), ("prompts", "find_template"), ("prompts", "PromptTemplate")],
)
def test_a_module_that_became_a_package_still_has_what_it_had(module, name):
    with pytest.warns(FutureWarning):
        assert getattr(importlib.import_module(f"harness.{module}"), name) is not None


@pytest.mark.parametrize(("module", "before"), [(m, name) for m, names in RENAMED.items() for name in names])
def test_a_class_with_another_name_in_a_moved_module_is_found(module, before):
    sys.modules.pop(f"harness.{module}", None)
    with pytest.warns(FutureWarning):
        found = getattr(importlib.import_module(f"harness.{module}"), before)
    assert found.__name__ == RENAMED[module][before]


def test_a_name_that_never_was_is_an_error():
    with pytest.raises(AttributeError, match=r"harness.rollouts.*no attribute 'Nonsense'"):
        importlib.import_module("harness.rollouts").Nonsense  # noqa: B018
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("harness.rollouts.nonsense")


def test_a_configuration_stored_by_version_0_1_is_read_as_what_it_meant():
    """The file is what `harness fit` of version 0.1 left in a run directory; it must be read for ever."""
    code = (
        "import sys, yaml; from harness.cli.training import training_parsers;"
        "parser = training_parsers('fit')[1];"
        f"config = parser.parse_path({str(STORED)!r});"
        "callbacks = config.trainer.callbacks;"
        "print([c.class_path for c in callbacks], callbacks[1].init_args.scheduler.class_path)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "'harness.callbacks.RolloutCallback'" in done.stdout
    assert done.stdout.strip().endswith("harness.rollouts.BalancedSampling")
    assert "harness.rollouts.BalancedSampling is now harness.selection.BalancedSampling" in done.stderr
