"""Tokens per second and peak memory of a whole training step, beside TRL's trainers on the same model and data.

Usage: python benchmarks/training.py [KIND ...] [--sizes small 60m 60m_152k] [--steps 8] [--rounds 3] [--shared 0.6]
                                     [--trl PYTHON]

PYTHON is an interpreter with TRL beside everything this project needs; without it only our own forms are compared.
Every trainer runs in a process of its own: same random weights, rows, batch size, precision, thread count, optimizer
(AdamW), no checkpoints, no logging before the end. The first two steps of each run are left out. The trainers take
turns for `--rounds` rounds, and the ratio is that of the medians to TRL's fastest form; memory is the growth of the
process's peak from before its trainer is built. TRL's forms of SFT are its default (rows in random order, padded),
batches of rows of similar length (`trl_sorted`: train_sampling_strategy="group_by_length") and packs of as many tokens
as ours (`trl_packed`: packing by "bfd", which is free of padding). The sides of pairs are of nearly one length, and
TRL's trainer of DPO has no other form. Tokens are those of the rows: padding is never counted, and each side of a pair
is whole however it is computed; for TRL they are the rows' mean times the rows of a step. `groups` is a reward model on
all pairs of four right and four wrong responses to each problem, one problem, or as many pairs, a step. `policy` is
GRPO on eight given responses to each prompt, two prompts a step, one step on each: TRL's trainer is handed the
responses where it would sample (`rollout_func`), prompts are the part `--shared` of the tokens (take 0.4), and ratios
are to the policy itself on both sides. On a shared machine tokens per second of processor time, with one thread, tell
more than tokens per second. `--hidden`, `--layers`, `--vocabulary` and `--tied` make a model of another size.
"""

# ruff: noqa: E402 - the environment must be set before torch is imported

from __future__ import annotations

from harness.environment import prepare_environment

prepare_environment()

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

BATCH_SIZE = 8
WARMUP = 2
FORMS = {
    "sft": ("packed", "padded", "trl", "trl_sorted", "trl_packed"),
    "dpo": ("shared", "plain", "frozen", "trl"),
    "reward": ("shared", "plain", "trl"),
    "groups": ("grouped", "pairs", "plain", "trl"),
    "policy": ("shared", "plain", "trl"),
}
"""First the form of ours that is meant for the data, then its variants."""
MAX_LENGTH = 512
PACK = 1024
"""Tokens of a pack: as many as a padded batch of SFT has, so that both step over the same rows."""


class Size(NamedTuple):
    """Of a model."""

    hidden: int
    layers: int
    vocabulary: int
    tied: bool = False


SIZES = {
    "small": Size(128, 4, 2048),
    "60m": Size(512, 8, 32768),
    "60m_152k": Size(320, 8, 151936, tied=True),
}
"""0.9, 60.8 and 59.3 million parameters."""
NUM_SIDES = 4  # right, and wrong, responses to a problem of `groups`
NUM_RESPONSES = 8  # to a prompt of `policy`
WORDS = ("<pad>", "<bos>", "<eos>", *"0123456789+-*=")


