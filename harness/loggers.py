"""Where metrics go: always a CSV file that survives a resume, Weights & Biases where it is installed, or Trackio."""

from __future__ import annotations

import csv
import io
import netrc
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlparse
from uuid import uuid4

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from harness.errors import InputError
from harness.rundir import METRICS, WANDB_ID
from harness.store import write_bytes

WandbMode = Literal["online", "offline", "disabled"]


def default_loggers(run_dir: str | Path) -> list[Logger]:
    """Metrics to `run_dir`/metrics.csv and, if wandb is installed and not disabled, to a W&B run."""
    loggers: list[Logger] = [MetricsFile(run_dir)]
    mode = wandb_mode()
    if mode != "disabled":
        loggers.append(PatientWandbLogger(run_dir, offline=mode == "offline"))
    return loggers


def chosen_loggers(given: Any, run_dir: str | Path) -> list[Logger] | Literal[False]:
    """The loggers of a run: metrics.csv, which reports and lists of runs read, and beside it those that were given.

    Args:
        given: as a Trainer takes them: loggers, one, none of them (None or True: the default ones), or False for no
            record at all.
    """
    if given is False:
        return False
    if given is None or given is True:
        return default_loggers(run_dir)
    others = list(given) if isinstance(given, list | tuple) else [given]
    for each in others:
        if isinstance(each, TrackioLogger):
            each.name_after(run_dir)
    return others if any(isinstance(each, MetricsFile) for each in others) else [MetricsFile(run_dir), *others]


def wandb_mode() -> WandbMode:
    """What WANDB_MODE says, else online where a key is found, else offline; never asks for a key."""
    if find_spec("wandb") is None:
        return "disabled"
    said = os.environ.get("WANDB_MODE", "").lower()
    if said in ("disabled", "offline", "online"):
        return said  # type: ignore[return-value]
    if said == "dryrun" or not has_wandb_key():
        return "offline"
    return "online"


def has_wandb_key() -> bool:
    """Whether the environment or the user's netrc file has a key for the W&B server."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    for name in filter(None, (os.environ.get("NETRC"), "~/.netrc", "~/_netrc")):
        try:
            if netrc.netrc(os.path.expanduser(name)).authenticators(host):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False


class MetricsFile(CSVLogger):
    """Rows of metrics in one CSV file, each written as it is logged; a resumed run appends to it.

    Rows that an interrupted run logged after its last checkpoint stay; the resumed run logs those steps again below.
    """

    def __init__(self, save_dir: str | Path) -> None:
        super().__init__(save_dir, name="", version="", flush_logs_every_n_steps=1)

    @property
    def log_dir(self) -> str:
        return self.save_dir

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        if self._experiment is None:
            self._experiment = AppendingWriter(self.save_dir)
        return self._experiment

    @rank_zero_only
    def log_hyperparams(self, params: Any = None) -> None:
        """Nothing: config.yaml has them."""

    @rank_zero_only
    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        super().log_metrics(metrics, step)
        self.save()


class AppendingWriter(ExperimentWriter):
    """Lightning's writer, which keeps the rows that are in the file already."""

    def _check_log_dir_exists(self) -> None:
        if not os.path.isfile(self.metrics_file_path):
            return
        with open(self.metrics_file_path, encoding="utf-8", errors="replace", newline="") as file:
            text = file.read()
        if not text.endswith("\n"):  # a kill in the middle of a line
            text = text[: text.rfind("\n") + 1]
            write_bytes(self.metrics_file_path, text.encode())
        if not text:
            os.unlink(self.metrics_file_path)
            return
        self.metrics_keys = next(csv.reader(io.StringIO(text)))
        if self.metrics_keys != sorted(self.metrics_keys):
            self.metrics_keys.sort()
            self._rewrite_with_new_header(self.metrics_keys)

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        with open(self.metrics_file_path, encoding="utf-8", errors="replace", newline="") as file:
            rows = list(csv.DictReader(file))
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=fieldnames, extrasaction="ignore")  # where a line is damaged
        writer.writeheader()
        writer.writerows(rows)
        write_bytes(self.metrics_file_path, text.getvalue().encode())


