"""Check on a machine with GPUs what can be checked only there, and write down what it measured.

Usage: python tools/gpu_check.py [--scale full|tiny] [--only engine loop ranks training] [--output runs/gpu_check]

    engine    vLLM beside a training model on one card: five cycles of sleep, wake and sync, each proven, with the
              memory held; a sync that was left out must be noticed
    loop      two iterations of B-STaR with trainer, engine and reward model on one card, all random
    ranks     the same loop, sharded over two ranks that both sample: their rows against those of one
    training  speed, share of the card's arithmetic and memory of SFT, DPO and reward modelling, eager and compiled,
              with the attentions that there are

Everything runs through `harness fit` and the engines as they are. Models have 0.5 and 1.1 billion random weights; with
`--scale tiny` they are tiny, and whatever needs no card runs on a CPU too. What cannot run here says why; what fails is
named with its reason, the rest still runs, and the exit status is then 1. OUTPUT gets gpu_check.md, gpu_check.json and
the logs; the models and runs themselves lie in a temporary folder beside them and are removed.
"""

# ruff: noqa: E402 - the environment must be set before torch is imported

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from harness.environment import prepare_environment

prepare_environment()

import argparse
import csv
import importlib.util
import itertools
import json
import os
import random
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import torch
import yaml
from lightning.pytorch import Callback

from harness.callbacks.run_record import describe_start
from harness.commands.plan import read_run
from harness.commands.prepare import prepare
from harness.engines.memory import CONTEXT, share_beside
from harness.errors import first_line
from harness.ledger import fits
from harness.store import file_hash, read_json, read_rows, write_bytes, write_json
from harness.types import Rollout

RECIPE = ROOT / "configs/recipes/bstar/arithmetic/20_bstar.yaml"
NUM_CYCLES = 5
LEAK = 64 << 20
"""Bytes by which what a sleeping engine holds may grow from the first cycle to the last."""
SAME_SHARE = 0.9
"""Of samples that must be the same on one card and on two in float32, whose kernels round by the batch; 1 on a CPU."""
MEASURED_STEPS = 5
PATIENCE = 900
"""Seconds that one process may take."""
NO_CARD = "needs CUDA"


@dataclass(frozen=True)
class Size:
    """Of a Llama-like model with random weights."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    inner: int
    vocabulary: int
    """Tokens; at least the built-in task's."""
    context: int


@dataclass(frozen=True)
class Scale:
    """How much the checks do."""

    policy: Size
    trained: Size
    """The model whose training is measured."""
    problems: int
    response: int
    """Longest response in tokens."""
    side: int
    """Tokens of a row, and of a side of a pair."""
    pack: int
    """Tokens of a pack of rows."""
    pairs: int
    """In a micro-batch."""


SCALES = {
    "full": Scale(
        policy=Size(1024, 24, 16, 8, 4096, 32768, 512),
        trained=Size(2048, 16, 32, 8, 8192, 32768, 8192),
        problems=64,
        response=256,
        side=512,
        pack=8192,
        pairs=8,
    ),
    "tiny": Scale(
        policy=Size(64, 2, 2, 1, 96, 0, 256),
        trained=Size(64, 2, 2, 1, 96, 0, 256),
        problems=6,
        response=8,
        side=48,
        pack=96,
        pairs=2,
    ),
}


class Failed(Exception):
    """A check has failed; says why in one sentence."""


class NotHere(Exception):
    """A check cannot run on this machine; says what it needs."""


