"""Every YAML file under configs/ is read by the parser of the command that its header launches."""

from __future__ import annotations

import functools
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
CONFIGS = ROOT / "configs"
OVERLAYS = sorted(CONFIGS.glob("hardware/*.yaml"))
LAUNCH = sorted(path for path in CONFIGS.glob("launch/*") if path.suffix in (".sh", ".sbatch"))
KUBERAY = CONFIGS / "launch/kuberay.yaml"
COMPLETE = sorted(path for path in CONFIGS.rglob("*.yaml") if path not in (*OVERLAYS, KUBERAY))
VERBS = ("fit", "validate", "test", "predict")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def launch_line(path: Path) -> list[str]:
    """The words after `# Launch: harness` in the file's header."""
    header = path.read_text().split("\n\n")[0]
    found = re.search(r"^# Launch: harness (.+)$", header, re.MULTILINE)
    assert found, f"{name(path)} does not begin with its launch line, `# Launch: harness COMMAND --config ...`"
    return shlex.split(found[1])


@functools.cache
def parser(command: str):
    from harness.cli.function import function_parser
    from harness.cli.main import COMMANDS
    from harness.cli.training import training_parsers

    if command in VERBS:
        return training_parsers(command)[0]
    return function_parser(command, COMMANDS[command].load())


def parse(command: str, *options: str):
    arguments = [command, *options] if command in VERBS else list(options)
    return parser(command).parse_args(arguments)


@pytest.mark.parametrize("path", COMPLETE, ids=name)
def test_a_config_is_read_by_the_command_that_its_header_launches(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    command, *options = launch_line(path)
    assert name(path) in options, "the launch line names another file"
    parse(command, *options)


@pytest.mark.parametrize("path", COMPLETE, ids=name)
def test_a_printed_config_fed_back_prints_itself(path, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(ROOT)
    command, *options = launch_line(path)

    def printed(*arguments: str) -> str:
        with pytest.raises(SystemExit) as stop:
            parse(command, *arguments, "--print_config")
        assert stop.value.code == 0
        return capsys.readouterr().out

    first = printed(*options)
    (tmp_path / "printed.yaml").write_text(first)
    assert printed("--config", str(tmp_path / "printed.yaml")) == first


@pytest.mark.parametrize("overlay", OVERLAYS, ids=name)
def test_an_overlay_changes_a_recipe_as_it_says_and_nothing_else(overlay, monkeypatch):
    from harness.callbacks.run_record import differences, flat

    monkeypatch.chdir(ROOT)
    assert name(overlay) in launch_line(overlay)
    command = launch_line(overlay)[0]
    recipe = next(path for path in COMPLETE if launch_line(path)[0] == command and "hardware" not in path.read_text())
    _, *options = launch_line(recipe)

    def flattened(*arguments: str) -> dict:
        return flat(yaml.safe_load(parser(command).dump(parse(command, *arguments), skip_none=False)))

    changed = differences(flattened(*options), flattened(*options, "--config", str(overlay)))
    root = f"{command}." if command in VERBS else ""
    said = [f"{root}{key}".partition(".class_path")[0] for key in flat(yaml.safe_load(overlay.read_text()))]
    assert changed
    for key in (line.partition(":")[0] for line in changed):
        assert any(key.startswith(wanted) or wanted.startswith(key) for wanted in said), key


def parse_filled_in(line: str) -> None:
    """Parse the `harness` command at the end of a line, with a file in the place of the variable that names one."""
    command, *options = shlex.split(line[line.index("harness ") :])[1:]
    path = ARITHMETIC[command]
    parse(command, *(path if option in ("$recipe", "$evaluation") else option for option in options))
    for option in options:
        assert not option.startswith("configs/") or (ROOT / option).is_file(), option


ARITHMETIC = {"fit": "configs/recipes/bstar/arithmetic/20_bstar.yaml", "eval": "configs/eval/arithmetic.yaml"}


@pytest.mark.parametrize("script", LAUNCH, ids=name)
def test_a_launch_script_is_bash_and_its_command_is_read(script, monkeypatch):
    monkeypatch.chdir(ROOT)
    text = script.read_text()
    assert subprocess.run(["bash", "-n", str(script)], capture_output=True).stderr == b""
    assert f"configs/launch/{script.name}" in re.search("^# Launch: (.+)$", text, re.MULTILINE)[1]
    [line] = [line for line in text.replace("\\\n", " ").splitlines() if re.match("(srun|torchrun) ", line)]
    parse_filled_in(line)
    overlay = yaml.safe_load(Path(re.search(r"configs/hardware/\S+", line)[0]).read_text())
    asked = dict(re.findall(r"^#SBATCH --(\S+)=(\d+)$", text, re.MULTILINE))
    if script.name.startswith("ray"):
        assert int(asked["nodes"]) * int(asked["gpus-per-node"]) == overlay["engine"]["replicas"]
        assert f"--min-nodes {asked['nodes']} --" in line
    elif asked:
        assert (int(asked["nodes"]), int(asked["ntasks-per-node"])) == (4, 8)
    if line.startswith("torchrun"):
        from torch.distributed.run import get_args_parser

        arguments = get_args_parser().parse_args(shlex.split(line)[1:])
        assert (arguments.nnodes, arguments.nproc_per_node, arguments.module) == ("4", "8", True)
        assert [arguments.training_script, arguments.training_script_args[0]] == ["harness", "fit"]
    if not script.name.startswith("ray"):
        assert (overlay["trainer"]["num_nodes"], overlay["trainer"]["devices"]) == (4, 8)


def test_the_kubernetes_job_has_a_card_for_each_engine_and_its_command_is_read(monkeypatch):
    monkeypatch.chdir(ROOT)
    job = yaml.safe_load(KUBERAY.read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    parse_filled_in(job["spec"]["entrypoint"])
    [workers] = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    [container] = workers["template"]["spec"]["containers"]
    cards = workers["replicas"] * int(container["resources"]["limits"]["nvidia.com/gpu"])
    assert cards == yaml.safe_load((CONFIGS / "hardware/ray_64.yaml").read_text())["engine"]["replicas"]
