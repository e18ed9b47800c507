"""The command line, mostly in this process; what concerns the process itself in a real one."""

from __future__ import annotations

import csv
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from harness import __version__
from harness.cli.main import COMMANDS, main
from harness.cli.names import KINDS

RECIPE = Path(__file__).parents[2] / "configs/recipes/bstar/arithmetic/20_bstar.yaml"
BORING = {
    "model": {"class_path": "lightning.pytorch.demos.boring_classes.BoringModel"},
    "data": {"class_path": "lightning.pytorch.demos.boring_classes.BoringDataModule"},
    "trainer": {
        "max_epochs": 1,
        "limit_train_batches": 2,
        "limit_val_batches": 1,
        "accelerator": "cpu",
        "enable_model_summary": False,
        "log_every_n_steps": 1,
        "callbacks": [
            {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": {"save_last": True}},
            {"class_path": "lightning.pytorch.callbacks.LearningRateMonitor"},
        ],
    },
}


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    # Lightning's log handler keeps the standard error of the test that imported it, closed since, and would say so.
    monkeypatch.setattr(logging, "raiseExceptions", False)
    (tmp_path / "boring.yaml").write_text(yaml.safe_dump(BORING))


def run(*arguments: str) -> int:
    """Exit status of the command, run in this process."""
    try:
        return main(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)


def printed(capsys, *arguments: str) -> str:
    assert run(*arguments) == 0
    return capsys.readouterr().out


def error_of(capsys, *arguments: str) -> str:
    """The one sentence that a command fails with, having checked that it is one, with status 2."""
    assert run(*arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    sentences = [line for line in lines if line.startswith("error: ")]
    assert len(sentences) == 1
    assert not any("Traceback" in line for line in lines)
    return sentences[0]


# ---- the door


def printed_without_heavy_imports(calls: str) -> str:
    """What calls of `main` print, which must not import any of the large packages."""
    script = (
        f"import sys; from harness.cli.main import main; {calls};"
        "heavy = {'torch', 'lightning', 'transformers', 'jsonargparse', 'numpy', 'yaml'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_and_version_import_nothing_heavy():
    text = printed_without_heavy_imports("main(['--help']); main(['--version'])")
    assert f"harness {__version__}" in text
    assert all(name in text and command.summary in text for name, command in COMMANDS.items())


def test_no_command_shows_the_help_and_fails(capsys):
    assert run() == 2
    assert "usage: harness COMMAND" in capsys.readouterr().out


def test_an_unknown_command_names_the_nearest(capsys):
    assert "unknown command 'rolout'; did you mean 'rollout'?" in error_of(capsys, "rolout")


def test_the_help_of_fit_names_our_classes_with_one_line_each_and_imports_nothing_heavy():
    text = printed_without_heavy_imports("main(['fit', '--help'])")
    shown = {words[0]: words[1:] for line in text.splitlines() if (words := line.split())}
    for kind in ("modules", "datamodules", "callbacks"):
        names = set(KINDS[kind].names())
        assert names, kind
        assert all(len(shown[name]) > 3 for name in names), names - shown.keys()
    assert "HeldOutAccuracy" not in shown  # an argument of a callback, none itself


@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if command.function])
def test_every_function_command_describes_all_its_options(name, capsys):
    text = printed(capsys, name, "--help")
    assert "--config" in text
    described = COMMANDS[name].load().__doc__.split("\n\n")[0]
    assert " ".join(described.split())[:40] in " ".join(text.split())


@pytest.mark.slow
def test_completion_scripts_know_commands_and_options(capsys, tmp_path):
    script = printed(capsys, "--print_completion", "bash")
    (tmp_path / "completion.sh").write_text(script)
    assert subprocess.run(["bash", "-n", str(tmp_path / "completion.sh")], check=False).returncode == 0
    ask = "source completion.sh; COMP_WORDS=(harness fit --trainer.max_ep); COMP_CWORD=2; _shtab_harness; "
    done = subprocess.run(["bash", "-c", f"{ask} echo ${{COMPREPLY[@]}}"], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["--trainer.max_epochs"]
    assert "takes the name of a shell" in error_of(capsys, "--print_completion", "tchs")


def test_what_a_function_command_returns_is_the_exit_status(tmp_path):
    from harness.cli.function import run_function

    def count(words: list[str], plus: int = 0) -> int:
        """Count words."""
        return len(words) + plus

    (tmp_path / "count.yaml").write_text("words: [a, b]\nplus: 1\n")
    assert run_function("count", count, ["--config", "count.yaml"]) == 3
    assert run_function("count", count, ["--config", "count.yaml", "--plus=5"]) == 7


# ---- configurations


@pytest.mark.parametrize(
    "option", ["--reward=Outcome", "--reward Outcome", "--reward.class_path harness.rewards.Outcome"]
)
def test_rewards_and_searches_have_short_names(option, capsys):
    options = [*option.split(), "--search", "MCTS", "--search.rollouts", "3", "--print_config"]
    with pytest.raises(SystemExit):
        main(["eval", "--task", "arithmetic", "--model", "x", *options])
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["reward"]["class_path"] == "harness.rewards.Outcome"
    assert printed["search"]["class_path"] == "harness.search.MCTS"
    assert printed["search"]["init_args"]["rollouts"] == 3


def test_an_unknown_short_name_names_the_nearest(capsys):
    with pytest.raises(SystemExit):
        main(["eval", "--task", "arithmetic", "--model", "x", "--search", "MTCS"])
    assert "harness.search has no 'MTCS'; did you mean 'MCTS'?" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["list", "tasks"], ids=["more than a pipe holds", "less"])
def test_a_reader_that_is_gone_ends_a_command_without_a_word(command, monkeypatch):
    script = "import sys; from harness.cli.main import main; sys.exit(main(sys.argv[1:]))"
    arguments = [command, *(["templates"] if command == "list" else [])]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_command_may_be_given_no_options_at_all(capsys):
    assert main(["tasks"]) == 0
    assert "competition: aime2024, " in capsys.readouterr().out


def test_line_breaks_in_an_option_of_a_class_are_refused_or_arrive_as_they_are(capsys):
    search = ["eval", "--task", "arithmetic", "--model", "x", "--search", "MCTS"]
    assert main([*search, "--search.steps", "PlainSteps", "--search.steps.step_stop", r'["\n"]']) == 2
    error = capsys.readouterr().err
    assert "--search.steps.step_stop" in error
    remedy = error.rpartition("--search.steps '")[2].partition("'")[0]
    with pytest.raises(SystemExit):
        main([*search, "--search.steps", remedy, "--print_config"])
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["search"]["init_args"]["steps"]["init_args"]["step_stop"] == ["\n"]


def test_a_printed_config_fed_back_prints_itself(capsys, tmp_path):
    first = printed(capsys, "fit", "--config", str(RECIPE), "--print_config")
    (tmp_path / "printed.yaml").write_text(first)
    assert printed(capsys, "fit", "--config", "printed.yaml", "--print_config") == first


def test_later_files_and_then_options_win(capsys, tmp_path):
    (tmp_path / "more.yaml").write_text("trainer: {max_epochs: 7, min_epochs: 3}\n")
    given = ["fit", "--config", "boring.yaml", "--config", "more.yaml", "--trainer.min_epochs", "4", "--print_config"]
    trainer = yaml.safe_load(printed(capsys, *given))["trainer"]
    assert (trainer["max_epochs"], trainer["min_epochs"], trainer["limit_train_batches"]) == (7, 4, 2)


def test_the_trainer_leaves_sharding_to_the_datamodules(capsys):
    printed_config = yaml.safe_load(printed(capsys, "fit", "--config", "boring.yaml", "--print_config"))
    assert printed_config["trainer"]["use_distributed_sampler"] is False
    assert printed_config["seed_everything"] == 0


@pytest.mark.parametrize(
    ("change", "options", "expected"),
    [
        ({}, ["--trainer.max_epoch", "3"], "unknown key 'trainer.max_epoch'; did you mean 'trainer.max_epochs'?"),
        ({"trainer": {"max_epoch": 3}}, [], "unknown key 'trainer.max_epoch'; did you mean 'trainer.max_epochs'?"),
        ({"traner": {"max_epochs": 3}}, [], "unknown key 'traner.max_epochs'; did you mean 'trainer.max_epochs'?"),
        (
            {"trainer": {"callbacks": [{"class_path": "ModelCheckpoint", "init_args": {"save_lst": True}}]}},
            [],
            "ModelCheckpoint: unknown key 'save_lst'; did you mean 'save_last'?",
        ),
        (
            {"model": {"class_path": "harness.modules.SFTModul", "init_args": {}}},
            [],
            "harness.modules has no 'SFTModul'; did you mean 'SFTModule'?",
        ),
        (
            {"model": {"class_path": "harness.modules.SFTModule", "init_args": {"checkpiont": "x"}}},
            [],
            "SFTModule: unknown key 'checkpiont'; did you mean 'checkpoint'?",
        ),
        ({}, ["--trainer.max_epochs", "three"], "trainer.max_epochs: 'three' is not a valid value, expected int"),
    ],
)
def test_a_mistake_in_a_config_is_named_with_its_remedy(change, options, expected, capsys, tmp_path):
    (tmp_path / "change.yaml").write_text(yaml.safe_dump(change))
    assert expected in error_of(capsys, "fit", "--config", "boring.yaml", "--config", "change.yaml", *options)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "bad.yaml: no such file; give the path of an existing YAML file."),
        ("a: 1\nb: c: d\n", "bad.yaml:2: not valid YAML (mapping values are not allowed here)"),
        ("- a\n- b\n", "bad.yaml: expected a mapping of keys to values, found list."),
    ],
)
@pytest.mark.parametrize("command", ["fit", "prepare"])
def test_a_bad_config_file_is_named(command, content, expected, capsys, tmp_path):
    if content is not None:
        (tmp_path / "bad.yaml").write_text(content)
    assert expected in error_of(capsys, command, "--config=bad.yaml")