@dataclass
class Row:
    """One line of the table."""

    check: str
    part: str
    result: str = "passed"
    said: str = ""
    numbers: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Bench:
    """Where the checks run, and what they share."""

    scale: Scale
    work: Path
    """Models, configurations and runs; removed at the end."""
    logs: Path

    @property
    def cards(self) -> int:
        return torch.cuda.device_count()

    @property
    def accelerator(self) -> dict[str, Any]:
        """Options of the trainer."""
        return {"accelerator": "gpu" if self.cards else "cpu", "precision": "bf16-mixed" if self.cards else "32-true"}

    @property
    def memory(self) -> int:
        """Bytes of the first card; of a machine without any a number to plan with."""
        return torch.cuda.get_device_properties(0).total_memory if self.cards else 80 * 10**9

    def model(self, size: Size, scores: bool = False) -> Path:
        """A random checkpoint, made once: a causal model, or a reward model."""
        folder = self.work / f"{size.hidden}x{size.layers}{'-reward' * scores}"
        if not folder.exists():
            build(folder, size, scores, torch.bfloat16 if self.cards else torch.float32)
        return folder

    def run(self, name: str, *command: str) -> str:
        """Run Python with the arguments until it ends; what it printed."""
        log = self.logs / f"{name}.log"
        paths = os.pathsep.join([str(ROOT), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        with log.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, *command],
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": paths.rstrip(os.pathsep), "WANDB_MODE": "disabled"},
                start_new_session=True,
            )
            try:
                status = process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                raise Failed(f"it took longer than {PATIENCE} s; see {log}") from None
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        if status:
            raise Failed(f"exit status {status}: {last_error(log.read_text())}; see {log}")
        return log.read_text()

    def fit(self, name: str, config: dict[str, Any], ranks: int = 1) -> Path:
        """`harness fit` with a configuration, by torchrun where it has several ranks; its run directory."""
        run_dir, path = self.work / name, self.work / f"{name}.yaml"
        path.write_text(yaml.safe_dump({"run_dir": str(run_dir), **config}))
        launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)) if ranks > 1 else ()
        self.run(name, *launcher, "-m", "harness", "fit", "--config", str(path))
        return run_dir


def last_error(text: str) -> str:
    """The sentence with which a command ended, as far as its output shows it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in reversed(lines) if line.startswith("error: ")), lines[-1] if lines else "no output")


def build(folder: Path, size: Size, scores: bool, dtype: torch.dtype) -> None:
    """Write a random model with the built-in task's tokenizer; on the CPU, as this process holds nothing of a card."""
    from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

    from harness.arithmetic.model import build_tokenizer

    tokenizer = build_tokenizer()
    tokenizer.add_tokens([f"<{number}>" for number in range(size.vocabulary - len(tokenizer))])
    tokenizer.model_max_length = size.context
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        intermediate_size=size.inner,
        max_position_embeddings=size.context,
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    config.num_labels = 1
    torch.manual_seed(0)
    model: Any = (LlamaForSequenceClassification if scores else LlamaForCausalLM)(config)
    model.to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


# The engine, in a process of its own.


def check_engine(bench: Bench) -> Iterator[Row]:
    found = bench.work / "engine.json"
    bench.run("engine", __file__, "--child", str(bench.model(bench.scale.policy)), str(found))
    rows = [Row("engine", **row) for row in json.loads(found.read_text())]
    yield from rows
    if not bench.cards:
        yield Row("engine", "memory given back", "not run", NO_CARD)
        return
    opened, *cycles = [row.numbers for row in rows if "asleep_bytes" in row.numbers]
    kept, growth = (cycles[-1]["asleep_bytes"] - other["asleep_bytes"] for other in (opened, cycles[0]))
    numbers = {"kept_bytes": kept, "growth_bytes": growth}
    said = f"asleep it holds {kept / 1e9:.2f} GB, {growth / 1e6:.0f} MB more in the last cycle than in the first"
    if kept > CONTEXT or growth > LEAK:
        said += f"; accepted are {CONTEXT / 1e9:.1f} GB, as `harness plan` counts, and {LEAK / 1e6:.0f} MB"
    yield Row("engine", "memory given back", "failed" if "accepted" in said else "passed", said, numbers)


