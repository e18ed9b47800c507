"""What the datamodules share: files are read and checked, rows become items, items are planned into batches."""

from __future__ import annotations

import os
import sys
import warnings
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only
from torch import Tensor

from harness.datamodules.batches import Batch, BatchLoader, Items, Layout, Plan, plan_epoch
from harness.datamodules.token_table import TokenTable, build_table, open_table, table_key, write_table
from harness.datamodules.tokenize import ReadRow, TextRow
from harness.errors import InputError
from harness.locks import only_writer
from harness.models.checkpoints import embedding_rows, load_tokenizer
from harness.models.losses import IGNORED
from harness.prompts.chats import end_of_turn
from harness.prompts.find import find_template
from harness.prompts.templates import PromptTemplate
from harness.sources import Given, Source, find_parts, find_source, num_bytes, read_source


@dataclass(frozen=True)
class Rows:
    """Tokenised rows ready to be batched, and the function that pads some of them into tensors."""

    items: Items
    collate: Callable[[Sequence[int]], dict[str, Any]]
    """Indices of items -> tensors; no index gives a batch without any supervised token."""
    step: Callable[[tuple[int, ...]], tuple[float, int]] | None = None
    """Items of a step -> its denominator and tokens, where the items themselves have only an estimate of theirs."""


@dataclass(frozen=True)
class Counts:
    """What became of the rows of some files, reported before training."""

    rows: int
    kept: int
    tokens: int
    longest: int
    truncated: int
    dropped: dict[str, int]

    def __str__(self) -> str:
        dropped = ", ".join(f"{number} dropped ({reason})" for reason, number in self.dropped.items() if number)
        return (
            f"{self.rows} rows, {self.kept} kept, {self.tokens} tokens, longest {self.longest}, "
            f"{self.truncated} truncated" + (f", {dropped}" if dropped else "")
        )


CACHED_BYTES = 1 << 23
"""Files that are smaller together are tokenised whenever they are read: an iteration of self-improvement leaves none
behind."""


