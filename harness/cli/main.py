"""The command line: finds the command, imports it, and turns what goes wrong into one sentence and an exit status.

Exit status: 0 all that was asked is done; 1 an unforeseen error, with its traceback; 2 bad input; 130 interrupted;
143 terminated. Nothing heavy is imported before a command is known.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from harness import __version__
from harness.cli.command import Command
from harness.environment import prepare_environment
from harness.errors import EngineError, InputError
from harness.interrupts import INTERRUPTED, end_by_interrupts, leave

TERMINATED = 143
NOT_READ = 141
"""As a program has it that SIGPIPE ends."""
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_SPACE_OR_PERMISSION = (*DISK_FULL, errno.EACCES, errno.EPERM, errno.EROFS)


COMMANDS: dict[str, Command] = {
    "fit": Command("Train a model: supervised, on preferences, as a reward model, or on its own rollouts."),
    "validate": Command("Measure a model on a datamodule's validation data."),
    "test": Command("Measure a model on a datamodule's test data."),
    "predict": Command("Run a model over a datamodule's prediction data."),
    "plan": Command(
        "Say what of a training run fits on which devices, and about how long it takes.",
        "harness.commands.plan:plan",
        ("files",),
    ),
    "profile": Command(
        "Say where the time and the memory of a training run go.", "harness.commands.profile:profile", ("files",)
    ),
    "eval": Command("Measure a model on benchmarks, with intervals.", "harness.commands.evaluate:eval_tasks"),
    "tasks": Command("List the benchmarks and where their rows come from.", "harness.commands.evaluate:list_tasks"),
    "compare": Command(
        "Test which of two or more evaluations is better.",
        "harness.commands.evaluate:compare",
        ("first", "second", "others"),
    ),
    "judge": Command(
        "Ask a model about answers of an evaluation that the rules could not decide.",
        "harness.commands.judge:judge_evaluations",
        ("folder",),
        writes="folder",
    ),
    "import": Command(
        "Make an evaluation of samples that other programs wrote.",
        "harness.commands.import_samples:import_samples",
        ("files",),
    ),
    "report": Command("Write one HTML page about runs.", "harness.commands.report:report", ("runs",)),
    "runs": Command(
        "List the runs below a folder, each under the one it was made from.",
        "harness.commands.report:list_runs",
        ("folder",),
    ),
    "card": Command(
        "Write a model card: recipe, data, lineage, evaluations; upload the model.",
        "harness.commands.card:write_card",
        ("run",),
    ),
    "rollout": Command(
        "Sample and score responses to problems; write training rows from them.",
        "harness.commands.rollout:rollout",
        writes="output",
    ),
    "grade": Command("Grade a file of samples again.", "harness.commands.grade:grade", ("file",)),
    "trees": Command(
        "Grow search trees over problems; write traces and preference pairs.",
        "harness.commands.trees:trees",
        writes="output",
    ),
    "explore": Command(
        "Find the steps at which wrong responses go wrong; write preference pairs.",
        "harness.commands.explore:explore",
        writes="output",
    ),
    "replay": Command(
        "Say what other choices a run's samples would have led to.", "harness.commands.replay:replay", ("run",)
    ),
    "prepare": Command("Write the built-in task's data and base model.", "harness.commands.prepare:prepare"),
    "add-tokens": Command(
        "Write a checkpoint whose tokenizer has further tokens.", "harness.commands.add_tokens:add_tokens"
    ),
    "merge": Command(
        "Put low-rank updates (LoRA) into the model that they adapt.", "harness.commands.merge:merge", ("adapter",)
    ),
    "list": Command(
        "List what options can name: rewards, searches, templates, ...",
        "harness.cli.list_kind:list_kind",
        ("kind",),
    ),
    "recipes": Command(
        "List the recipes that come with the project; copy them to a folder.",
        "harness.commands.recipes:recipes",
        ("name",),
    ),
    "init": Command("Make a folder with a recipe of your own, which runs.", "harness.commands.init:init", ("name",)),
    "demo": Command("Run the whole loop on this machine, with a table and a plot.", "harness.commands.demo:demo"),
    "doctor": Command("Say what works on this machine and what is missing.", "harness.commands.doctor:doctor"),
}
"""All commands, in the order of the help."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(describe())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(f"harness {__version__}")
        return 0
    try:
        os.getcwd()
    except FileNotFoundError:
        return say("the current directory does not exist any more; change into one that does.", 2)
    if argv is None:
        end_by_interrupts()
    prepare_environment()
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m harness` has it: classes of the user's are found by their names
    if arguments[0] == "--print_completion":
        from harness.cli.completion import print_completion

        return guarded(lambda: print_completion(arguments[1:], COMMANDS))
    if arguments[0] not in COMMANDS:
        print(f"error: {unknown(arguments[0])}", file=sys.stderr)
        return 2
    status = guarded(lambda: dispatch(arguments, from_shell=argv is None))
    if argv is None and status == INTERRUPTED:
        leave()
    return status


def dispatch(arguments: list[str], from_shell: bool) -> int | None:
    """Import and run the command that the first argument names."""
    name, *options = arguments
    command = COMMANDS[name]
    if not command.function and options in (["--help"], ["-h"]):
        from harness.cli.fit_help import describe_fit

        print(describe_fit(name, command.summary))
        return 0
    from harness.cli.parser import explain_fields

    explain_fields(any(option.partition("=")[0].endswith("help") or option == "-h" for option in options))
    if not command.function:
        if "--help_all" in options:
            arguments, from_shell = [name, "--help"], False
        from harness.cli.training import run_trainer

        # Lightning starts the processes of the other ranks from sys.argv.
        run_trainer(name, None if from_shell else arguments)
        return 0
    from harness.cli.function import run_function

    return run_function(name, command.load(), options, command.positional, command.writes)


def guarded(run: Callable[[], int | None]) -> int:
    """Run a command; bad input, the end of an engine and interruptions become a sentence and an exit status."""
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        status = run() or 0
        sys.stdout.flush()
        return status
    except InputError as error:
        return say(str(error), 2)
    except EngineError as error:
        return say(str(error), 1)
    except KeyboardInterrupt:
        return say("interrupted.", INTERRUPTED)
    except BrokenPipeError:
        if not nobody_reads():
            raise
        return NOT_READ
    except OSError as error:
        if error.errno not in NO_SPACE_OR_PERMISSION:
            raise
        place = f"{error.filename}: " if error.filename else ""
        return say(f"{place}cannot be written or read ({error.strerror}); free space or choose another place.", 2)
    except Exception as error:
        reason = full_disk(error)
        if not reason:
            raise
        return say(f"a file cannot be written ({reason}); free space and run again.", 2)
    finally:
        signal.signal(signal.SIGTERM, before)


def nobody_reads() -> bool:
    """Whether the reader of what is printed is gone, as `head` is after its lines; then nothing more is printed."""
    watch = select.poll()
    watch.register(sys.stdout, 0)
    if not any(event & select.POLLERR for _, event in watch.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def full_disk(error: BaseException) -> str:
    """What the system said of a full disk, if that led to the error, else "".

    Libraries written in other languages raise their own kinds, some of them while the system's is being handled.
    """
    torch_writer = "inline_container" in str(error)  # notices by its position in the file alone
    cause: BaseException | None = error
    while cause is not None:
        for number in DISK_FULL:
            if getattr(cause, "errno", None) == number or os.strerror(number) in str(cause):
                return os.strerror(number)
        cause = cause.__cause__ or cause.__context__
    return "most likely a full disk" if torch_writer else ""


def say(sentence: str, status: int) -> int:
    print(f"error: {sentence}", file=sys.stderr, flush=True)
    return status


def terminate(signum: int, frame: Any) -> NoReturn:
    """Handle SIGTERM: unwind at once, so that engines, sandboxes and files are closed on the way out."""
    raise SystemExit(TERMINATED)


def describe() -> str:
    """The help of `harness` itself."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: harness COMMAND [options]",
            "",
            "Evaluation and training of language models that teach themselves to reason.",
            "",
            "commands:",
            *lines,
            "",
            "`harness COMMAND --help` lists a command's options, --print_config a --config FILE for it.",
            "`harness --version` prints the version, `harness --print_completion bash` a script for that shell.",
        ]
    )


def unknown(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, COMMANDS, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(COMMANDS)}."
    return f"unknown command '{name}'; {hint}"