def engine_child(model: str, output: Path) -> None:
    """Sleep, wake, sync and prove; write the rows of the table. Memory is that of the whole card."""
    from harness.engines import EngineConfig, StaleEngineError, open_engine, verify_sync
    from harness.models.checkpoints import load_tokenizer
    from harness.models.weights import load_causal_lm, model_version, named_weights

    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    generator = torch.Generator(device).manual_seed(0)

    def held() -> int:
        free, total = torch.cuda.mem_get_info(device) if cuda else (0, 0)
        return total - free

    @torch.no_grad()
    def train() -> None:
        """Move all weights by three hundredths of their spread, more than bfloat16 rounds away."""
        for parameter in policy.parameters():
            noise = torch.randn(parameter.shape, generator=generator, device=device)
            parameter += 0.03 * parameter.std() * noise

    policy: Any = load_causal_lm(model)
    policy.to(device).eval()
    tokenizer = load_tokenizer(Path(model))
    prompts = [tokenizer(f"{number} + 7 * {number + 1} ?\n")["input_ids"] for number in range(4)]
    share = None
    if cuda:
        total = torch.cuda.get_device_properties(device).total_memory
        beside = sum(parameter.nbytes for parameter in policy.parameters())
        share = share_beside(total, beside, beside // 2)
    before = held()
    started = time.perf_counter()
    engine = open_engine(model, EngineConfig(kind="vllm", gpu_memory_utilization=share))
    said = f"{engine.name}, {engine.dtype}, in {time.perf_counter() - started:.0f} s"
    said += f", {(held() - before) / 1e9:.2f} GB" if cuda else ""
    rows: list[dict[str, Any]] = [
        {"part": "opened", "said": said, "numbers": {"asleep_bytes": before, "awake_bytes": held()}}
    ]
    proof = None
    for cycle in range(NUM_CYCLES):
        engine.sleep()
        asleep = held()
        train()
        started = time.perf_counter()
        version = model_version(policy)
        engine.wake()
        engine.sync(named_weights(policy), version)
        seconds = time.perf_counter() - started
        awake = held()
        proof = verify_sync(engine, policy, prompts, version, before=proof)
        said = f"asleep {asleep / 1e9:.2f} GB, awake {awake / 1e9:.2f} GB, " if cuda else ""
        said += f"sync {seconds:.2f} s, error {proof.max_error:.2g} of {proof.tolerance:.2g} nats per token"
        numbers = {"asleep_bytes": asleep, "awake_bytes": awake, "sync_seconds": seconds}
        numbers |= {"error": proof.max_error, "tolerance": proof.tolerance}
        rows.append({"part": f"sleep, wake, sync {cycle + 1}", "said": said, "numbers": numbers})
    train()
    engine.version = model_version(policy)  # which it was never given
    try:
        verify_sync(engine, policy, prompts, engine.version, before=proof)
    except StaleEngineError as error:
        rows.append({"part": "a sync left out is noticed", "said": first_line(error)})
    else:
        said = "an engine that claims weights that it does not hold was believed"
        rows.append({"part": "a sync left out is noticed", "result": "failed", "said": said})
    engine.close()
    output.write_text(json.dumps(rows))


# The loop, on one card and on two.


class MemoryWatch(Callback):
    """Writes the most bytes that the trainer's card held at any time of a fit, all processes together."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self._most = 0
        self._ended = threading.Event()

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        device = trainer.strategy.root_device
        if device.type == "cuda" and trainer.is_global_zero:
            threading.Thread(target=self._watch, args=(device,), daemon=True).start()

    def _watch(self, device: torch.device) -> None:
        while not self._ended.wait(0.05):
            free, total = torch.cuda.mem_get_info(device)
            self._most = max(self._most, total - free)

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        self._ended.set()
        if trainer.is_global_zero:
            self.path.write_text(json.dumps({"bytes": self._most}))


def watch(path: Path) -> dict[str, Any]:
    return {"class_path": "gpu_check.MemoryWatch", "init_args": {"path": str(path)}}


def loop_config(bench: Bench, name: str, reward_model: bool) -> dict[str, Any]:
    """The recipe of the built-in task with a random model, two iterations, and whatever it samples kept."""
    scale, data = bench.scale, bench.work / "data"
    if not data.exists():
        prepare(data, num_sft=10, num_train=2 * scale.problems, num_probe=scale.problems, num_test=scale.problems)
    config = yaml.safe_load(RECIPE.read_text().replace("runs/arithmetic/data", str(data)))
    del config["run_dir"]
    config["model"]["init_args"] |= {"checkpoint": str(bench.model(scale.policy)), "attn_implementation": "sdpa"}
    config["model"]["init_args"]["optimizer"] |= {"lr": 1e-5, "cycle_steps": 4}
    config["data"]["init_args"] |= {"batch_size": 4, "batches_per_epoch": 4, "max_length": scale.policy.context}
    config["trainer"] |= {"max_epochs": 2, "log_every_n_steps": 1, "enable_model_summary": False, **bench.accelerator}
    rollout = config["trainer"]["callbacks"][1]["init_args"]
    rollout |= {"problems_per_iteration": scale.problems, "replay_share": 0.0}
    rollout["scheduler"]["init_args"] |= {
        "sampling": {"n": 4, "max_tokens": scale.response},
        "temperatures": [0.5, 1.0],
        "thresholds": [-200.0, -100.0],
        "n_star": 1,
        "correct_above": -100.0,
        "keep_cut": True,
        "keep_unanswered": True,
    }
    rollout["select"]["init_args"] = {"keep_cut": True, "keep_unanswered": True}
    rollout["evaluation"]["max_tokens"] = scale.response
    rollout["engine"] = {"kind": "vllm", "max_model_len": scale.policy.context}
    if reward_model:
        scorer = {"checkpoint": str(bench.model(scale.policy, scores=True)), "template": "arithmetic"}
        scorer |= {"dtype": "bfloat16" if bench.cards else "float32"}
        rollout["reward"]["init_args"]["process"] = {"class_path": "harness.rewards.RewardModel", "init_args": scorer}
    config["trainer"]["callbacks"].append(watch(bench.work / f"{name}.memory.json"))
    return config


def check_loop(bench: Bench) -> Iterator[Row]:
    config = loop_config(bench, "loop", reward_model=True)
    run = bench.fit("loop", config)
    for number in (1, 2):
        manifest = read_json(run / "rollouts" / f"iter_{number:03d}.json")
        tokens, seconds = (sum(manifest[name].values()) for name in ("tokens", "seconds"))
        said = (
            f"{tokens} tokens sampled and scored in {seconds:.1f} s, {manifest['monitors']['num_rows']} rows trained on"
        )
        yield Row("loop", f"iteration {number}", said=said, numbers={"tokens": tokens, "seconds": manifest["seconds"]})
    yield memory_row(bench, "loop")


def memory_row(bench: Bench, name: str) -> Row:
    """What a fit took of the card, beside what `harness plan` says of it."""
    phases = planned(bench, name)
    numbers: dict[str, Any] = {"planned_bytes": {phase.name: phase.total for phase in phases}}
    if not bench.cards:
        return Row("loop", "memory against the plan", "not run", NO_CARD, numbers)
    most = json.loads((bench.work / f"{name}.memory.json").read_text())["bytes"]
    numbers["most_bytes"] = most
    said = f"{most / 1e9:.1f} GB at most; planned are " + ", ".join(f"{p.total / 1e9:.1f} {p.name}" for p in phases)
    over = most > max(phase.total for phase in phases)
    return Row("loop", "memory against the plan", "failed" if over else "passed", said, numbers)


def planned(bench: Bench, name: str) -> Any:
    """The phases of a configuration in `harness plan`."""
    return read_run([str(bench.work / f"{name}.yaml")], None, None, "", "").phases(bench.memory)


def check_ranks(bench: Bench) -> Iterator[Row]:
    if bench.cards == 1:
        raise NotHere("needs two CUDA devices")
    runs = []
    for ranks in (1, 2):
        config = loop_config(bench, f"ranks-{ranks}", reward_model=False)
        config["trainer"] |= {"devices": ranks, "precision": "32-true"}
        config["trainer"]["callbacks"][1]["init_args"]["engine"]["dtype"] = "float32"
        if ranks > 1:
            config["trainer"]["strategy"] = {"class_path": "harness.strategies.FSDP2Strategy"}
        runs.append(bench.fit(f"ranks-{ranks}", config, ranks))
    files = [f"{name}.jsonl" for name in ("eval_000", "iter_001.probe", "iter_001")]  # until weights are trained
    pairs = [pair for name in files for pair in zip(*(samples(run / "rollouts" / name) for run in runs), strict=True)]
    share = sum(one == two for one, two in pairs) / len(pairs)
    same = all(len({file_hash(run / "rollouts" / name) for run in runs}) == 1 for name in files)
    said = f"{share:.1%} of {len(pairs)} samples are the same{', and the files byte for byte' if same else ''}"
    enough = share >= (SAME_SHARE if bench.cards else 1.0)
    yield Row("ranks", "rows of two ranks and of one", "passed" if enough else "failed", said, {"same_share": share})
    efforts = read_json(runs[1] / "rollouts/iter_001.json")["ranks"]
    shares = " and ".join(f"{effort['problems']} problems in {effort['seconds']:.1f} s" for effort in efforts)
    yield Row("ranks", "what each rank sampled", said=shares, numbers={"ranks": efforts})


def samples(path: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Problem and tokens of every sample of a file of rollouts."""
    for row in read_rows(path, Rollout):
        for scored in row.responses:
            yield row.problem.id, tuple(scored.response.token_ids)


# The speed of training.

KINDS = {"sft": "SFTModule", "dpo": "DPOModule", "reward": "RewardModule"}
FORMS: dict[str, dict[str, Any]] = {
    "sdpa": {"attn_implementation": "sdpa"},
    "sdpa, compiled": {"attn_implementation": "sdpa", "compile": True},
    "flash": {"attn_implementation": "flash_attention_2"},
    "flex, compiled": {"attn_implementation": "flex_attention", "compile": True},
}


def check_training(bench: Bench) -> Iterator[Row]:
    for kind, (form, options) in itertools.product(KINDS, FORMS.items()):
        part = f"{kind}, {form}"
        attention = options["attn_implementation"]
        if attention == "flash_attention_2" and importlib.util.find_spec("flash_attn") is None:
            yield Row("training", part, "not run", "needs the package flash-attn")
        elif attention != "sdpa" and not bench.cards:
            yield Row("training", part, "not run", NO_CARD)
        elif not bench.cards and "compile" in options and kind != "sft":
            yield Row("training", part, "not run", f"{NO_CARD}; on a CPU sft alone is compiled")
        else:
            yield attempt("training", part, partial(measure, bench, kind, options))


def measure(bench: Bench, kind: str, options: dict[str, Any]) -> Row:
    """Train a few steps; tokens a second and the share of the card's arithmetic over the last of them."""
    name = "-".join(["training", kind, *map(str, options.values())])
    path = bench.work / f"{name}.yaml"
    config = training_config(bench, kind, options, name)
    path.write_text(yaml.safe_dump(config))
    phase = planned(bench, name)[0]
    if bench.cards and not fits(phase, bench.memory):
        raise NotHere(f"does not fit on this card: {phase.total / 1e9:.1f} of {bench.memory / 1e9:.1f} GB are planned")
    run = bench.fit(name, config)
    with (run / "metrics.csv").open() as file:
        last = [row for row in csv.DictReader(file) if row.get("train/tokens_per_second")][-1]
    speed, share = float(last["train/tokens_per_second"]), last.get("train/mfu")
    most = json.loads((bench.work / f"{name}.memory.json").read_text())["bytes"]
    numbers = {"tokens_per_second": speed, "mfu": float(share) if share else None}
    numbers |= {"most_bytes": most or None, "planned_bytes": phase.total}
    said = f"{speed:,.0f} tokens/s"
    if share:
        said += f", {float(share):.1%} of the card's arithmetic"
    if most:
        said += f", {most / 1e9:.1f} GB of {phase.total / 1e9:.1f} planned"
    return Row("", "", said=said, numbers=numbers)


def training_config(bench: Bench, kind: str, options: dict[str, Any], name: str) -> dict[str, Any]:
    scale, steps = bench.scale, 3 * MEASURED_STEPS
    rows = bench.work / f"{kind}.jsonl"
    if not rows.exists():
        rows.write_text("".join(training_rows(kind, scale, steps)))
    module = {"checkpoint": str(bench.model(scale.trained)), **options}
    module |= {"reference_cache": str(bench.work / "reference")} if kind == "dpo" else {}
    data = {"train_files": [str(rows)], "batch_size": scale.pairs, "max_length": scale.side}
    data |= {"packing": True, "batch_size": 1, "max_length": scale.pack} if kind == "sft" else {}
    loader = "SFTDataModule" if kind == "sft" else "PreferenceDataModule"
    return {
        "model": {"class_path": f"harness.modules.{KINDS[kind]}", "init_args": module},
        "data": {"class_path": f"harness.datamodules.{loader}", "init_args": data},
        "trainer": {
            "devices": 1,
            "max_steps": steps,
            "log_every_n_steps": MEASURED_STEPS,
            "gradient_clip_val": 1.0,
            "enable_checkpointing": False,
            "enable_model_summary": False,
            "callbacks": [watch(bench.work / f"{name}.memory.json")],
            **bench.accelerator,
        },
    }


def training_rows(kind: str, scale: Scale, steps: int) -> Iterator[str]:
    """Rows of random sums, whose sides have at most `scale.side` tokens; those of a pair share half as their prompt."""
    rng = random.Random(0)

    def text(length: int) -> str:
        signs = (" + ", " - ", " * ")
        return "".join(rng.choice(signs) if i % 2 else str(rng.randint(0, 50)) for i in range(length))

    number = steps * (2 * scale.pack // scale.side if kind == "sft" else scale.pairs)
    for _ in range(number):
        half = scale.side // 2 - 4
        row = {"prompt": text(half) + " ?\n"}
        lengths = {"completion": half} if kind == "sft" else {"chosen": half, "rejected": half}
        row |= {name: text(rng.randint(length // 2, length)) for name, length in lengths.items()}
        yield json.dumps(row) + "\n"


# All of them.

CHECKS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "engine": check_engine,
    "loop": check_loop,
    "ranks": check_ranks,
    "training": check_training,
}


def attempt(check: str, part: str, work: Callable[[], Row]) -> Row:
    """The row of a part, also where it fails or cannot run."""
    try:
        row = work()
    except Failed as error:
        return Row(check, part, "failed", first_line(error))
    except NotHere as error:
        return Row(check, part, "not run", first_line(error))
    row.check, row.part = check, part
    return row


def rows_of(name: str, bench: Bench) -> Iterator[Row]:
    """All rows of a check; one that does not get to its end has a last row that says why."""
    try:
        yield from CHECKS[name](bench)
    except Failed as error:
        yield Row(name, "ended", "failed", first_line(error))
    except NotHere as error:
        yield Row(name, "all", "not run", first_line(error))
    except Exception as error:  # whatever breaks one check, the others still run
        yield Row(name, "ended", "failed", f"{type(error).__name__}: {first_line(error)}")


def line(row: Row) -> str:
    return f"| {row.check} | {row.part} | {row.result} | {row.said.replace('|', '/')} |"


HEADER = ("| check | part | result | |", "|---|---|---|---|")


def page(start: dict[str, Any], scale: str, rows: list[Row]) -> str:
    """All of it in Markdown."""
    commit = (start["git"]["harness"] or {}).get("commit", "unknown")
    packages = ", ".join(f"{name} {version}" for name, version in start["packages"].items())
    return "\n".join(
        [
            f"# GPU check, scale {scale}, {start['started']}",
            "",
            f"{', '.join(start['devices']) or 'no CUDA device'}; CUDA {torch.version.cuda or 'none'}; "
            f"{start['platform']}; Python {start['python']}; {packages}; harness {start['harness']}, commit {commit}",
            "",
            *HEADER,
            *map(line, rows),
            "",
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=SCALES, default="full")
    parser.add_argument("--only", nargs="+", choices=CHECKS, default=list(CHECKS), help="run these checks alone")
    parser.add_argument("--output", type=Path, default=Path("runs/gpu_check"))
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        engine_child(arguments.child[0], Path(arguments.child[1]))
        return 0
    if arguments.scale == "full" and not torch.cuda.is_available():
        parser.error("this machine has no CUDA device; --scale tiny runs on a CPU what can.")
    output: Path = arguments.output.resolve()
    (output / "logs").mkdir(parents=True, exist_ok=True)
    start = describe_start({}, False)
    rows: list[Row] = []
    print(*HEADER, sep="\n")
    with tempfile.TemporaryDirectory(prefix="work-", dir=output) as work:
        bench = Bench(SCALES[arguments.scale], Path(work), output / "logs")
        for name in arguments.only:
            for row in rows_of(name, bench):
                rows.append(row)
                print(line(row), flush=True)
    write_bytes(output / "gpu_check.md", page(start, arguments.scale, rows).encode())
    write_json(
        output / "gpu_check.json", {"start": start, "scale": arguments.scale, "rows": [asdict(row) for row in rows]}
    )
    failed = sum(row.result == "failed" for row in rows)
    print(f"\n{output / 'gpu_check.md'}: {f'{failed} of these have failed' if failed else 'nothing has failed'}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
