"""B-STaR on two ranks that both sample with vLLM: the files of one rank, whoever dies, whatever the number of ranks."""

import json
import signal
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from harness.stages import start
from harness.store import read_rows
from harness.types import Rollout
from tests.e2e.small import small_bstar
from tests.paths import ROOT

OVERLAYS = {name: ("--config", str(ROOT / f"configs/hardware/{name}.yaml")) for name in ("ddp", "fsdp2")}
SAMPLED = [f"{name}.jsonl" for name in ("eval_000", "iter_001.probe", "iter_001", "iter_001.train")]
FILES = [*SAMPLED, *(f"{name}.jsonl" for name in ("eval_001", "iter_002.probe", "iter_002", "iter_002.train"))]

pytestmark = [pytest.mark.slow, pytest.mark.vllm]
pytest.importorskip("vllm")


def small_config(folder, data, world, engine=None, **options):
    config = small_bstar(folder, data)
    config["data"]["init_args"]["batch_size"] //= world
    config["trainer"]["devices"] = world
    rollout = config["trainer"]["callbacks"][1]["init_args"]
    rollout |= {**options, "search": {"class_path": "tests.e2e.kills.KilledSearch"}}
    rollout["reward"]["init_args"]["process"] = {"class_path": "tests.e2e.kills.KilledReward"}
    rollout |= {"select": {"class_path": "tests.e2e.kills.KilledSelector"}}
    rollout["engine"] |= {"kind": "vllm", "kv_cache_bytes": 2**26, **(engine or {})}
    config["trainer"]["callbacks"].append({"class_path": "tests.e2e.kills.KilledTraining"})
    path = folder / f"config-{world}.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def fit(folder, data, overlay=(), world=1, killed=-1, at="", slow=(), **options):
    """Run `harness fit` as torchrun would start it; exit statuses and outputs of the ranks.

    Args:
        killed, at: the rank that is killed, and the moment (`tests.e2e.kills`).
        slow: the moments at which each rank is slow.
    """
    config = small_config(folder, data, world, **options)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "GROUP_RANK": 0, "TORCHELASTIC_RUN_ID": "test"}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    arguments = ("fit", "--config", str(config), *overlay, "--ckpt_path", "last")
    if overlay:
        arguments += ("--trainer.devices", str(world), "--trainer.accelerator", "cpu")
    ranks = []
    for rank in range(world):
        environment = {"KILL_AT": at if rank == killed else "", "WANDB_MODE": "disabled"}
        environment |= {"SLOW_AT": slow[rank] if slow else ""}
        if world > 1:
            environment |= {key: str(value) for key, value in (shared | {"RANK": rank, "LOCAL_RANK": rank}).items()}
        log = folder / f"rank{rank}.log"
        log.unlink(missing_ok=True)
        ranks.append((start((str(Path(__file__).with_name("rank.py")),), arguments, log, environment), log))
    try:
        for process, _ in ranks:
            process.join(500)
    finally:
        for process, _ in ranks:
            process.kill()
    return [process.exitcode for process, _ in ranks], [log.read_text() for _, log in ranks]


def whole(folder, data, *args, **options):
    statuses, outputs = fit(folder, data, *args, **options)
    assert set(statuses) == {0}, "\n".join(outputs)
    return folder / "run"


@pytest.fixture(scope="module")
def one_rank(tmp_path_factory, data):
    return whole(tmp_path_factory.mktemp("one"), data)


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory, data):
    return whole(tmp_path_factory.mktemp("two"), data, OVERLAYS["ddp"], 2)


def assert_same_files(run, other, names=FILES):
    for name in names:
        assert (run / "rollouts" / name).read_bytes() == (other / "rollouts" / name).read_bytes(), name
    assert not list((run / "rollouts").glob("*.part*"))


def assert_weights_close(run, other, base):
    """The sums over the rows of a step are made in another order by two ranks than by one, and Adam shows it."""
    ours, theirs, before = (
        torch.cat([tensor.flatten() for _, tensor in sorted(load_file(folder / "model.safetensors").items())])
        for folder in (run / "hf", other / "hf", base)
    )
    assert (ours - theirs).norm() < 1e-3 * (ours - before).norm()


def tokens(run, name):
    rows = read_rows(run / "rollouts" / name, Rollout)
    return [[scored.response.token_ids for scored in row.responses] for row in rows]


def assert_nearly_all_same(run, one, names):
    for name in names:
        pairs = list(zip(tokens(run, name), tokens(one, name), strict=True))
        assert sum(ours == theirs for ours, theirs in pairs) >= len(pairs) - 1, name


def assert_as_one_rank(run, one, data):
    assert_same_files(run, one, SAMPLED)
    assert_weights_close(run, one, data / "base")
    assert_nearly_all_same(run, one, ("iter_002.probe.jsonl", "iter_002.jsonl"))


def test_two_ranks_write_what_one_writes_and_log_the_share_of_each(data, two_ranks, one_rank):
    assert_as_one_rank(two_ranks, one_rank, data)
    for name in ("iter_001.json", "iter_002.json"):
        alone, both = (json.loads((run / "rollouts" / name).read_text()) for run in (one_rank, two_ranks))
        assert [share["problems"] for share in alone["ranks"]] == [2 * 6 + 12]
        assert sum(share["problems"] for share in both["ranks"]) == 2 * 6 + 12
        assert len(both["ranks"]) == 2  # how much each has done depends on how busy the machine is
        assert sum(share["tokens"] for share in both["ranks"]) == sum(both["tokens"].values())
    header = (two_ranks / "metrics.csv").read_text().splitlines()[0]
    assert {f"rollout/rank{rank}/tokens" for rank in (0, 1)} <= set(header.split(","))


