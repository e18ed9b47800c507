"""Every YAML file under configs/ is read by the parser of the command that its header launches."""

from __future__ import annotations

import functools
import re
import shlex
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
CONFIGS = ROOT / "configs"
OVERLAYS = sorted(CONFIGS.glob("hardware/*.yaml"))
COMPLETE = sorted(path for path in CONFIGS.rglob("*.yaml") if path not in OVERLAYS)
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
    recipe = next(path for path in COMPLETE if launch_line(path)[0] == "fit" and "hardware" not in path.read_text())
    command, *options = launch_line(recipe)

    def flattened(*arguments: str) -> dict:
        return flat(yaml.safe_load(parser(command).dump(parse(command, *arguments), skip_none=False)))

    changed = differences(flattened(*options), flattened(*options, "--config", str(overlay)))
    said = [f"{command}.{key}".partition(".class_path")[0] for key in flat(yaml.safe_load(overlay.read_text()))]
    assert changed
    for key in (line.partition(":")[0] for line in changed):
        assert any(key.startswith(wanted) or wanted.startswith(key) for wanted in said), key