def test_what_a_nested_class_refuses_is_one_sentence(capsys, tmp_path):
    reward = {
        "class_path": "harness.rewards.RewardModel",
        "init_args": {"checkpoint": "no/such/model", "template": "plain"},
    }
    rollout = {
        "class_path": "harness.callbacks.RolloutCallback",
        "init_args": {
            "problems": ["train.jsonl"],
            "scheduler": {"class_path": "harness.selection.FixedSampling", "init_args": {"sampling": {"n": 2}}},
            "reward": {"class_path": "harness.rewards.WeightedSum", "init_args": {"process": reward}},
        },
    }
    (tmp_path / "change.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": [rollout]}}))
    said = error_of(capsys, "fit", "--config", "boring.yaml", "--config", "change.yaml")
    assert said.startswith("error: no/such/model: no such directory; give a checkpoint directory")


def test_missing_sections_are_named(capsys):
    assert "missing data, model; give it as an option or in a file with --config." in error_of(capsys, "fit")


# ---- run directories


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_everything_of_a_run_lies_in_its_directory_and_a_resumed_run_adds_to_it(capsys, tmp_path):
    assert run("fit", "--config", "boring.yaml", "--run_dir", "runs/one") == 0
    left = {path.name for path in (tmp_path / "runs/one").iterdir()}
    assert left == {"config.yaml", "environment.json", "metrics.csv", "checkpoints", ".lock"}
    assert [row["step"] for row in rows(tmp_path / "runs/one/metrics.csv")] == ["0"]

    assert "runs/one already holds a run with checkpoints; continue it with --ckpt_path last" in error_of(
        capsys, "fit", "--config", "boring.yaml", "--run_dir", "runs/one"
    )

    resumed = ["--run_dir", "runs/one", "--ckpt_path", "last", "--trainer.max_epochs", "2"]
    assert run("fit", "--config", "boring.yaml", *resumed) == 0
    assert [row["step"] for row in rows(tmp_path / "runs/one/metrics.csv")] == ["0", "2"]
    assert "max_epochs: 1 -> 2" in capsys.readouterr().err
    assert yaml.safe_load((tmp_path / "runs/one/config-2.yaml").read_text())["trainer"]["max_epochs"] == 2


