"""Wheel and sdist: built, installed beside nothing of the repository, used from elsewhere by a package of a user's."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.paths import ROOT

MYLAB = Path(__file__).parent / "mylab"
TUTORIAL = (ROOT / "docs/tutorial.md").read_text()
BLOCK = re.compile(r'^```(?:(?:python|yaml) title="(?P<file>\S+)"|bash)\n(?P<text>.*?)^```$', re.MULTILINE | re.DOTALL)
BUILT = ("harness", "configs", "docs", "examples", "requirements", "tools")
FILES = (
    "pyproject.toml",
    "setup.py",
    "MANIFEST.in",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "CITATION.cff",
    "Makefile",
)


def clean_environment() -> dict[str, str]:
    """This one's without what would find the repository."""
    return {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")} | {
        "WANDB_MODE": "disabled",
        "OMP_NUM_THREADS": "1",
    }


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [*map(str, command)],
        cwd=cwd,
        env=clean_environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def build(kind: str, source: Path, target: Path) -> Path:
    """What setuptools makes of a source tree."""
    call = f"import setuptools.build_meta as b; print(b.build_{kind}({str(target)!r}))"
    return target / run(sys.executable, "-c", call, cwd=source).split()[-1]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, Path]:
    """The sdist of a copy of the tree, and the wheel built from the unpacked sdist."""
    folder = tmp_path_factory.mktemp("release")
    source = folder / "source"
    for name in BUILT:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, source / name)
    sdist = build("sdist", source, folder)
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    [unpacked] = (folder / "unpacked").iterdir()
    return {"sdist": sdist, "wheel": build("wheel", unpacked, folder)}


@pytest.fixture(scope="module")
def python(made, tmp_path_factory) -> Path:
    """An environment that has the wheel and a user's package, and shares only what they depend on."""
    folder = tmp_path_factory.mktemp("fresh")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "env", cwd=folder)
    python = folder / "env/bin/python"
    [packages] = (folder / "env").glob("lib/python*/site-packages")
    shared = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    # Paths in such a file are searched last, and files of their kind in them are not read: no editable project is seen.
    (packages / "shared.pth").write_text("\n".join(shared) + "\n")
    shutil.copytree(MYLAB, folder / "mylab")
    lab = build("wheel", folder / "mylab", folder)
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index")
    run(*pip, "--ignore-installed", made["wheel"], lab, cwd=folder)
    return python


def test_wheel_and_sdist_hold_recipes_launch_files_tasks_and_the_licence(made):
    with zipfile.ZipFile(made["wheel"]) as wheel:
        names = set(wheel.namelist())
        metadata = wheel.read(next(name for name in names if name.endswith("METADATA"))).decode()
    assert metadata.split("Name: ")[1].startswith("harness-reason\n")
    expected = {str(path.relative_to(ROOT)) for path in (ROOT / "configs").rglob("*") if path.is_file()}
    expected = {f"harness/{name}" for name in expected if "__pycache__" not in name}
    assert len(expected) > 150
    assert expected <= names
    assert "harness/evals/tasks/gsm8k.yaml" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.split("/")[0] for name in names if "dist-info" not in name} == {"harness"}
    with tarfile.open(made["sdist"]) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert {"configs/recipes/starter/README.md", "docs/cli.md", "examples/reward.py", "LICENSE"} <= inside


@pytest.mark.slow
def test_a_users_package_runs_by_fit_eval_and_rollout(python, tmp_path):
    printed = run(python, MYLAB / "use.py", cwd=tmp_path)
    assert printed.splitlines()[-1] == "mylab ran"
    assert str(python.parent.parent) in printed.splitlines()[0], "harness was not imported from the wheel"


@pytest.mark.slow
def test_the_demo_runs(python, tmp_path):
    printed = run(python.parent / "harness", "demo", "--quick", "--output", tmp_path / "mine", cwd=tmp_path)
    assert "| B-STaR, iteration 1 |" in printed
    assert (tmp_path / "mine/accuracy.png").stat().st_size > 1000
    assert (tmp_path / "mine/22_more_sft/eval/results.json").exists()


@pytest.mark.slow
def test_every_step_of_the_tutorial_runs_in_an_empty_folder(python, tmp_path):
    places = {"python": python, "harness": python.parent / "harness"}
    printed: dict[str, str] = {}
    for block in BLOCK.finditer(TUTORIAL):
        if block["file"]:
            (tmp_path / block["file"]).write_text(block["text"])
            continue
        for command in block["text"].splitlines():
            name, *rest = shlex.split(command)
            printed[command] = run(places[name], *rest, cwd=tmp_path)
    assert len(printed) == 8
    for stage in ("sft", "dpo", "bstar"):
        assert (tmp_path / f"runs/{stage}/hf/model.safetensors").is_file()
        [fit] = [text for command, text in printed.items() if command.endswith(f"{stage}.yaml")]
        assert f"runs/{stage}/hf: the model after step" in fit
    manifest = json.loads((tmp_path / "runs/bstar/rollouts/iter_002.json").read_text())
    assert manifest["monitors"]["num_rows"] > 0
    for model in ("sft", "bstar"):
        for task in ("seen", "unseen"):
            results = json.loads((tmp_path / f"runs/eval/{model}/{task}/results.json").read_text())
            assert results["counts"]["samples"] >= 20
            assert results["protocol"]["system"] == "You add."
    # What was taught is known, so that there is something to compare.
    assert json.loads((tmp_path / "runs/eval/sft/seen/results.json").read_text())["metrics"]["accuracy"]["value"] > 0.2
    [compared] = [text for command, text in printed.items() if " compare " in command]
    assert "p-values adjusted for 2 tasks" in compared
    assert (tmp_path / "report.html").stat().st_size > 50_000