def write_rows(folder: Path, kind: str, num_rows: int, shared: float) -> int:
    """Rows of random digits; returns their mean number of tokens, counting EOS.

    SFT rows are of 20 to 500 tokens, skewed to the short. The sides of a pair share a prompt that is the part `shared`
    of each side of about 200 tokens, as do the responses to a prompt.
    """
    rng = random.Random(0)

    def text(length: int) -> str:
        return "".join(rng.choice("0123456789+-*=") for _ in range(length))

    rows: list[dict[str, str]] = []
    while len(rows) < num_rows:
        if kind == "sft":
            length = int(20 * 25 ** rng.random())
            rows.append({"prompt": text(length // 4), "completion": text(length - length // 4)})
            continue
        length, number = rng.randint(150, 250), NUM_SIDES if kind == "groups" else 1
        prompt = text(int(length * shared))
        if kind == "policy":
            lengths = [int(length * (1 - shared) * rng.uniform(0.8, 1.2)) for _ in range(NUM_RESPONSES)]
            rows += [{"prompt": prompt, "completion": text(size)} for size in lengths]
            continue
        sides = [text(max(1, int(length * (1 - shared) * rng.uniform(0.8, 1.2)))) for _ in range(2 * number)]
        rows += [
            {"prompt": prompt, "chosen": "1" + right, "rejected": "2" + wrong}
            for right in sides[:number]
            for wrong in sides[number:]
        ]
    (folder / f"{kind}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    # Each side has the prompt, BOS and EOS.
    return sum(sum(len(text) for text in row.values()) + 2 for row in rows) + (
        0 if kind in ("sft", "policy") else sum(len(row["prompt"]) + 2 for row in rows)
    )


def batch_size(kind: str) -> int:
    """Rows of a step."""
    return {"groups": NUM_SIDES**2, "policy": 2 * NUM_RESPONSES}.get(kind, BATCH_SIZE)


def token_ids(text: str) -> tuple[int, ...]:
    """Tokens of a response, EOS included."""
    return (*(WORDS.index(letter) for letter in text), WORDS.index("<eos>"))


def policy_rewards(texts: list[str]) -> list[float]:
    """1 for a text whose last character is a digit."""
    return [float(text[-1:].isdigit()) for text in texts]


def build_checkpoint(folder: Path, size: Size) -> None:
    """A random Llama with a tokenizer of single characters."""
    import torch
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="="))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=size.vocabulary, hidden_size=size.hidden, num_hidden_layers=size.layers, num_attention_heads=4,
            num_key_value_heads=4, intermediate_size=3 * size.hidden, max_position_embeddings=MAX_LENGTH,
            tie_word_embeddings=size.tied, bos_token_id=1, eos_token_id=2, pad_token_id=0,
        )
    ).save_pretrained(folder)  # fmt: skip


def run_ours(kind: str, form: str, folder: Path, steps: int, tokens: int) -> list[tuple[float, float, int]]:
    """When each step ended, in seconds of the clock and of the processor, and its tokens."""
    import lightning as L

    from harness.datamodules import PolicyDataModule, PreferenceDataModule, SFTDataModule
    from harness.modules import DPOModule, PolicyGradientModule, RewardModule, SFTModule
    from harness.objectives import GRPO

    times: list[tuple[float, float, int]] = []

    class Clock(L.Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            # What a group computes once is counted as often as its pairs hold it.
            done = tokens // steps if kind == "groups" else batch["step_tokens"]
            times.append((time.perf_counter(), time.process_time(), done))

    model = str(folder / "model")
    rows: list[str | dict[str, Any]] = [str(folder / f"{kind}.jsonl")]
    module: Any
    if kind == "sft":
        module = SFTModule(model)
        packing: dict[str, Any] = {"packing": True, "batch_size": 1, "max_length": PACK} if form == "packed" else {}
        data: Any = SFTDataModule(rows, **{"batch_size": BATCH_SIZE, "max_length": MAX_LENGTH, **packing})
    elif kind == "policy":
        write_policy_rows(folder)
        module = PolicyGradientModule(model, GRPO(old_logps="current"), share_prefix=form == "shared")
        data = PolicyDataModule([str(folder / "rows.jsonl")], batch_size=2, max_length=MAX_LENGTH)
    else:
        options: dict[str, Any] = {"share_prefix": form in ("shared", "grouped", "pairs")}
        if kind == "dpo":
            options |= {"reference": "frozen" if form == "frozen" else "precomputed"}
            options |= {"reference_cache": str(folder / "cache")}
        module = (DPOModule if kind == "dpo" else RewardModule)(model, **options)
        grouped: dict[str, Any] = {"group": "prompt", "batch_size": 1} if form == "grouped" else {}
        data = PreferenceDataModule(rows, **({"batch_size": batch_size(kind), "max_length": MAX_LENGTH} | grouped))
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=2, max_steps=steps, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, gradient_clip_val=1.0, callbacks=[Clock()],
    )  # fmt: skip
    trainer.fit(module, data)
    return times


def write_policy_rows(folder: Path) -> None:
    """The rows as our loop writes them, with the advantages that TRL makes of the same rewards."""
    from harness.store import write_rows as write
    from harness.types import PolicyExample

    read = [json.loads(line) for line in (folder / "policy.jsonl").read_text().splitlines()]
    examples = []
    for start in range(0, len(read), NUM_RESPONSES):
        group = read[start : start + NUM_RESPONSES]
        rewards = policy_rewards([row["completion"] for row in group])
        mean, spread = statistics.mean(rewards), statistics.stdev(rewards) + 1e-4
        for row, reward in zip(group, rewards, strict=True):
            ids = token_ids(row["completion"])
            examples.append(PolicyExample(row["prompt"], row["completion"], ids, (reward - mean) / spread))
    write(folder / "rows.jsonl", examples)