def test_a_run_that_never_saved_is_started_over_with_its_metrics_put_aside(tmp_path):
    folder = tmp_path / "runs/fit"
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text("old,step\n1,0\n")
    assert run("fit", "--config", "boring.yaml") == 0
    assert "old" not in rows(folder / "metrics.csv")[0]
    assert rows(folder / "metrics-2.csv") == [{"old": "1", "step": "0"}]


def test_two_names_for_the_run_directory_must_agree(capsys):
    given = ["--run_dir", "a", "--trainer.default_root_dir", "b"]
    assert "run_dir is 'a' but trainer.default_root_dir is 'b'" in error_of(
        capsys, "fit", "--config", "boring.yaml", *given
    )


def test_a_run_directory_that_cannot_be_written_is_refused_before_anything_runs(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert "file/run: cannot be written (Not a directory)" in error_of(
        capsys, "fit", "--config", "boring.yaml", "--run_dir", "file/run"
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
def test_a_full_disk_is_one_sentence(capsys, tmp_path):
    (tmp_path / "runs/fit").mkdir(parents=True)
    (tmp_path / "runs/fit/metrics.csv").symlink_to("/dev/full")
    assert "No space left on device" in error_of(capsys, "fit", "--config", "boring.yaml", "--ckpt_path", "last")


def test_a_disk_that_fills_up_under_a_library_of_its_own_errors_is_one_sentence(tmp_path):
    script = (
        "import resource, torch; from safetensors.torch import save_file; from harness.cli.main import guarded\n"
        "weights = {'a': torch.zeros(5000), 'b': torch.zeros(5000)}\n"
        "def full(limit, save):\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))\n"
        "    print(guarded(save))\n"
        "for limit in (1000, 30000):\n"
        "    full(limit, lambda: save_file(weights, 'model.safetensors'))\n"
        "    full(limit, lambda: torch.save(weights, 'weights.pt'))\n"
        "    full(limit, lambda: torch.save(weights, open('weights.pt', 'wb')))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "2\n" * 6, done.stderr
    assert done.stderr.count("error: a file cannot be written (File too large); free space and run again.\n") == 4
    assert done.stderr.count("error: a file cannot be written (most likely a full disk); free space") == 2


def test_a_current_directory_that_was_deleted_is_one_sentence(tmp_path):
    script = "import os, sys; os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone');"
    script += "from harness.cli.main import main; sys.exit(main(['tasks']))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: the current directory does not exist any more; change into one that does.\n"


def test_a_fit_without_a_single_step_fails(capsys):
    given = ["fit", "--config", "boring.yaml", "--trainer.limit_train_batches", "0"]
    assert "not one step was taken" in error_of(capsys, *given)


def test_a_process_that_ran_in_parallel_ends_by_its_exit_functions_and_not_by_taking_python_down():
    script = (
        "import atexit, os, sys; from harness.cli.main import main\n"
        "class Kept:\n    def __del__(self, write=os.write): write(1, b'taken down\\n')\n"
        "sys.kept = Kept(); atexit.register(print, 'exit functions ran')\n"
        "sys.exit(main())"
    )
    fit = [sys.executable, "-c", script, "fit", "--config", "boring.yaml"]
    environment = {**os.environ, "WANDB_MODE": "disabled"}
    printed = {}
    for strategy in ("ddp", "auto"):
        options = ["--run_dir", f"runs/{strategy}", "--trainer.devices", "1", "--trainer.strategy", strategy]
        done = subprocess.run([*fit, *options], capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        printed[strategy] = [line for line in done.stdout.splitlines() if line in ("taken down", "exit functions ran")]
    assert printed == {"ddp": ["exit functions ran"], "auto": ["exit functions ran", "taken down"]}


def test_the_other_verbs_leave_the_record_of_the_fit_alone(tmp_path):
    assert run("fit", "--config", "boring.yaml", "--run_dir", "one") == 0
    before = (tmp_path / "one/config.yaml").read_text()
    given = ["--config", "one/config.yaml", "--run_dir", "one", "--ckpt_path", "one/checkpoints/last.ckpt"]
    assert run("test", *given) == 0
    assert (tmp_path / "one/config.yaml").read_text() == before
    assert (tmp_path / "one/config-test.yaml").exists()


# ---- signals


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_run_with_its_own_status_and_the_run_can_be_continued(number, status, tmp_path):
    endless = ["fit", "--config", "boring.yaml", "--run_dir", "run", "--trainer.max_epochs", "1000000"]
    environment = {**os.environ, "HARNESS_PROGRESS": "off"}
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", *endless],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Shells start background jobs with SIGINT ignored, and it would stay so.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "run/checkpoints/last.ckpt").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == status, errors.decode()
    assert b"Traceback" not in errors
    done = len(rows(tmp_path / "run/metrics.csv"))
    assert run(*endless, "--ckpt_path", "last", "--trainer.max_time", "00:00:00:01") == 0
    assert len(rows(tmp_path / "run/metrics.csv")) > done


def test_the_line_below_a_field_is_its_help(capsys):
    with pytest.raises(SystemExit):
        main(["eval", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "Number format of the engine's weights" in shown


def test_bare_words_and_switches_are_options():
    from harness.cli.function import spell_out
    from harness.commands.grade import grade
    from harness.commands.report import report

    assert spell_out(grade, ["a.jsonl", "--explain"], ("file",)) == ["--file", "a.jsonl", "--explain", "true"]
    assert spell_out(grade, ["--explain", "--file", "a"], ("file",)) == ["--explain", "true", "--file", "a"]
    assert spell_out(grade, ["--explain", "false"], ("file",)) == ["--explain", "false"]
    assert spell_out(report, ["a", "b", "--title", "t"], ("runs",)) == ["--runs", '["a", "b"]', "--title", "t"]


def test_the_readmes_line_grades_stored_samples_with_reasons(tmp_path, capsys):
    (tmp_path / "samples.jsonl").write_text('{"text": "The answer is 4.", "gold": "4"}\n')
    assert main(["grade", str(tmp_path / "samples.jsonl"), "--explain"]) == 0
    assert "samples.jsonl:1: right by" in capsys.readouterr().out
