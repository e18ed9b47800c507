"""What the training modules share: the model's construction and sharding, exact normalisation, logging and export."""

from __future__ import annotations

import contextlib
import os
import time
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch._guards import detect_fake_mode
from torch.distributed.device_mesh import DeviceMesh

from harness.errors import InputError, first_line
from harness.models.checkpoints import adapter_base, check_checkpoint, check_vocabulary, load_tokenizer
from harness.models.dropout import dropout_rates, switch_off_dropout
from harness.models.flops import attended_pairs, peak_flops, training_flops
from harness.models.four_bits import in_four_bits, packed_prefixes
from harness.models.routers import Routers, Routing, balance_loss, load_metrics, router_entropy
from harness.models.shards import fill_shards
from harness.models.weights import (
    DTYPES,
    load_causal_lm,
    plain_model,
    save_checkpoint,
    transformer_blocks,
    with_adapter,
)
from harness.modules.optimizer import OptimizerConfig, build_optimizer, build_schedule, freeze_others

DType = Literal["float32", "bfloat16", "float16"]


@dataclass
class LoRAConfig:
    """Low-rank adaptation (arXiv:2106.09685) through PEFT; checkpoints are exported merged, and the updates beside."""

    rank: int = 16
    alpha: float = 32.0
    """The update is scaled by alpha / rank."""
    dropout: float = 0.0
    target_modules: str | list[str] = "all-linear"
    """Names of the layers to adapt; "all-linear" takes every linear layer but the head."""
    four_bits: bool = False
    """Keep the weights that are not trained in four bits (QLoRA, arXiv:2305.14314), by bitsandbytes."""
    adapter: str | None = None
    """Directory of updates to go on from, such as `RUN/hf/adapter`; rank and all else are then its own."""


@dataclass
class Sums:
    """What one batch adds to a loss and to metrics."""

    loss: Tensor
    """Sum over the batch's tokens or pairs, with its graph."""
    weight: Tensor
    """Its denominator: the batch's part of `step_denominator`."""
    metrics: dict[str, Tensor] = field(default_factory=dict)
    """Sums to be divided by the same denominator."""
    rows: Tensor | None = None
    """(B, C), what `summarise` wants to know of every row in validation; the second column is the row's weight."""