def run_trl_policy(folder: Path, steps: int, clock: Any) -> None:
    """TRL's GRPOTrainer on given responses."""
    import trl
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    rows = [json.loads(line) for line in (folder / "policy.jsonl").read_text().splitlines()]
    completions: dict[str, list[str]] = {}
    for row in rows:
        completions.setdefault(row["prompt"], []).append(row["completion"])

    def given(prompts: list[str], trainer: Any) -> dict[str, Any]:
        taken: dict[str, int] = {}
        found: dict[str, Any] = {"prompt_ids": [], "completion_ids": [], "logprobs": None}
        for prompt in prompts:
            number = taken[prompt] = taken.get(prompt, -1) + 1
            found["prompt_ids"].append([WORDS.index("<bos>"), *token_ids(prompt)[:-1]])
            found["completion_ids"].append(list(token_ids(completions[prompt][number])))
        return found

    def reward(completions: list[str], **_: Any) -> list[float]:
        return policy_rewards(completions)

    args = trl.GRPOConfig(
        output_dir=str(folder / "trl"), use_cpu=True, bf16=False, gradient_checkpointing=False, loss_type="grpo",
        per_device_train_batch_size=batch_size("policy"), num_generations=NUM_RESPONSES, max_steps=steps,
        max_completion_length=MAX_LENGTH, report_to=[], save_strategy="no", logging_steps=10**6, disable_tqdm=True,
        learning_rate=1e-5, beta=0.0,
    )  # fmt: skip
    trl.GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder / "model"), reward_funcs=reward, args=args,
        train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in completions]), rollout_func=given,
        processing_class=AutoTokenizer.from_pretrained(folder / "model"), callbacks=[clock],
    ).train()  # fmt: skip


def run_trl(kind: str, form: str, folder: Path, steps: int, tokens: int) -> list[tuple[float, float, int]]:
    """As `run_ours`, with the tokens of an average step."""
    import trl
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback

    times: list[tuple[float, float, int]] = []
    step_tokens = tokens // steps

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            times.append((time.perf_counter(), time.process_time(), step_tokens))

    if kind == "policy":
        run_trl_policy(folder, steps, Clock())
        return times
    rows = [json.loads(line) for line in (folder / f"{kind}.jsonl").read_text().splitlines()]
    config, build = {
        "sft": (trl.SFTConfig, trl.SFTTrainer),
        "dpo": (trl.DPOConfig, trl.DPOTrainer),
        "reward": (trl.RewardConfig, trl.RewardTrainer),
        "groups": (trl.RewardConfig, trl.RewardTrainer),
    }[kind]
    options: dict[str, Any] = {"max_length": MAX_LENGTH, "per_device_train_batch_size": batch_size(kind)}
    if kind == "dpo":
        options["precompute_ref_log_probs"] = True
    elif form == "trl_sorted":
        options["train_sampling_strategy"] = "group_by_length"
    elif form == "trl_packed":
        options |= {"packing": True, "packing_strategy": "bfd", "max_length": PACK, "per_device_train_batch_size": 1}
    args = config(
        output_dir=str(folder / "trl"), use_cpu=True, bf16=False, gradient_checkpointing=False, max_steps=steps,
        report_to=[], save_strategy="no", logging_steps=10**6, disable_tqdm=True, learning_rate=1e-5, **options,
    )  # fmt: skip
    scalar = kind in ("reward", "groups")
    auto = AutoModelForSequenceClassification if scalar else AutoModelForCausalLM
    labels = {"num_labels": 1} if scalar else {}
    trainer = build(
        model=auto.from_pretrained(folder / "model", **labels), args=args, train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(folder / "model"), callbacks=[Clock()],
    )  # fmt: skip
    if form == "trl_packed":
        step_tokens = tokens // len(trainer.train_dataset)
    trainer.train()
    return times


