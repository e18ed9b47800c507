"""Two processes on the CPU (gloo) train as one process does: DDP, and FSDP2."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from harness.errors import InputError
from harness.models.reward_head import load_likelihood_reward
from harness.models.weights import fingerprint, load_causal_lm, load_reward_model, model_version, named_weights
from harness.store import SUMS, check_sums, write_sums
from harness.strategies import FSDP2Strategy
from tests.modules.fit_in_parallel import DEVICES

SCRIPT = Path(__file__).with_name("fit_in_parallel.py")
KINDS = ("sft", "reward", "hybrid", "dpo", "policy")
METRICS = {"policy": ("train/loss", "train/kl", "train/ratio_max", "train/engine_gap_max", "train/num_tokens")}
LOAD = {"reward": load_reward_model, "hybrid": load_likelihood_reward}


def launch(strategy, jobs, log):
    """Run the script on one or two ranks, as torchrun would."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world_size = DEVICES.get(strategy, 2)
    cache = {"XDG_CACHE_HOME": str(log.parent / "cache")}
    common = cache | {"PYTHONPATH": str(SCRIPT.parents[2]), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    ranks = {"WORLD_SIZE": world_size, "LOCAL_WORLD_SIZE": world_size, "GROUP_RANK": 0, "TORCHELASTIC_RUN_ID": "test"}
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = []
    for rank in range(world_size):
        own = ranks | address | {"RANK": rank, "LOCAL_RANK": rank} if world_size > 1 else {}
        environment = os.environ | common | {key: str(value) for key, value in own.items()}
        request = json.dumps({"strategy": strategy, "jobs": jobs})
        with open(f"{log}.{rank}", "w") as output:
            command = [sys.executable, str(SCRIPT), request]
            processes.append(subprocess.Popen(command, env=environment, stdout=output, stderr=output))
    try:
        codes = [process.wait(timeout=280) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert codes == [0] * world_size, Path(f"{log}.0").read_text()[-3000:]


@pytest.fixture(scope="module")
def files(tmp_path_factory, tiny_model_dir):
    """22 supervised rows of mixed lengths, 24 pairs, 1 to 4 pairs of each of 24 prompts, and as many responses."""
    folder = tmp_path_factory.mktemp("data")
    rows = [{"prompt": f"{i}=", "response": str(i) + "." * (7 * i % 19), "weight": 1 + i % 2} for i in range(22)]
    pairs = [{"prompt": f"{i}=", "chosen": f"{i}!", "rejected": f"{i + 1}" + "?" * (i % 5)} for i in range(24)]
    groups = [pair | {"chosen": str(i) + "." * n} for i, pair in enumerate(pairs) for n in range(1 + i % 4)]
    weights = model_version(load_causal_lm(tiny_model_dir))
    sampled = [
        {"prompt": f"{i}=", "response": "", "token_ids": ids, "token_logps": [-4.4] * len(ids), "weights": weights}
        | {"advantage": n - 1.4, "problem_id": str(i)}
        for i in range(24)
        for n in range(1 + i % 4)
        if (ids := [3 + (i + n + j) % 40 for j in range(1 + (3 * i + n) % 9)])
    ]
    for name, content in (("rows", rows), ("pairs", pairs), ("groups", groups), ("sampled", sampled)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    names = {"sft": "rows", "reward": "pairs", "hybrid": "groups", "dpo": "pairs", "policy": "sampled"}
    return {kind: folder / f"{name}.jsonl" for kind, name in names.items()}


def jobs_in(folder, model, files, kinds=KINDS):
    return [{"kind": k, "model": str(model), "data": str(files[k]), "out": str(folder / k)} for k in kinds]


@pytest.fixture(scope="module")
def one_rank(tmp_path_factory, tiny_model_dir, files):
    folder = tmp_path_factory.mktemp("one")
    launch("one", jobs_in(folder, tiny_model_dir, files), folder / "log")
    return folder


def sums_in(folder):
    return [line.split()[1] for line in (folder / SUMS).read_text().splitlines()]


def test_a_damaged_shard_is_refused_by_its_hash(tmp_path):
    folder = tmp_path / "last.ckpt"
    folder.mkdir()
    for rank in range(2):
        (folder / f"__{rank}_0.distcp").write_bytes(bytes([rank]) * 100)
    write_sums(folder)
    (folder / "__1_0.distcp").write_bytes(bytes([1]) * 50 + bytes([3]) + bytes([1]) * 49)
    with pytest.raises(InputError, match=r"__1_0.distcp: damaged, changed or gone"):
        FSDP2Strategy().load_checkpoint(folder)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_ranks_train_as_one_and_resume_to_the_same_weights(tmp_path, tiny_model_dir, files, one_rank, strategy):
    """8 rows a step, cut to 2 ranks x 2 accumulated batches x 2 rows, the last step of an epoch incomplete for SFT.

    The last jobs stop after step 3, inside the first epoch, where the end is saved, and resume from there.
    """
    jobs = jobs_in(tmp_path, tiny_model_dir, files)
    for whole in (jobs[0], jobs[-1]):
        broken = {**whole, "out": str(tmp_path / f"broken_{whole['kind']}")}
        jobs += [broken | {"stop": True}, broken | {"resume": f"{broken['out']}/checkpoints/last.ckpt"}]
    launch(strategy, jobs, tmp_path / "log")
    for kind in KINDS:
        one, two = (torch.load(folder / kind / "result.pt") for folder in (one_rank, tmp_path))
        assert len(one["steps"]) == len(two["steps"]) == 6
        for name, expected in one["steps"][0].items():
            torch.testing.assert_close(two["steps"][0][name], expected, atol=1e-6, rtol=0)
        for name, expected in one["weights"].items():
            torch.testing.assert_close(two["weights"][name], expected, atol=2e-5, rtol=0)
        for name in METRICS.get(kind, ("train/loss", "val/loss", "val/accuracy", "train/num_tokens")):
            assert two["metrics"][name] == pytest.approx(one["metrics"][name], rel=1e-4), (kind, name)
        exported = LOAD.get(kind, load_causal_lm)(tmp_path / kind / "hf")
        assert fingerprint(named_weights(exported)) == fingerprint(two["weights"].items())
    if strategy == "fsdp":
        shards = tmp_path / "broken_sft" / "checkpoints" / "last.ckpt"
        check_sums(shards)
        assert {path.name for path in shards.iterdir()} == {*sums_in(shards), SUMS}
        assert sum(name.endswith(".distcp") for name in sums_in(shards)) == 2
    for kind in ("sft", "policy"):
        unbroken, resumed = (torch.load(tmp_path / name / "result.pt") for name in (kind, f"broken_{kind}"))
        assert len(resumed["steps"]) == 3
        for name, expected in unbroken["weights"].items():
            assert torch.equal(resumed["weights"][name], expected), (kind, name)


@pytest.mark.slow
def test_two_copies_of_two_shards_each_train_as_one_rank(tmp_path, tiny_model_dir, files, one_rank):
    launch("hsdp", jobs_in(tmp_path, tiny_model_dir, files, ["sft"]), tmp_path / "log")
    one, four = (torch.load(folder / "sft" / "result.pt") for folder in (one_rank, tmp_path))
    for name, expected in one["steps"][0].items():
        torch.testing.assert_close(four["steps"][0][name], expected, atol=1e-6, rtol=0)
    for name, expected in one["weights"].items():
        torch.testing.assert_close(four["weights"][name], expected, atol=2e-5, rtol=0)
    exported = load_causal_lm(tmp_path / "sft" / "hf")
    assert fingerprint(named_weights(exported)) == fingerprint(four["weights"].items())


@pytest.mark.slow
def test_weights_gathered_in_bfloat16_stay_float32_and_train_nearly_so(tmp_path, tiny_model_dir, files, one_rank):
    launch("bf16", jobs_in(tmp_path, tiny_model_dir, files, ["sft"]), tmp_path / "log")
    one, two = (torch.load(folder / "sft" / "result.pt") for folder in (one_rank, tmp_path))
    exact, rounded = (torch.cat([g.flatten() for g in run["steps"][0].values()]) for run in (one, two))
    error = (rounded - exact).norm() / exact.norm()
    assert 1e-4 < error < 0.05
    assert {tensor.dtype for tensor in two["weights"].values()} == {torch.float32}


def test_a_shard_size_that_does_not_divide_the_processes_is_refused():
    strategy = FSDP2Strategy(shard_size=2)
    strategy.parallel_devices = [torch.device("cpu")] * 3
    with pytest.raises(InputError, match="shard_size is 2, which does not divide the 3 processes"):
        strategy.setup_environment()
