"""Checkpoints that every tool of the field can open."""

from __future__ import annotations

import itertools
import os
import shutil
import time
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from harness.callbacks.checkpoint_io import use_local
from harness.modules.base import DType
from harness.store import remove_leftovers


class HFCheckpoint(ModelCheckpoint):
    """Lightning's `ModelCheckpoint` that writes, beside every `NAME.ckpt`, a Hugging Face directory `NAME/`.

    The run directory (the parent of a checkpoint folder named `checkpoints`, else that folder itself) has an `hf`,
    always the newest complete directory: a link, replaced atomically, to a copy of its own, so that no removal of
    checkpoints can leave it empty (the copy shares the files where the file system allows). A .ckpt is only ever
    written after its directory is complete, and removing it removes its directory. A process killed while saving leaves
    what was there before; the half-written files are removed at the next start.

    The end of a fit is always saved, even where it lies between two times of saving, and one line says where the model
    is and how to measure it.
    """

    def __init__(self, save_last: bool | None = True, export_dtype: DType | None = None, **kwargs: Any) -> None:
        """
        Args:
            save_last: keep `last.ckpt`, so that `--ckpt_path last` resumes.
            export_dtype: type of the weights in the Hugging Face directories; default is that of the training. A .ckpt
                always holds that of the training, so that a resumed run does not depend on it.
            kwargs: as `ModelCheckpoint`.
        """
        super().__init__(save_last=save_last, **kwargs)
        self.export_dtype = export_dtype
        self.seconds = 0.0
        """That saving has taken so far."""
        self._exported: tuple[int, Path] | None = None
        self._written: set[str] = set()

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        use_local(trainer)
        if stage == "fit" and trainer.is_global_zero:
            remove_leftovers(self.run_directory)
            remove_leftovers(self.run_directory / "checkpoints")

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(_moved(state_dict, str(self.dirpath)))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        # Also where `max_steps` cut the epoch short. Resuming from what is saved later would skip an epoch.
        if _is_last_epoch(trainer) and not self._should_skip_saving_checkpoint(trainer):
            self._save_end(trainer)

    def _save_end(self, trainer: L.Trainer) -> None:
        """Save weights that no validation or end of an epoch has saved."""
        candidates = self._monitor_candidates(trainer)
        if self.save_last is not True and self.save_top_k != 0:
            if self.monitor is None:
                self._save_none_monitor_checkpoint(trainer, candidates)
            else:
                self._save_checkpoint(trainer, self.format_checkpoint_name(candidates))
        self._save_last_checkpoint(trainer, candidates)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        model, module = self.run_directory / "hf", pl_module
        if model.exists() and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            command = module.measured_by(model)  # type: ignore[operator]
            rank_zero_info(f"{model}: the model after step {trainer.global_step}; measure it with `{command}`")

    def file_exists(self, filepath: str | Path, trainer: L.Trainer) -> bool:
        """Whether there is a checkpoint of that name, so that the next one gets a number.

        One that this run does not know was left by a start that was killed while saving; it is made again and replaced.
        """
        known = {self.best_model_path, self.last_model_path, *self.best_k_models, *self._written}
        is_last = Path(filepath).name.startswith(self.CHECKPOINT_NAME_LAST)
        return super().file_exists(filepath, trainer) and (is_last or str(filepath) in known)

    def _save_checkpoint(self, trainer: L.Trainer, filepath: str) -> None:
        started = time.perf_counter()
        with trainer.profiler.profile("[HFCheckpoint]save"):  # type: ignore[attr-defined]
            self._export(trainer, hf_directory(filepath))
            self._written.add(filepath)
            super()._save_checkpoint(trainer, filepath)
        self.seconds += time.perf_counter() - started

    def _export(self, trainer: L.Trainer, folder: Path) -> None:
        """Write the directory; `last` shares the files of the checkpoint just written at the same step."""
        step = trainer.global_step
        module: Any = trainer.lightning_module
        if self._exported is not None and self._exported[0] == step and self._exported[1].is_dir():
            if trainer.is_global_zero and folder != self._exported[1]:
                _link_copy(self._exported[1], folder)
            trainer.strategy.barrier()
        else:
            module.export(folder, self.export_dtype)
            if trainer.is_global_zero:
                publish(folder, self.run_directory / "hf", f"step={step}")
        self._exported = (step, folder)

    @property
    def run_directory(self) -> Path:
        """Where the link `hf` lives; known once the Trainer has set up."""
        if self.dirpath is None:
            raise RuntimeError("the checkpoint folder is known only after the Trainer's set-up")
        folder = Path(self.dirpath)
        return folder.parent if folder.name == "checkpoints" else folder

    def _remove_checkpoint(self, trainer: L.Trainer, filepath: str) -> None:
        super()._remove_checkpoint(trainer, filepath)
        if trainer.is_global_zero:
            shutil.rmtree(hf_directory(filepath), ignore_errors=True)


def _moved(state: dict[str, Any], folder: str) -> dict[str, Any]:
    """The callback's state with the paths of a run directory that has been moved or copied since it was stored."""
    before = str(state.get("dirpath"))
    if before == folder or not Path(folder, Path(state["last_model_path"]).name).is_file():
        return state

    def here(path: str) -> str:
        return str(Path(folder, Path(path).name)) if path and str(Path(path).parent) == before else path

    paths = {name: here(state[name]) for name in ("best_model_path", "kth_best_model_path", "last_model_path")}
    best = {here(path): score for path, score in state["best_k_models"].items()}
    return state | paths | {"dirpath": folder, "best_k_models": best}


def _is_last_epoch(trainer: L.Trainer) -> bool:
    limits = ((trainer.global_step, trainer.max_steps), (trainer.current_epoch + 1, trainer.max_epochs))
    return trainer.should_stop or any(limit not in (-1, None) and at >= limit for at, limit in limits)


def hf_directory(checkpoint: str | Path) -> Path:
    """The Hugging Face directory that belongs to a .ckpt file."""
    path = Path(checkpoint)
    return path.with_name(path.name.removesuffix(".ckpt"))


def publish(folder: Path, link: Path, version: str) -> None:
    """Make `link` point to a new copy of `folder` named after `version`, atomically, and remove the copy before it."""
    previous = link.resolve() if link.is_symlink() else None
    copy = next(path for path in map(partial(_numbered, link, version), itertools.count()) if not path.exists())
    _link_copy(folder, copy)
    temporary = link.with_name(f".{link.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(copy.name)
    os.replace(temporary, link)
    if previous is not None and previous.name.startswith(f".{link.name}-"):
        shutil.rmtree(previous, ignore_errors=True)


def _numbered(link: Path, version: str, number: int) -> Path:
    return link.with_name(f".{link.name}-{version}" + (f"-{number}" if number else ""))


def _link_copy(source: Path, target: Path) -> None:
    """Copy a directory without copying its bytes where the file system allows, replacing the target."""
    new = target.with_name(f".{target.name}.{os.getpid()}.new")
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(source, new, copy_function=_link_or_copy)
    shutil.rmtree(target, ignore_errors=True)
    os.replace(new, target)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