def child(kind: str, form: str, folder: Path, steps: int, tokens: int) -> None:
    """Run one trainer and print what it took as one line of JSON."""
    import lightning
    import torch
    import transformers  # noqa: F401 - imported, as is the other, before memory is measured

    del lightning
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    trl = form.startswith("trl")
    run = (run_trl if trl else run_ours)(kind, form, folder, steps, tokens)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    wall, cpu = (run[-1][i] - run[WARMUP - 1][i] for i in range(2))
    done = sum(tokens for *_, tokens in run[WARMUP:])
    print(json.dumps({"rate": done / wall, "cpu_rate": done / cpu, "peak_mib": peak / 1024}))


def measure(
    kind: str, forms: list[str], folder: Path, arguments: argparse.Namespace, tokens: int
) -> dict[str, list[dict[str, float]]]:
    """What each form took in each round; they take turns."""
    found: dict[str, list[dict[str, float]]] = {form: [] for form in forms}
    for _ in range(arguments.rounds):
        for form in forms:
            python = arguments.trl if form.startswith("trl") else sys.executable
            numbers = [str(arguments.steps + WARMUP), str(tokens)]
            command = [python, __file__, "--child", kind, form, str(folder), *numbers]
            done = subprocess.run(command, env=os.environ, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"{kind} {form} failed:\n{done.stderr[-2000:]}")
            found[form].append(json.loads(done.stdout.strip().splitlines()[-1]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", default=list(FORMS), help="sft, dpo, reward, groups, policy")
    parser.add_argument("--steps", type=int, default=8, help="timed steps of each run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shared", type=float, default=0.6, help="part of each side that a pair, or a group, shares")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["small"], help="of the model")
    parser.add_argument("--hidden", type=int, help="width of the model, in place of that of its size")
    parser.add_argument("--layers", type=int, help="layers of the model, likewise")
    parser.add_argument("--vocabulary", type=int, help="size of the model's vocabulary, likewise")
    parser.add_argument("--tied", action="store_true", default=None, help="the head is the matrix of the embeddings")
    parser.add_argument("--trl", help="interpreter with TRL")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parent.parent)
    changed = {name: value for name in Size._fields if (value := getattr(arguments, name)) is not None}
    for name in arguments.sizes:
        for kind in arguments.kinds:
            compare(kind, SIZES[name]._replace(**changed), arguments)


def compare(kind: str, size: Size, arguments: argparse.Namespace) -> None:
    """Run all forms of a kind of training on a model of a size, and print what they took."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build_checkpoint(folder / "model", size)
        num_rows = batch_size(kind) * (arguments.steps + WARMUP)
        tokens = write_rows(folder, kind, num_rows, arguments.shared)
        load = os.getloadavg()[0]
        forms = [form for form in FORMS[kind] if not form.startswith("trl") or arguments.trl]
        shape = f"{size.layers} layers of width {size.hidden}, vocabulary {size.vocabulary}{', tied' * size.tied}"
        print(f"{kind}, {shape}: {num_rows} rows of {tokens / num_rows:.0f} tokens on average, load {load:.1f}")
        report(measure(kind, forms, folder, arguments, tokens))


def report(found: dict[str, list[dict[str, float]]]) -> None:
    """Print each form's rate and memory, and their ratios to those of TRL's fastest form, or of the last of ours."""

    def medians(name: str) -> dict[str, float]:
        return {form: statistics.median(run[name] for run in runs) for form, runs in found.items()}

    rates, cpu_rates, peaks = medians("rate"), medians("cpu_rate"), medians("peak_mib")
    theirs = [form for form in rates if form.startswith("trl")]
    base = max(theirs, key=lambda form: cpu_rates[form], default=list(rates)[-1])
    for form, rate in rates.items():
        speed, cpu, memory = rate / rates[base], cpu_rates[form] / cpu_rates[base], peaks[form] / peaks[base]
        print(
            f"  {form:10} {rate:8.0f} tokens/s {speed:5.2f} x {base}, {cpu_rates[form]:8.0f} per processor second "
            f"{cpu:5.2f} x, peak +{peaks[form]:4.0f} MiB {memory:5.2f} x",
            flush=True,
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], sys.argv[3], Path(sys.argv[4]), int(sys.argv[5]), int(sys.argv[6]))
    else:
        main()