class TrainingModule(L.LightningModule):
    """A transformers model under training; `model` and `tokenizer` are there from `configure_model` on.

    Subclasses name their own options and hand all others on as `**options`; the command line finds them here.

    Every module logs `train/num_tokens`, `train/tokens_per_second` and, on accelerators whose peak is known,
    `train/mfu`: the share of their operations in bfloat16 that the model needs (`harness.models.flops`).

    Of a mixture of experts every module logs `train/router_load_max`, `router_load_min`, `router_load_cv` (see
    `harness.models.routers.load_metrics`), `router_entropy` (in nats, of the softmax of a router's logits, mean over
    layers and tokens) and with `router_aux_loss` the loss of that name, before its factor.
    """

    drops_out = False
    """Whether dropout is on where `dropout` is not given."""

    def __init__(
        self,
        checkpoint: str,
        dtype: DType = "float32",
        attn_implementation: str | None = None,
        gradient_checkpointing: bool | int = False,
        compile: bool = False,
        lora: LoRAConfig | None = None,
        optimizer: OptimizerConfig | None = None,
        dropout: bool | None = None,
        router_aux_loss: float = 0.0,
    ) -> None:
        """
        Args:
            checkpoint: directory or hub id of the model to start from.
            dtype: type of the weights; keep float32 and let `trainer.precision: bf16-mixed` compute in bfloat16.
            attn_implementation: "eager", "sdpa", "flex_attention" and so on; transformers' choice if not given.
            gradient_checkpointing: recompute activations in the backward pass, for less memory: those of all layers, or
                with 2 of every second one and so on, which takes less time and saves less.
            compile: compile the transformer layers with torch.compile.
            lora: train low-rank updates only; of a reward model, its head too.
            optimizer: optimizer and learning-rate schedule.
            dropout: train with the rates of dropout that the model's configuration names (a tenth for GPT-2, OPT and
                others); None is true in supervised fine-tuning alone. That of `lora` is its own.
            router_aux_loss: factor of the loss that keeps a mixture's experts equally loaded (arXiv:2101.03961,
                equation 4; the mean over the layers, padding left out); 0 is without, whatever the model's
                configuration says.
        """
        super().__init__()
        if gradient_checkpointing < 0:
            raise InputError(f"gradient_checkpointing is {gradient_checkpointing}; give true, false or 2, 3, ...")
        self.checkpoint = check_checkpoint(checkpoint)
        self.dtype_name = dtype
        self.attn_implementation = attn_implementation
        self.gradient_checkpointing = gradient_checkpointing
        self.compile_blocks = compile
        self.lora = lora
        self.optimizer_config = optimizer or OptimizerConfig()
        self.dropout = self.drops_out if dropout is None else dropout
        if not 0 <= router_aux_loss < float("inf"):
            raise InputError(f"router_aux_loss is {router_aux_loss}; it must be a number of at least 0.")
        self.router_aux_loss = router_aux_loss
        self.model: Any = None
        self._routers: Routers | None = None
        self._router_sums: dict[str, Tensor] = {}
        """Of the present step: `loads` (L, E), how often each expert was chosen, and scalars."""
        self.num_tokens = 0
        """Tokens trained on so far, prompts included and padding not, on all devices."""
        self._step_sums: dict[str, Tensor] = {}
        self._newest: dict[str, Any] = {}
        """The metrics of the training step last measured."""
        self._val_sums: dict[str, Tensor] = {}
        self._val_rows: list[Tensor] = []
        self._due = True
        self._clock: float | None = None
        self._clock_tokens = 0
        self._clock_pairs: Tensor | None = None
        """Pairs of a token and one that it attends to, on this device since the clock was set; see `arithmetic`."""

    @cached_property
    def arithmetic(self) -> tuple[float, float, float] | None:
        """Operations per token and per pair of tokens, and what the device can do in a second; None if not known."""
        if (peak := peak_flops(self.device)) is None or (needed := training_flops(self.model)) is None:
            return None
        return *needed, peak

    @cached_property
    def tokenizer(self) -> Any:
        """The checkpoint's tokenizer; there before the model is."""
        return load_tokenizer(self.checkpoint)

    @abstractmethod
    def build_model(self) -> Any:
        """Load the model to train."""

    @abstractmethod
    def sums(self, batch: dict[str, Any]) -> Sums:
        """Loss and metrics of a batch, as sums."""

    def summarise(self, rows: Tensor) -> dict[str, float]:
        """Metrics that are not means, from `Sums.rows` of the whole validation on all devices."""
        return {}

    def finished_metrics(self, totals: dict[str, Tensor]) -> dict[str, Tensor]:
        """What to log of a step, from its sums over all devices, divided by its denominator."""
        return totals

    def setup(self, stage: str) -> None:
        trainer: Any = self.trainer
        if any(isinstance(callback, GradientAccumulationScheduler) for callback in trainer.callbacks):
            raise InputError(
                "GradientAccumulationScheduler is not supported, as batches are planned for whole optimizer steps; set "
                "trainer.accumulate_grad_batches to one number."
            )
        # Where steps are limited, Lightning takes every resumed epoch for an unfinished one, and would train on other
        # batches than an unbroken run.
        trainer.fit_loop._iteration_based_training = lambda: False
        check_vocabulary(self.checkpoint, getattr(trainer.datamodule, "tokenizer", None) or self.tokenizer)

    def configure_model(self) -> None:
        if self.model is not None:
            return
        if self.optimizer_config.name == "adamw_8bit" and self.device_mesh is not None:
            raise InputError(
                "optimizer.name: moments of eight bits cannot be sharded; take adamw, or train with one device or ddp."
            )
        model = self.build_model()
        if not self.dropout:
            switch_off_dropout(model)
        elif rates := dropout_rates(model):
            found = ", ".join(f"{name} {rate:g}" for name, rate in rates.items())
            rank_zero_info(
                f"training with dropout, as the model's configuration says ({found}); `dropout: false` without"
            )
        if self.lora is not None:
            if self.lora.four_bits:
                self._pack(model)
            model = _with_lora(model, self.lora, self.checkpoint)
        if self.optimizer_config.trainable is not None:
            freeze_others(model, self.optimizer_config.trainable)
        self._routers = self._find_routers(model)
        self._prepare_blocks(model, self.compile_blocks)
        self.model = model

    def _pack(self, model: Any) -> None:
        if self.device_mesh is not None:
            raise InputError("lora.four_bits: weights of four bits cannot be sharded; train with one device or ddp.")
        if detect_fake_mode() is None:  # a plan counts them as they are loaded
            in_four_bits(model).to(self.trainer.strategy.root_device)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Without weights of four bits, which are the checkpoint's and cannot be loaded alone."""
        found = super().state_dict(*args, **kwargs)
        packed = packed_prefixes(self)
        return {name: value for name, value in found.items() if not name.startswith(packed)} if packed else found

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        packed = packed_prefixes(self)
        result = super().load_state_dict(state_dict, strict=strict and not packed, assign=assign)
        lacking = [name for name in result.missing_keys if not packed or not name.startswith(packed)]
        if strict and (wrong := [*lacking, *result.unexpected_keys]):
            raise InputError(f"the checkpoint is of another model: it lacks weights or has too many ({wrong[0]}, ...).")
        return result

    def _find_routers(self, model: Any) -> Routers | None:
        routers = Routers(model)
        name = type(plain_model(model)).__name__
        if self.router_aux_loss and not routers:
            raise InputError(f"router_aux_loss: {name} has no experts to balance; leave the option out.")
        if self.router_aux_loss and routers.balanced_by_bias:
            raise InputError(
                f"router_aux_loss: the routers of {name} are balanced by a bias, not by a loss; leave the option out."
            )
        return routers if routers else None

    def on_fit_start(self) -> None:
        if self.attn_implementation == "flex_attention" and self.device.type == "cpu":
            raise InputError("flex_attention has no backward pass on CPUs; set `attn_implementation: sdpa` or eager.")

    def load_options(self) -> dict[str, Any]:
        """Arguments for `load_causal_lm` and `load_reward_model`."""
        return {
            "dtype": self.dtype_name,
            "attn_implementation": self.attn_implementation,
            "gradient_checkpointing": self.gradient_checkpointing,
            "unfilled": self.device_mesh is not None and self.lora is None,
        }

    def load_frozen(self, checkpoint: str, compile_blocks: bool) -> Any:
        """Another causal language model for this module's devices, without gradients."""
        model: Any = load_causal_lm(checkpoint, **(self.load_options() | {"gradient_checkpointing": False}))
        model.requires_grad_(False).eval()
        self._prepare_blocks(model, compile_blocks)
        return model

    def _prepare_blocks(self, model: Any, compile_blocks: bool) -> None:
        """Compile and shard a model layer by layer: layers are alike, so one compilation serves them all."""
        blocks = transformer_blocks(model)
        if compile_blocks:
            for block in blocks:
                block.compile(dynamic=True)
        if self.device_mesh is not None:
            self._shard(model, blocks, self.device_mesh)

    def _shard(self, model: Any, blocks: list[Any], device_mesh: DeviceMesh) -> None:
        from torch.distributed.fsdp import fully_shard

        if device_mesh["tensor_parallel"].size() > 1:
            raise InputError(
                "tensor parallelism is not supported; set data_parallel_size of ModelParallelStrategy to the number of "
                "devices and tensor_parallel_size to 1."
            )
        # Those of `harness.strategies.FSDP2Strategy`, or what Lightning's own strategy has.
        options = getattr(self.trainer.strategy, "shard_options", {"mesh": device_mesh["data_parallel"]})
        for block in blocks:
            fully_shard(block, **options)
        fully_shard(model, **options)
        if any(parameter.is_meta for parameter in model.parameters()):
            fill_shards(model, model.name_or_path)

    def configure_optimizers(self) -> Any:
        # A fused step takes gradients while they are scaled, so Lightning does not clip them in mixed precision.
        clips = bool(self.trainer.gradient_clip_val) and self.trainer.precision == "bf16-mixed"
        fused = self.trainer.precision != "16-mixed" and not clips
        optimizer = build_optimizer(self.optimizer_config, self.model, fused)
        schedule = build_schedule(self.optimizer_config, optimizer, self.trainer.max_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Loss of a micro-batch, scaled so that the optimizer sees the mean over its whole step.

        The batch knows the denominator of its step. Lightning divides by the number of accumulated batches and data
        parallelism by the number of ranks; both are undone here, which makes an incomplete last step exact too.
        """
        routing: dict[int, Routing] = {}
        with contextlib.ExitStack() as stack:
            if self._routers is not None and (self._due or self.router_aux_loss):
                routing = stack.enter_context(self._routers.watched())
            sums = self.sums(batch)
        loss = sums.loss / batch["step_denominator"]
        if routing:
            loss = loss + self.router_aux_loss * self._balance(routing, batch)
        if self._due:
            self._add_to(self._step_sums, sums, batch["step_denominator"])
        if self.arithmetic is not None:
            self._clock_pairs = attended_pairs(batch) + (0 if self._clock_pairs is None else self._clock_pairs)
        if batch["ends_step"]:
            self.num_tokens += batch["step_tokens"]
            self._clock_tokens += batch["step_tokens"]
            if self._due:
                self._log_step()
        scale = self.trainer.world_size * self.trainer.accumulate_grad_batches
        return loss * scale

    def _balance(self, routing: Mapping[int, Routing], batch: dict[str, Any]) -> Tensor:
        """The batch's part of the step's balance loss; what the routers did is added to the step's sums.

        A batch counts by its share of the step's tokens.
        """
        if "is_token" not in batch:
            raise InputError(
                "the batches lack `is_token`, (B, T), which tells tokens from padding where experts are balanced; use "
                "a datamodule of harness, or add it."
            )
        tokens = batch["is_token"].flatten()
        if any(len(layer.logits) != len(tokens) for layer in routing.values()):
            name = type(plain_model(self.model)).__name__
            raise InputError(f"the routers of {name} have no row for each token, so its load cannot be measured.")
        layers = [layer.of(tokens) for _, layer in sorted(routing.items())]
        # Where rows share a prefix, it is computed once, but counts as often as the plan has it.
        planned = batch["lengths"].sum() if "until" in batch else tokens.sum()
        balance = torch.stack([balance_loss(layer) for layer in layers]).mean() * (planned / batch["step_tokens"])
        if self._due:
            found = {
                "loads": torch.stack([layer.loads() for layer in layers]),
                "entropy": torch.stack([router_entropy(layer) for layer in layers]).mean(),
                "tokens": tokens.sum(),
                "balance": balance.detach(),
            }
            for name, value in found.items():
                self._router_sums[name] = self._router_sums.get(name, 0) + value.double()
        return balance

    def _router_metrics(self) -> dict[str, float]:
        totals = {k: self.trainer.strategy.reduce(v, reduce_op="sum") for k, v in self._router_sums.items()}
        self._router_sums = {}
        if not totals:
            return {}
        metrics = load_metrics(totals["loads"])
        metrics["router_entropy"] = (totals["entropy"] / totals["tokens"].clamp(min=1)).item()
        return metrics | ({"router_aux_loss": totals["balance"].item()} if self.router_aux_loss else {})

    def on_train_batch_start(self, batch: dict[str, Any], batch_idx: int) -> None:
        if self._clock is None:
            self._clock, self._clock_tokens, self._clock_pairs = time.perf_counter(), 0, None
        # Logging and the sum over ranks cost more than a small step, so only steps that a logger sees are measured, the
        # last of an epoch, whose metrics stand for it, and that of the fit.
        trainer: Any = self.trainer
        window = trainer.accumulate_grad_batches
        last = batch_idx // window == (trainer.num_training_batches - 1) // window
        step = trainer.global_step + 1
        self._due = last or step == trainer.max_steps or step % trainer.log_every_n_steps == 0

    def _log_step(self) -> None:
        totals, self._step_sums = self.finished_metrics(self._across_ranks(self._step_sums)), {}
        loss = totals.pop("loss").float()
        self.log("train/loss", loss, prog_bar=True)
        self._newest = {"train/loss": loss, "epoch": self.current_epoch}
        now = time.perf_counter()
        rates = {"num_tokens": float(self.num_tokens)}
        if self._clock is not None:
            rates["tokens_per_second"] = self._clock_tokens / (now - self._clock)
            if self.arithmetic is not None and self._clock_pairs is not None:
                token, pair, peak = self.arithmetic
                pairs = self.trainer.strategy.reduce(self._clock_pairs, reduce_op="sum")
                done = token * self._clock_tokens + pair * float(pairs)
                rates["mfu"] = done / ((now - self._clock) * peak * self.trainer.world_size)
        self._log_training(totals | rates | self._router_metrics())
        self._clock, self._clock_tokens, self._clock_pairs = now, 0, None

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        if not self._due:
            return
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm: Any = torch.nn.utils.get_total_norm(gradients)
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        self._log_training({"grad_norm": norm, "lr": optimizer.param_groups[0]["lr"]})

    def _log_training(self, metrics: Mapping[str, Any]) -> None:
        named = {f"train/{name}": value for name, value in metrics.items()}
        self.log_dict(named)
        self._newest |= named

    def on_train_end(self) -> None:
        """Give the loggers the last step of the fit where it is none of the steps that they are given."""
        trainer: Any = self.trainer
        if self._newest and trainer.global_step % trainer.log_every_n_steps:
            metrics = {name: float(value) for name, value in self._newest.items()}
            for logger in trainer.loggers:
                logger.log_metrics(metrics, step=trainer.global_step - 1)

    def on_train_epoch_start(self) -> None:
        self._clock, self._step_sums, self._router_sums = None, {}, {}

    def on_validation_epoch_start(self) -> None:
        # Time spent in validation is not training time.
        self._clock, self._val_sums, self._val_rows = None, {}, []

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        sums = self.sums(batch)
        self._add_to(self._val_sums, sums, 1.0)
        self._val_sums["weight"] = self._val_sums.get("weight", 0) + sums.weight.detach().double()
        if sums.rows is not None:
            self._val_rows.append(sums.rows.detach().float().cpu())

    def on_validation_epoch_end(self) -> None:
        if not self._val_sums:
            return
        totals = self._across_ranks(self._val_sums)
        weight = totals.pop("weight")
        for name, value in totals.items():
            self.log(f"val/{name}", (value / weight).float(), prog_bar=name == "loss")
        if self._val_rows:
            rows = self._gathered(torch.cat(self._val_rows))
            self.log_dict({f"val/{name}": value for name, value in self.summarise(rows[rows[:, 1] > 0]).items()})

    def _gathered(self, rows: Tensor) -> Tensor:
        """The rows (B, C) of all ranks, which may hold different numbers of them."""
        if self.trainer.world_size == 1:
            return rows
        parts: list[Any] = [None] * self.trainer.world_size
        torch.distributed.all_gather_object(parts, rows)
        return torch.cat(parts)

    def _add_to(self, totals: dict[str, Tensor], sums: Sums, denominator: float) -> None:
        for name, value in {"loss": sums.loss, **sums.metrics}.items():
            totals[name] = totals.get(name, 0) + value.detach().double() / denominator

    def _across_ranks(self, totals: dict[str, Tensor]) -> dict[str, Tensor]:
        stacked = torch.stack(list(totals.values()))
        reduced = self.trainer.strategy.reduce(stacked, reduce_op="sum")
        return dict(zip(totals, reduced.unbind(), strict=True))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["num_tokens"] = self.num_tokens
        # An epoch ends early where a limit on steps or time ends the fit; the rest of it is still to be done.
        current = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
        if current["processed"] == current["started"] and not epoch_is_whole(self.trainer):
            current["processed"] -= 1

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.num_tokens = checkpoint.get("num_tokens", 0)

    def measured_by(self, folder: Path) -> str:
        """The command that measures the exported model."""
        return f"harness eval --model {folder} --task TASK"

    def export(self, folder: str | Path, dtype: DType | None = None) -> None:
        """Write the model and its tokenizer as a Hugging Face directory; all ranks must call it."""
        save_checkpoint(self.model, self.tokenizer, folder, None if dtype is None else DTYPES[dtype])


def epoch_is_whole(trainer: Any) -> bool:
    """Whether no batch of the present epoch is left to train on."""
    return trainer.fit_loop.epoch_loop._num_ready_batches_reached()


def _with_lora(model: Any, config: LoRAConfig, checkpoint: str) -> Any:
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise InputError("`lora` needs the package peft; install harness-reason[peft].") from error
    if hasattr(plain_model(model), "enable_input_require_grads"):
        # Gradient checkpointing needs a graph that begins at its inputs; frozen embeddings would cut it off.
        plain_model(model).enable_input_require_grads()
    head = getattr(model, "score", None) or getattr(model, "reward_head", None)
    if config.adapter is not None:
        base = adapter_base(config.adapter)
        if base is None or head is not None or os.path.realpath(base) != os.path.realpath(checkpoint):
            raise InputError(
                f"lora.adapter: {config.adapter} holds no updates of {checkpoint}"
                + (f" but of {base}" if base and head is None else "")
                + "; give its base model as checkpoint, and the folder `adapter` of a run's hf."
            )
        return with_adapter(model, config.adapter, trainable=True)
    settings = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type]
        lora_dropout=config.dropout,
        target_modules=config.target_modules,
        exclude_modules=["score"] if head is not None else None,
    )
    try:
        adapted = get_peft_model(model, settings)
    except ValueError as error:
        raise InputError(
            f"lora: {type(model).__name__} cannot be adapted so ({first_line(error)}); name layers in target_modules."
        ) from error
    if head is not None:
        head.requires_grad_(True)
    return adapted
