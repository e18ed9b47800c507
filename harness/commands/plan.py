"""`harness plan`: what of a training run fits on which devices, said without any."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness.engines.config import EngineConfig
from harness.errors import InputError
from harness.problems import read_all_problems

if TYPE_CHECKING:
    from harness.ledger import Run


def plan(
    files: list[str],
    gpu_memory: float = 80.0,
    devices: int | None = None,
    nodes: int | None = None,
    checkpoint: str = "",
    reward_checkpoint: str = "",
    flops: float = 989.0,
    bandwidth: float = 3.35,
) -> int:
    """Say where the memory of each device goes in a run, what to change where it does not fit, and how long it takes.

    Needs no accelerator and no weights: of checkpoints only config.json is read. Exit status 1 if it does not fit.

    Args:
        files: configurations of `harness fit`, as given there with --config, the later over the earlier.
        gpu_memory: of one device, in GB (10^9 bytes).
        devices: of a node; default is what the configuration says.
        nodes: default is what the configuration says.
        checkpoint: directory of the model in place of the configuration's, such as one that is not there yet.
        reward_checkpoint: the same of the reward model.
        flops: dense bfloat16 arithmetic of one device, in TFLOP/s; the default is an H100's.
        bandwidth: of one device's memory, in TB/s.
    """
    from harness.ledger import Speed, assumptions, describe, fits

    run, memory = read_run(files, devices, nodes, checkpoint, reward_checkpoint), int(gpu_memory * 1e9)
    phases = run.phases(memory)
    print(f"{run.title}\n{describe(phases, memory)}")
    if not all(fits(phase, memory) for phase in phases):
        print(remedy(run, memory))
        return 1
    speed = Speed(flops * 1e12, bandwidth * 1e12)
    print("\n".join([*run.times(speed, phases), assumptions(speed)]))
    return 0


def changed(run: Run, **options: Any) -> Run:
    """The run with other options of its training module."""
    module = copy.copy(run.module)
    for name, value in options.items():
        setattr(module, name, value)
    return replace(run, module=module)


def with_lora(run: Run) -> Run:
    from harness.modules.base import LoRAConfig

    return changed(run, lora=LoRAConfig())


def with_8_bits(run: Run) -> Run:
    config = run.module.optimizer_config
    possible = config.name == "adamw" and not run.sharded
    return changed(run, optimizer_config=replace(config, name="adamw_8bit")) if possible else run


CHANGES: dict[str, Callable[[Run], Run]] = {
    "FSDP2 (configs/hardware/fsdp2.yaml)": lambda run: replace(run, sharded=run.world > 1),
    "gradient_checkpointing: true": lambda run: changed(run, gradient_checkpointing=True),
    "batch_size: 1 with more accumulate_grad_batches": lambda run: replace(run, batch_size=1, accumulate=2),
    "optimizer.name: adamw_8bit": with_8_bits,
    "lora (configs/hardware/lora.yaml)": with_lora,
}
"""What makes a run smaller, the cheapest first."""


def remedy(run: Run, memory: int) -> str:
    """What to change, one thing after the other until all fits."""
    from harness.ledger import fits

    named: list[str] = []
    for name, change in CHANGES.items():
        other = change(run)
        before, after = (max(phase.total for phase in each.phases(memory)) for each in (run, other))
        if after >= before:
            continue
        run, named = other, [*named, name]
        if all(fits(phase, memory) for phase in run.phases(memory)):
            return f"it fits with {', then '.join(named)}"
    even = f" even with {', then '.join(named)}" if named else ""
    return f"it does not fit{even}; take more or larger devices, or a smaller model"


def read_run(files: list[str], devices: int | None, nodes: int | None, checkpoint: str, reward_checkpoint: str) -> Run:
    """A configuration of `harness fit`, of which only the training module is made."""
    from jsonargparse import Namespace

    from harness.cli.parser import check_config_files
    from harness.cli.training import training_parsers
    from harness.ledger import Run

    if not files:
        raise InputError("give the configuration of a run, such as configs/recipes/bstar/gsm8k/20_bstar.yaml.")
    options = [f"--config={file}" for file in files]
    check_config_files(options)
    if checkpoint:
        options.append(f"--model.init_args.checkpoint={checkpoint}")
    _, parser = training_parsers("fit")
    values = parser.parse_args(options)
    trainer, data = values.trainer, values.data.init_args
    engine, reward, samples, response = None, None, None, 0
    for callback in trainer.callbacks or ():
        if callback.class_path.endswith(".RolloutCallback"):
            given = callback.init_args
            engine = EngineConfig(**vars(given.engine)) if given.engine else EngineConfig()
            reward = next(_reward_models(given.reward), None)
            sampling = given.scheduler.init_args.sampling
            count = count_problems(given.problems)
            samples, response = count and count * sampling.n, sampling.max_tokens
    if reward and reward_checkpoint:
        reward = (reward_checkpoint, reward[1])
    here = trainer.devices if isinstance(trainer.devices, int) and trainer.devices > 0 else 1
    strategy = trainer.strategy if isinstance(trainer.strategy, str) else trainer.strategy.class_path
    return Run(
        module=parser.instantiate_classes(Namespace(model=values.model)).model,
        batch_size=data.batch_size,
        length=data.max_length,
        batches=data.get("batches_per_epoch"),
        accumulate=trainer.accumulate_grad_batches,
        precision=str(trainer.precision or "32-true"),
        devices=devices or here,
        nodes=nodes or trainer.num_nodes,
        sharded=strategy.endswith("FSDP2Strategy"),
        shard_size=None if isinstance(trainer.strategy, str) else trainer.strategy.get("init_args.shard_size"),
        engine=engine,
        reward=reward,
        samples=samples,
        response=response,
    )


def count_problems(given: list[Any]) -> int | None:
    """How many problems the sources of a configuration hold; None where they cannot be read here."""
    try:
        return len(read_all_problems([each if isinstance(each, str) else each.as_dict() for each in given]))
    except InputError:
        return None


def _reward_models(given: Any) -> Iterator[tuple[str, str]]:
    """Checkpoint and number format of the reward models in a configuration."""
    if hasattr(given, "class_path"):
        if given.class_path.endswith("RewardModel"):
            dtype = given.init_args.dtype
            yield given.init_args.checkpoint, "bfloat16" if dtype == "auto" else dtype
        for value in vars(given.get("init_args") or object).values():
            yield from _reward_models(value)
