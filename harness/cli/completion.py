"""`harness --print_completion SHELL`: a completion script for all commands and their options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.cli.command import Command
from harness.cli.function import function_parser
from harness.cli.parser import SentenceErrors
from harness.errors import InputError

SHELLS = ("bash", "zsh", "tcsh")


def print_completion(arguments: Sequence[str], commands: Mapping[str, Command]) -> int:
    """Print the script that completes `harness` in the shell named by the only argument."""
    if len(arguments) != 1 or arguments[0] not in SHELLS:
        raise InputError(f"--print_completion takes the name of a shell: {', '.join(SHELLS)}.")
    print(full_parser(commands).get_completion_script(f"shtab-{arguments[0]}"))
    return 0


def full_parser(commands: Mapping[str, Command]) -> SentenceErrors:
    """One parser with every command; slow to make, as each command is imported."""
    from harness.cli.training import training_parsers

    parser = SentenceErrors(prog="harness")
    subcommands = parser.add_subcommands()
    for name, command in commands.items():
        own = function_parser(name, command.load()) if command.function else training_parsers(name)[1]
        subcommands.add_subcommand(name, own, help=command.summary)
    return parser