class PatientWandbLogger(WandbLogger):
    """A W&B run that never holds up training: without an answer from the server the run is kept offline, and where W&B
    cannot even be started it goes on without.

    A resumed run continues the same W&B run, whose id is kept in the run directory.
    """

    SECONDS_TO_WAIT = 20

    def __init__(self, run_dir: str | Path, offline: bool) -> None:
        import wandb

        settings = wandb.Settings(init_timeout=self.SECONDS_TO_WAIT, console="off", quiet=True, silent=offline)
        super().__init__(
            name=run_name(run_dir),
            save_dir=str(run_dir),
            project=os.environ.get("WANDB_PROJECT", "harness"),
            id=wandb_id(Path(run_dir)),
            offline=offline,
            mode="offline" if offline else "online",
            settings=settings,
        )
        self._wandb_init.pop("anonymous", None)  # wandb warns of it whatever its value

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        import wandb

        while self._experiment is None and self._wandb_init["mode"] != "disabled":
            try:
                return super().experiment
            except (wandb.Error, OSError, TimeoutError) as error:
                self._fall_back(" ".join(str(error).split())[:200])
        return super().experiment

    def _fall_back(self, reason: str) -> None:
        """From online to offline to no W&B at all; metrics.csv holds the same numbers."""
        import wandb

        wandb.teardown()
        if self._wandb_init["mode"] == "online":
            print(f"W&B did not answer ({reason}); the run is kept offline, see `wandb sync`.", file=sys.stderr)
            self._offline, self._wandb_init["mode"] = True, "offline"
        else:
            print(f"W&B could not be started ({reason}); metrics.csv holds the numbers.", file=sys.stderr)
            self._wandb_init["mode"] = "disabled"


def run_name(run_dir: str | Path) -> str:
    """What trackers call a run: the last two parts of its directory."""
    return "/".join(Path(run_dir).parts[-2:])


class TrackioLogger(Logger):
    """Metrics to Trackio: in the folder that TRACKIO_DIR names, or on a Space of the Hugging Face hub.

    A run of the same name is continued, so a resumed run goes on with its curves.

    Args:
        project: what the runs are listed under.
        run: name of the run; default is the last two parts of the run directory.
        space_id: Space that gets the metrics, such as OWNER/NAME; default is none, so that they stay on this machine.

    Raises:
        InputError: Trackio is not installed.
    """

    def __init__(self, project: str = "harness", run: str = "", space_id: str | None = None) -> None:
        super().__init__()
        if find_spec("trackio") is None:
            raise InputError("TrackioLogger needs the package trackio; install harness-reason[trackio].")
        self.project, self.run, self.space_id = project, run, space_id
        self._experiment: Any = None

    def name_after(self, run_dir: str | Path) -> None:
        """Name the run after its directory, where no name was given."""
        self.run = self.run or run_name(run_dir)

    @property
    def name(self) -> str:
        return self.project

    @property
    def version(self) -> str:
        return self.run

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The run of Trackio, begun at first use."""
        if self._experiment is None:
            import trackio

            self._experiment = trackio.init(
                self.project, name=self.run or None, space_id=self.space_id, resume="allow", embed=False
            )
        return self._experiment

    @rank_zero_only
    def log_hyperparams(self, params: Any = None) -> None:
        """Nothing: config.yaml has them."""

    @rank_zero_only
    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.experiment.log(dict(metrics), step=step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what waits to be written; a later fit of this process goes on with the run."""
        if self._experiment is not None:
            self._experiment.finish()
            self._experiment = None


def wandb_id(run_dir: Path) -> str:
    """The id of the run's W&B run, made on first use."""
    path = run_dir / WANDB_ID
    if path.is_file() and (known := path.read_text().strip()):
        return known
    made = uuid4().hex[:12]
    if getattr(rank_zero_only, "rank", 0) == 0:
        write_bytes(path, made.encode())
    return made


__all__ = [
    "METRICS",
    "MetricsFile",
    "PatientWandbLogger",
    "TrackioLogger",
    "chosen_loggers",
    "default_loggers",
    "has_wandb_key",
    "wandb_mode",
]
