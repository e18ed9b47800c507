"""`harness profile`: where the time and the memory of a training run go, measured on some steps of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import InputError
from harness.store import write_bytes

if TYPE_CHECKING:
    from harness.callbacks.step_profile import Measured

TABLE, TRACE = "profile.md", "trace.json.gz"
STEP_ORDER = ("data", "forward", "backward", "optimizer", "other")
ITERATION_ORDER = ("sync", "prove", "measure", "sample", "score", "train", "save")


def profile(
    files: list[str],
    steps: int = 10,
    warmup: int = 2,
    traced: int = 2,
    problems: int | None = None,
    output: str = "runs/profile",
) -> int:
    """Say where the time and the memory of a training run go, by phase and by operator.

    Runs some steps of any configuration of `harness fit`, after the rollouts of one iteration where it has a
    RolloutCallback, in a folder of its own, and prints a table. The run's own directory is neither read nor written;
    validation and trackers are left out; one checkpoint is saved where the configuration saves any.

    Args:
        files: configurations of `harness fit`, as given there with --config, the later over the earlier.
        steps: optimizer steps that are measured.
        warmup: optimizer steps before them, in which memory is taken and layers are compiled.
        traced: further optimizer steps that torch's profiler sees; tracing takes time, so they are not measured.
        problems: training problems that are sampled; default is what the configuration says.
        output: folder for the table, profile.md, and the trace, trace.json.gz (for ui.perfetto.dev or
            chrome://tracing).
    """
    given = {"steps": (steps, 1), "warmup": (warmup, 1), "traced": (traced, 0), "problems": (problems, 1)}
    for name, (value, least) in given.items():
        if value is not None and value < least:
            raise InputError(f"--{name} is {value}; it must be at least {least}.")
    from harness.callbacks.step_profile import PhaseProfiler, StepProfile
    from harness.cli.profiled import run_profiled
    from harness.cli.training import end_parallel_process

    meter = StepProfile(PhaseProfiler(), warmup, steps, traced, Path(output, TRACE))
    trainer = run_profiled(files, meter, problems, Path(output))
    if trainer.is_global_zero:
        text = "\n".join(page(meter.measured, conditions(trainer, files, meter))) + "\n"
        write_bytes(Path(output, TABLE), text.encode())
        print(text)
        print(f"{Path(output, TABLE)}" + (f"; the trace is {Path(output, TRACE)}" if traced else ""))
    end_parallel_process()
    return 0


def conditions(trainer: Any, files: Sequence[str], meter: Any) -> str:
    """What was measured, and on what."""
    import torch

    module, device = trainer.lightning_module, trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    size = sum(weight.numel() for weight in module.model.parameters())
    return (
        f"`harness profile {' '.join(files)} --steps {meter.steps}`: {type(module).__name__} of {size / 1e6:.1f} M "
        f"parameters, {trainer.precision}, micro-batches of {trainer.datamodule.batch_size}, "
        f"{trainer.accumulate_grad_batches} a step; {trainer.world_size} x {name}, torch {torch.__version__}. "
        f"Measured were {meter.steps} steps after {meter.warmup}."
    )


def page(found: Measured, heading: str) -> Iterator[str]:
    """The lines of the table, in Markdown."""
    yield from ("# Where the time and the memory go", "", heading, "")
    rates = [f"{found.seconds_per_step:.4g} s a step", f"{found.tokens_per_second:,.0f} tokens/s"]
    rates += [f"MFU {found.mfu:.1%}"] if found.mfu is not None else []
    yield from (
        f"**{', '.join(rates)}**, {found.total:.1f} s in all, {found.start:.1f} of them until the first step.",
        "",
    )
    yield from ("| a step | seconds | share | peak memory, MiB |", "|---|---|---|---|")
    yield from phase_lines(found.step, STEP_ORDER, found.peaks)
    seconds = iteration(found)
    if len(seconds) > 1:
        name = "iteration" if "sample" in seconds else "epoch"
        yield from ("", f"| an {name} | seconds | share | peak memory, MiB |", "|---|---|---|---|")
        yield from phase_lines(seconds, ITERATION_ORDER, found.peaks)
        yield from ("", f"`train` is {found.steps_per_epoch} steps of the length measured." + sampled(found))
    if found.operators:
        yield from ("", "| operator | calls | seconds by itself | share |", "|---|---|---|---|")
        for each in found.operators:
            yield f"| `{each.name}` | {each.calls} | {each.seconds:.4f} | {each.share:.1%} |"


def phase_lines(seconds: Mapping[str, float], order: Sequence[str], peaks: Mapping[str, int]) -> Iterator[str]:
    total = sum(seconds.values())
    for name in (name for name in order if name in seconds):
        memory = f"{peaks[name] / 2**20:,.0f}" if name in peaks else ""
        yield f"| {name} | {seconds[name]:.4f} | {seconds[name] / total:.1%} | {memory} |"
    yield f"| in all | {total:.4f} | 100.0% | |"


def iteration(found: Measured) -> dict[str, float]:
    """Seconds of each phase of an iteration, or of an epoch; opening an engine is none of them."""
    logged = {name.removeprefix("time/"): value for name, value in found.rollouts.items() if name.startswith("time/")}
    seconds = found.run | logged | {"train": found.steps_per_epoch * found.seconds_per_step}
    return {name: value for name, value in seconds.items() if name in ITERATION_ORDER and value}


def sampled(found: Measured) -> str:
    """What the rollouts say of themselves."""
    metrics, text = found.rollouts, ""
    if seconds := metrics.get("rollout/seconds/sample"):
        text += f" Sampling drew {metrics['rollout/tokens/sample'] / seconds:,.0f} tokens/s, scoring included"
        text += (
            f"; {probing:.1f} s of `sample` went into probing."
            if (probing := metrics["rollout/seconds/probe"])
            else "."
        )
    if opened := metrics.get("time/open"):
        text += f" The engine took {opened:.1f} s to open, once in a run."
    return text
