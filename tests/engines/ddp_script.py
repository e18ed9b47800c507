"""Run by test_isolation on two ranks: a trainer's process group lives through an engine on rank 0.

Usage: python ddp_script.py CHECKPOINT, with RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT set.
"""

# ruff: noqa: E402 - the environment must be set before torch is imported

import sys

from harness.environment import prepare_environment

prepare_environment()

import torch
import torch.distributed as dist

from harness.engines import EngineConfig, generate, open_engine
from harness.models.weights import named_weights
from harness.types import GenerationRequest, SamplingConfig


def sum_over_ranks(group=None) -> float:
    value = torch.tensor(float(dist.get_rank() + 1))
    dist.all_reduce(value, group=group)
    return float(value)


def main(checkpoint: str) -> None:
    from transformers import AutoModelForCausalLM

    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.manual_seed(rank)
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    wrapped = torch.nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.SGD(wrapped.parameters(), lr=1e-3)
    engine = None
    for step in range(2):
        ids = torch.randint(0, 90, (2, 10))
        wrapped(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if rank == 0:
            engine = engine or open_engine(checkpoint, EngineConfig(kind="vllm", kv_cache_bytes=64 * 2**20))
            engine.sync(named_weights(model), f"step {step}")
            requests = [GenerationRequest(str(i), (1, 2, 3), SamplingConfig(seed=i, max_tokens=4)) for i in range(4)]
            assert len(list(generate(engine, requests))) == 4
            assert dist.get_world_size() == 2
        assert sum_over_ranks() == 3.0
        assert sum_over_ranks(dist.new_group([0, 1])) == 3.0
    if engine is not None:
        engine.close()
    assert sum_over_ranks() == 3.0
    assert sum_over_ranks(dist.new_group([0, 1])) == 3.0
    total = sum(float(p.detach().abs().sum()) for p in model.parameters())
    gathered: list[float] = [0.0, 0.0]
    dist.all_gather_object(gathered, total)
    assert gathered[0] == gathered[1]
    dist.destroy_process_group()
    print(f"rank {rank} done")


if __name__ == "__main__":
    main(sys.argv[1])
