"""`harness fit`, `validate`, `test` and `predict`: LightningCLI with one directory for everything a run leaves."""

# ruff: noqa: E402 - torchmetrics must be imported before Lightning imports it

from __future__ import annotations

from harness.imports import import_torchmetrics

import_torchmetrics()

import atexit
import contextlib
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from jsonargparse import set_parsing_settings
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.trainer.states import TrainerStatus
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from harness.callbacks.heartbeat import Heartbeat
from harness.callbacks.ledger import MemoryLedger
from harness.callbacks.progress_bar import TrainingProgress
from harness.callbacks.run_record import RunRecord, note
from harness.cli.parser import SentenceErrors, check_config_files
from harness.errors import InputError, RankError
from harness.locks import only_writer
from harness.loggers import chosen_loggers
from harness.objectives.objective import Objective
from harness.ranks import say_once
from harness.rundir import prepare_run_dir

NAMED_CHECKPOINTS = ("last", "best", "hpc")
"""Checkpoints that Lightning looks up by itself."""


class TrainingParser(SentenceErrors, LightningArgumentParser):
    """LightningCLI's parser with errors in one sentence."""


class TrainingCLI(LightningCLI):
    """One of Lightning's four verbs; whatever the run leaves lies in `run_dir`."""

    def __init__(self, verb: str, arguments: list[str] | None, held: contextlib.ExitStack) -> None:
        """
        Args:
            held: takes the lock of the run directory.
        """
        self._held = held
        # Only the parser that is needed: each of the four describes the whole Trainer.
        accepted = {verb: LightningCLI.subcommands()[verb]}
        self.subcommands = lambda: accepted  # type: ignore[method-assign]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="LightningCLI's args parameter is intended")
            super().__init__(
                LightningModule,
                LightningDataModule,
                subclass_mode_model=True,
                subclass_mode_data=True,
                parser_class=TrainingParser,
                parser_kwargs={"prog": "harness"},
                save_config_callback=None,
                seed_everything_default=0,
                trainer_defaults={"use_distributed_sampler": False, "log_every_n_steps": 10},
                auto_configure_optimizers=False,
                args=arguments,
            )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--run_dir",
            type=str | None,
            default=None,
            help="Directory for all that the run leaves: config.yaml, environment.json, metrics.csv, checkpoints/, ... "
            "(default: runs/VERB). Sets trainer.default_root_dir.",
        )

    def _parse_ckpt_path(self) -> None:
        """Keep the configuration as given: LightningCLI would put a checkpoint's stored one over it."""

    def before_instantiate_classes(self) -> None:
        config = self.config[self.subcommand]
        checkpoint = config.get("ckpt_path")
        if checkpoint not in (None, *NAMED_CHECKPOINTS) and not Path(checkpoint).exists():
            raise InputError(f"ckpt_path: {checkpoint}: no such checkpoint; give one that exists, or 'last' to resume.")
        root = config.trainer.default_root_dir
        if root and config.run_dir and Path(root) != Path(config.run_dir):
            raise InputError(
                f"run_dir is '{config.run_dir}' but trainer.default_root_dir is '{root}'; give run_dir only."
            )
        config.run_dir = config.trainer.default_root_dir = config.run_dir or root or f"runs/{self.subcommand}"
        if getattr(rank_zero_only, "rank", 0) == 0:
            self._held.enter_context(only_writer(config.run_dir, folder=True))
            prepare_run_dir(Path(config.run_dir), verb=str(self.subcommand), resume=bool(config.ckpt_path))

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        given = config["callbacks"] or []
        given = given if isinstance(given, list) else [given]
        run_dir = Path(config["default_root_dir"])
        parsed = self.config[self.subcommand]
        record = RunRecord(
            run_dir,
            self._parser(self.subcommand).dump(parsed, skip_none=False),
            verb=str(self.subcommand),
            seed=parsed.seed_everything,
        )
        added: list[Callback] = [Heartbeat(), record, MemoryLedger()]
        if config["enable_progress_bar"] is not False and not any(isinstance(c, ProgressBar) for c in given):
            added.append(TrainingProgress())
        loggers = chosen_loggers(config["logger"], run_dir)
        return super()._instantiate_trainer({**config, "logger": loggers, "callbacks": [*added, *given]}, callbacks)

    def _run_subcommand(self, subcommand: str) -> None:
        try:
            super()._run_subcommand(subcommand)
        except SystemExit as stop:
            # Lightning ends an interrupted run with status 1; a status above says what happened.
            if stop.code == 1 and self.trainer.state.status == TrainerStatus.INTERRUPTED:
                raise KeyboardInterrupt from None
            raise

    def after_fit(self) -> None:
        if self.trainer.global_step == 0 and self.trainer.max_epochs != 0 and self.trainer.max_steps != 0:
            raise InputError("fit: not one step was taken, as there was nothing to train on; check the data section.")
        if not any(callback.trained for callback in self.trainer.callbacks if isinstance(callback, RunRecord)):  # type: ignore[attr-defined]
            note(
                f"nothing was left to train: the run had reached epoch {self.trainer.current_epoch}, "
                f"step {self.trainer.global_step}, before; give more trainer.max_epochs to go on"
            )


# A preset of an objective is a subclass of it.
set_parsing_settings(subclasses_enabled=[Objective])


class _Parser(Exception):
    """Carries the parser out of LightningCLI, which would go on to run."""


class _ParserOnly(TrainingCLI):
    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        raise _Parser(parser, self._subcommand_parsers)


def training_parsers(verb: str) -> tuple[LightningArgumentParser, LightningArgumentParser]:
    """The parser of `harness` with the one verb, and the verb's own; nothing is parsed or run."""
    try:
        _ParserOnly(verb, [], contextlib.ExitStack())
    except _Parser as built:
        main, verbs = built.args
        return main, verbs[verb]
    raise AssertionError("LightningCLI did not ask for its arguments to be parsed")


def run_trainer(verb: str, arguments: list[str] | None) -> None:
    """Parse and run one of the four verbs; None takes the arguments, the verb first, from `sys.argv`.

    With None, after a run beside other processes, it ends this one, also where another rank is gone.
    """
    quieten()
    given = sys.argv[1:] if arguments is None else arguments
    check_config_files(given)
    with contextlib.ExitStack() as held:
        try:
            TrainingCLI(verb, arguments, held)
        except RankError as error:
            say_once(str(error))
            if arguments is None:
                end_parallel_process(1)
            raise
    if arguments is None:
        end_parallel_process()


def end_parallel_process(status: int = 0) -> None:
    """End a process that ran beside others by its exit functions and without taking Python down.

    Process groups are left to the interpreter's end, by Lightning (Gloo's) or by caches of torch (FSDP2's), and their
    threads run on meanwhile, which on rare occasions ends a finished run in SIGABRT ("terminate called without an
    active exception").
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def quieten() -> None:
    """Drop what Lightning says that is neither news of this run nor a remedy."""
    warnings.filterwarnings("ignore", message=".*isinstance\\(treespec, LeafSpec\\).*")
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(
        lambda record: "litlogger" not in str(record.msg)
    )