def cache_dir() -> Path:
    """`harness/tokens` in the user's cache folder (environment variable XDG_CACHE_HOME, else ~/.cache)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "harness" / "tokens"


def _write_once(arguments: tuple[Sequence[Source], ReadRow, Any, Any]) -> Path:
    """The folder of the tokenised rows, written if it is not there by one process of the machine for all."""
    key = table_key(*arguments)
    folder = cache_dir() / key
    with only_writer(cache_dir().with_name("locks") / key, wait=True):
        if folder.is_dir():
            rank_zero_info(f"tokenised rows reused from {folder}")
        else:
            rank_zero_info(f"tokenising {', '.join(map(str, arguments[0]))} into {folder}")
            write_table(folder, *arguments)
    return folder


class JSONLDataModule(L.LightningDataModule):
    """Reads rows (JSONL and what else `harness.sources` knows) and yields batches.

    See `SFTDataModule`, `PreferenceDataModule`, `UnpairedDataModule` and `StepDataModule`.

    Subclasses name their own options and hand all others on as `**options`; the command line finds them here.
    """

    def __init__(
        self,
        train_files: list[str | dict[str, Any]],
        val_files: list[str | dict[str, Any]] | None = None,
        template: str | dict[str, Any] = "plain",
        columns: dict[str, str | None] | None = None,
        batch_size: int = 8,
        val_batch_size: int | None = None,
        max_length: int = 2048,
        long_prompts: Literal["error", "drop"] = "error",
        batches_per_epoch: int | None = None,
        seed: int = 0,
        num_workers: int = 0,
        tokenizer: Any = None,
    ) -> None:
        """
        Args:
            train_files: files, folders or data sets of the hub, or mappings with path, split, config, revision,
                columns, limit, and weight (share of the rows of an epoch, if all have one); may be empty if something
                sets `refresh`.
            val_files: the same for validation, without weights.
            template: name of the prompt template that renders problems; tells whether plain prompts are chats.
            columns: names that are looked for -> columns of the files, null hides one; of sources that name none.
                `{question: prompt}` has plain prompts rendered by the template, such as `chat`.
            batch_size: what a micro-batch of a device holds: sequences, pairs (with `group: prompt` prompts) or
                responses in steps.
            val_batch_size: the same in validation; `batch_size` if not given.
            max_length: longest sequence in tokens, prompt and EOS included.
            long_prompts: what to do with a prompt that leaves no room for a response.
            batches_per_epoch: micro-batches per device in an epoch; the data are cut, or repeated in reshuffled passes.
                One pass if not given.
            seed: decides the order of the rows.
            num_workers: processes that build batches; 0 builds them in the training process.
            tokenizer: a directory, hub id or tokenizer; the training module's if not given.
        """
        super().__init__()
        for name, value in (("batch_size", batch_size), ("max_length", max_length)):
            if value < 1:
                raise InputError(f"{name} must be at least 1, found {value}.")
        if batches_per_epoch is not None and batches_per_epoch < 1:
            raise InputError(f"batches_per_epoch must be at least 1 or null, found {batches_per_epoch}.")
        self.columns = dict(columns or {})
        self.train_files: list[Given] = [self._source(given) for given in train_files]
        self.val_files: list[Given] = [self._source(given) for given in val_files or []]
        weights = [source.weight for source in self.sources(self.train_files)]
        if None in weights and any(weights):
            raise InputError(f"train_files have the weights {weights}; give every one a weight, or none.")
        if any(source.weight for source in self.sources(self.val_files)):
            raise InputError("val_files have weights, but validation takes every row once; leave them out.")
        self.template = find_template(template)
        self.batch_size, self.val_batch_size = batch_size, val_batch_size or batch_size
        self.max_length = max_length
        self.long_prompts = long_prompts
        self.batches_per_epoch = batches_per_epoch
        self.seed = seed
        self.num_workers = num_workers
        self._given_tokenizer = load_tokenizer(tokenizer) if isinstance(tokenizer, str) else tokenizer
        self._texts: dict[tuple[Source, ...], Any] = {}
        self._cache: dict[tuple[Source, ...], Rows] = {}
        self._shown = False
        self.refresh: Callable[[int], Sequence[Given]] | None = None
        """Set by whoever makes the training files anew: called with the epoch whenever the train loader is built (every
        epoch, with `reload_dataloaders_every_n_epochs: 1`), it returns the files to train on."""

    def _source(self, given: Given) -> Given:
        """A path as it is, anything else as a source."""
        return given if isinstance(given, str) else find_source(given)

    def sources(self, files: Sequence[Given]) -> list[Source]:
        """Files as sources, with the columns of this datamodule where they name none."""
        return [find_source(file, columns=self.columns) for file in files]

    @staticmethod
    @abstractmethod
    def text_row(where: str, row: Mapping[str, Any], template: PromptTemplate, tokenizer: Any) -> TextRow:
        """A row as text; see `harness.datamodules.tokenize.ReadRow`."""

    @abstractmethod
    def read(self, files: Sequence[Given]) -> tuple[Any, Counts]:
        """Read, check and tokenise files, without any model; raises `InputError` for malformed rows."""

    def lay_out(self, texts: Any) -> Rows:
        """What `read` returned as rows to be batched; those of a subclass may first ask the model something."""
        return texts

    @property
    def tokenizer(self) -> Any:
        """The one given, or the training module's."""
        if self._given_tokenizer is not None:
            return self._given_tokenizer
        if self.trainer is None:
            raise RuntimeError("the datamodule has no tokenizer: attach it to a Trainer, or pass one")
        return self.trainer.lightning_module.tokenizer

    @property
    def pad_token_id(self) -> int:
        """EOS where the tokenizer has no padding token; labels go by position, so it may be any."""
        return self.tokenizer.eos_token_id if self.tokenizer.pad_token_id is None else self.tokenizer.pad_token_id

    def end_token_id(self, chat: bool) -> int:
        """The token that ends a response, of a chat the one that ends a turn there."""
        return end_of_turn(self.tokenizer) if chat else self.tokenizer.eos_token_id

    def table(self, files: Sequence[Given]) -> TokenTable:
        """Files as token ids; large ones are kept in the user's cache folder, where later starts find them."""
        sources = self.sources(files)
        arguments = (sources, self.text_row, self.template, self.tokenizer)
        if num_bytes(sources) < CACHED_BYTES:
            table = build_table(*arguments)
        else:
            table = open_table(_write_once(arguments), sources)
        self.check_ids(sources, table.ids)
        return table

    def check_ids(self, sources: Sequence[Source], ids: np.ndarray) -> None:
        """Raise `InputError` if files hold text of a token that the model has no row for in its embedding."""
        checkpoint = getattr(self.trainer and self.trainer.lightning_module, "checkpoint", None)
        if checkpoint is not None and ids.max(initial=0) >= embedding_rows(checkpoint):
            token = self.tokenizer.convert_ids_to_tokens(int(ids.max()))
            files = ", ".join(map(str, sources))
            raise InputError(
                f"{files}: rows hold {token!r}, for which the embedding of {checkpoint} has no row; "
                "remove it, or add rows with `harness add-tokens`."
            )

    def setup(self, stage: str) -> None:
        """Check that the files exist and what their rows hold, before any model is loaded."""
        self.find()
        if self.trainer is not None or self._given_tokenizer is not None:
            self._look()
            for files in (self.val_files, self.train_files if stage == "fit" else []):
                if files:
                    self._checked(tuple(self.sources(files)))

    def find(self) -> None:
        """Raise `InputError` if a file does not exist."""
        for source in self.sources([*self.train_files, *self.val_files]):
            find_parts(source)

    @rank_zero_only
    def _look(self) -> None:
        """Say what the first row of each source is taken for."""
        for source in self.sources([*self.train_files, *self.val_files]):
            place, row = next(read_source(source), ("", {}))
            if not place:
                continue
            text = self.text_row(place, row, self.template, self.tokenizer)
            answers = " | ".join(f"{answer!r:.60}" for answer in text.responses[:2])
            rank_zero_info(f"{source}: {text.shape} (columns {', '.join(row)}): {text.prompt[-60:]!r} -> {answers}")
            special = any(token and token in text.prompt for token in self.tokenizer.all_special_tokens)
            if getattr(self.tokenizer, "chat_template", None) and not text.chat and not special:
                rank_zero_info(
                    f"note: {source}: the prompts are outside the model's chat template; `template: chat`"
                    + ("" if "template" in text.shape else " with `columns: {question: prompt}`")
                    + " puts them into it"
                )

    def rows(self, files: Sequence[Given]) -> Rows:
        """Load files and report their counts; the files last read stay in memory."""
        key = tuple(self.sources(files))
        if key not in self._cache:
            self._cache = self._kept(self._cache) | {key: self.lay_out(self._checked(key))}
        return self._cache[key]

    def _checked(self, key: tuple[Source, ...]) -> Any:
        """What `read` returns of files that hold something to train on."""
        if key not in self._texts:
            texts, counts = self.read(key)
            rank_zero_info(f"{', '.join(map(str, key))}: {counts}")
            if not counts.kept:
                raise InputError(f"{', '.join(map(str, key))}: nothing to train on ({counts}).")
            self._texts = self._kept(self._texts) | {key: texts}
        return self._texts[key]

    def _kept(self, cache: dict[tuple[Source, ...], Any]) -> dict[tuple[Source, ...], Any]:
        return {key: value for key, value in cache.items() if key == tuple(self.sources(self.val_files))}

    def mixed(
        self,
        table_sources: np.ndarray | None,
        files: Sequence[Given],
        lengths: np.ndarray,
        denominators: np.ndarray,
        groups: Sequence[tuple[int, ...]] | None = None,
    ) -> Items:
        """Items of a plan, each from the source of its first row, with the shares that the sources have.

        Raises:
            InputError: nothing is left of a source that has a share.
        """
        sources = self.sources(files)
        weights = [source.weight for source in sources if source.weight is not None]
        of_item = None
        if weights and table_sources is not None:
            of_item = table_sources if groups is None else table_sources[[group[0] for group in groups]]
            for number, source in enumerate(sources):
                if not (of_item == number).any():
                    raise InputError(f"{source}: no row is left to train on, but it has a weight; leave it out.")
        return Items(lengths, denominators, groups, of_item, weights)

    def train_dataloader(self) -> BatchLoader:
        if self.refresh is not None:
            self.train_files = list(self.refresh(self.trainer.current_epoch if self.trainer else 0))
        if not self.train_files:
            raise InputError("train_files is empty; give at least one file to train on.")
        rows = self.rows(self.train_files)
        layout = self._layout(self.batch_size)

        def plan(epoch: int) -> Plan:
            batches = plan_epoch(rows.items, layout, seed=self.seed, epoch=epoch, num_batches=self.batches_per_epoch)
            limit = self._limit(len(batches))
            if limit == len(batches):
                return batches
            return plan_epoch(
                rows.items, layout, seed=self.seed, epoch=epoch, num_batches=self.batches_per_epoch, limit=limit
            )

        def collate(batch: Batch) -> dict[str, Any]:
            return self._collate(rows, batch)

        epoch = self.trainer.current_epoch if self.trainer else 0
        loader = BatchLoader(plan, collate, epoch=epoch, num_workers=self.num_workers)
        self._show(rows, plan(epoch))
        return loader

    def val_dataloader(self) -> list[BatchLoader] | BatchLoader:
        if not self.val_files:
            warnings.filterwarnings("ignore", message="Total length of `list` across ranks is zero")
            return []
        rows = self.rows(self.val_files)
        layout = replace(self._layout(self.val_batch_size), accumulate=1)
        batches = plan_epoch(rows.items, layout, seed=self.seed, epoch=0)
        return BatchLoader(
            lambda epoch: batches, lambda batch: self._collate(rows, batch), num_workers=self.num_workers
        )

    def _layout(self, batch_size: int) -> Layout:
        if self.trainer is None:
            return Layout(batch_size)
        trainer = self.trainer
        return Layout(batch_size, trainer.accumulate_grad_batches, trainer.world_size, trainer.global_rank)

    def _limit(self, num_batches: int) -> int:
        """Batches of an epoch that the Trainer will use."""
        limit = self.trainer.limit_train_batches if self.trainer else 1.0
        if limit is None:
            return num_batches
        return min(num_batches, limit if isinstance(limit, int) else int(num_batches * limit))

    def _collate(self, rows: Rows, batch: Batch) -> dict[str, Any]:
        denominator, tokens = batch.step_denominator, batch.step_tokens
        if rows.step is not None:
            denominator, tokens = rows.step(batch.step_items)
        return {
            **rows.collate(batch.items),
            "step_denominator": denominator,
            "step_tokens": tokens,
            "ends_step": batch.ends_step,
        }

    def transfer_batch_to_device(
        self, batch: dict[str, Any], device: torch.device, dataloader_idx: int
    ) -> dict[str, Any]:
        # As Lightning does, without its walk through nested collections, which takes a part of a small step's time.
        moved = ((k, v.to(device, non_blocking=True) if isinstance(v, Tensor) else v) for k, v in batch.items())
        return dict(moved)

    @rank_zero_only
    def _show(self, rows: Rows, batches: Plan) -> None:
        """Print up to two sequences of the first batch, the trained tokens green (or between ⟦ and ⟧ in a file)."""
        if self._shown or not batches:
            return
        self._shown = True
        tensors = rows.collate(batches[0].items)
        for ids, labels in list(zip(tensors["input_ids"], tensors["labels"], strict=True))[:2]:
            print(coloured(ids, labels, self.tokenizer, ansi=sys.stdout.isatty()), flush=True)