def test_shards_stream_into_an_engine_on_every_rank(tmp_path, data, one_rank):
    assert_as_one_rank(whole(tmp_path, data, OVERLAYS["fsdp2"], 2), one_rank, data)


def test_the_first_rank_alone_may_sample_for_all_and_writes_the_same(tmp_path, data, two_ranks):
    run = whole(tmp_path, data, OVERLAYS["ddp"], 2, sampling_ranks="first")
    assert_same_files(run, two_ranks)
    assert [len(json.loads((run / "rollouts/iter_002.json").read_text())["ranks"])] == [1]
    assert (run / "hf/model.safetensors").read_bytes() == (two_ranks / "hf/model.safetensors").read_bytes()


def without_logps(run, name):
    """The rows of a file of rollouts but for log-probabilities, and those."""
    rows, logps = [], []
    for row in read_rows(run / "rollouts" / name, Rollout):
        bare = []
        for scored in row.responses:
            logps += scored.response.token_logps
            bare.append(replace(scored, response=replace(scored.response, logp=0.0, token_logps=())))
        rows.append(replace(row, responses=tuple(bare)))
    return rows, torch.tensor(logps)


def test_ranks_that_hold_one_engine_together_write_the_rows_of_one_rank(tmp_path, data, one_rank):
    """Halves of a sum are added in another order, so log-probabilities differ in the last digits."""
    run = whole(tmp_path, data, OVERLAYS["fsdp2"], 2, engine={"tensor_parallel_size": 2})
    for name in ("eval_000.jsonl", "iter_001.probe.jsonl", "iter_001.jsonl"):
        (rows, logps), (expected, theirs) = without_logps(run, name), without_logps(one_rank, name)
        assert rows == expected, name
        torch.testing.assert_close(logps, theirs, rtol=0, atol=1e-5)
    assert_same_files(run, one_rank, ["iter_001.train.jsonl"])
    assert_weights_close(run, one_rank, data / "base")
    # The engine has taken weights in shards by now, and shown that it samples from them.
    assert_nearly_all_same(run, one_rank, ("eval_001.jsonl", "iter_002.probe.jsonl", "iter_002.jsonl"))
    [share] = json.loads((run / "rollouts/iter_002.json").read_text())["ranks"]
    assert share["problems"] == 2 * 6 + 12
    assert not list(Path("/dev/shm").glob("*cpushm"))


def test_ranks_may_sample_five_times_longer_than_the_process_group_waits(tmp_path, data, one_rank):
    seconds = 12
    overlay = (*OVERLAYS["fsdp2"], "--trainer.strategy.timeout", f"0:00:{seconds}")
    # The second rank while both probe, when the first waits for it, and the first at the end of its own samples.
    run = whole(tmp_path, data, overlay, 2, slow=("reward 3", "reward 1"))
    assert_as_one_rank(run, one_rank, data)
    shares = json.loads((run / "rollouts/iter_001.json").read_text())["ranks"]
    assert min(share["seconds"] for share in shares) >= 5 * seconds


def assert_ended_by_the_loss_of(lost, statuses, outputs):
    assert statuses[lost] == -signal.SIGKILL, outputs[lost]
    other = 1 - lost
    assert statuses[other] == 1, outputs[other]
    [sentence] = [line for line in outputs[other].splitlines() if line.startswith("error: ")]
    assert f"rank {lost} has ended without a word" in sentence or (lost == 0 and "the first rank" in sentence)
    assert "Traceback" not in outputs[other]


def test_whoever_is_killed_the_other_ends_with_one_sentence_and_the_run_goes_on(tmp_path, data, two_ranks):
    moments = {
        "sampling": (1, r"open iter_001\.jsonl\.part1 1"),
        "training, the first step": (1, "step 1"),
        "selecting": (0, "select 1"),
    }
    for phase, (rank, at) in moments.items():
        statuses, outputs = fit(tmp_path, data, OVERLAYS["ddp"], 2, rank, at)
        assert statuses[rank] == -signal.SIGKILL, f"not killed while {phase}: {outputs[rank]}"
        assert_ended_by_the_loss_of(rank, statuses, outputs)
    run = whole(tmp_path, data, OVERLAYS["ddp"], 2)
    assert_same_files(run, two_ranks)
    assert (run / "hf/model.safetensors").read_bytes() == (two_ranks / "hf/model.safetensors").read_bytes()


def test_a_run_of_two_ranks_goes_on_with_one(tmp_path, data, one_rank):
    statuses, outputs = fit(tmp_path, data, OVERLAYS["ddp"], 2, 0, r"open iter_001\.jsonl$ 3")  # to merge the parts
    assert_ended_by_the_loss_of(0, statuses, outputs)
    parts = list((tmp_path / "run/rollouts").glob("iter_001.jsonl.part*"))
    assert sum(len(part.read_text().splitlines()) for part in parts) == 12
    run = whole(tmp_path, data)
    assert_same_files(run, one_rank)
    assert (run / "hf/model.safetensors").read_bytes() == (one_rank / "hf/model.safetensors").read_bytes()