def coloured(input_ids: Tensor, labels: Tensor, tokenizer: Any, ansi: bool) -> str:
    """One sequence (T,) as text, its supervised stretches marked; padding at the end is left out."""
    start, end = ("\x1b[32m", "\x1b[0m") if ansi else ("⟦", "⟧")
    trained = (labels != IGNORED).tolist()
    ids = input_ids.tolist()
    while ids and ids[-1] == tokenizer.pad_token_id and not trained[len(ids) - 1]:
        ids.pop()
    text, at = "", 0
    while at < len(ids):
        stop = at
        while stop < len(ids) and trained[stop] == trained[at]:
            stop += 1
        piece = tokenizer.decode(ids[at:stop], skip_special_tokens=False)
        text += f"{start}{piece}{end}" if trained[at] else piece
        at = stop
    return text


def pad(sequences: Sequence[Any], value: int, width: int) -> Tensor:
    """Stack one-dimensional sequences into (len, width), filled with `value` on the right."""
    out = torch.full((len(sequences), width), value, dtype=torch.long)
    for row, sequence in zip(out, sequences, strict=True):
        row[: len(sequence)] = torch.as_tensor(sequence, dtype=torch.long)
    return out


def filled(lengths: Sequence[int], width: int) -> Tensor:
    """Which positions of sequences (len, width), padded on the right, hold a token, as bool."""
    return torch.arange(width) < torch.tensor(lengths)[:, None]


def check_prompt_length(where: str, num_tokens: int, max_length: int, policy: str) -> bool:
    """Whether the prompt leaves room for a response; raises `InputError` naming file and line if the policy says so."""
    if num_tokens < max_length:
        return True
    if policy == "error":
        raise InputError(
            f"{where}: the prompt has {num_tokens} tokens, max_length is {max_length}; raise max_length, shorten "
            "the prompt, or set `long_prompts: drop`."
        )
    return False
