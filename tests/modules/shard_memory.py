"""Run by the tests as a script, once for each rank: the memory a rank holds while a sharded model goes in and out.

Argument: a folder that has a checkpoint `model`, and a small one `tiny`. Prints bytes, as JSON.
"""

from __future__ import annotations

import collections
import contextlib
import json
import sys
import threading
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from harness.engines.weights import WeightLayout
from harness.models.checkpoints import load_tokenizer
from harness.models.shards import fill, fill_shards
from harness.models.weights import (
    load_causal_lm,
    load_reward_model,
    model_version,
    named_weights,
    save_checkpoint,
    transformer_blocks,
)


def held():
    """Bytes of this process that no file holds; pages of mapped files are the system's to take back."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon")]
    return 1024 * int(line.split()[1])


@contextlib.contextmanager
def peak(found, name):
    """Note the most that is held meanwhile, which is looked at each millisecond."""
    seen, over = [held()], threading.Event()

    def look():
        while not over.wait(0.001):
            seen.append(held())

    thread = threading.Thread(target=look)
    thread.start()
    yield
    over.set()
    thread.join()
    found[name] = max(seen)


def phases(folder, out):
    """Load, restart, sync and export the model of a folder."""
    found = {"before": held()}
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    with peak(found, "load"):
        model = load_causal_lm(folder, unfilled=True)
        for block in transformer_blocks(model):
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)
        fill_shards(model, model.name_or_path)
    with peak(found, "restart"):
        fill(model, model.name_or_path)
    layout = WeightLayout.of_checkpoint(folder)
    with peak(found, "sync"):
        model_version(model)
        collections.deque(layout.stored(named_weights(model)), maxlen=0)  # what an engine iterates over
    with peak(found, "export"):
        save_checkpoint(model, load_tokenizer(folder), out)
    parts = [parameter.to_local() for parameter in model.parameters()]
    found["share"] = sum(part.numel() * part.element_size() for part in parts)
    found["tensor"] = max(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    root = Path(sys.argv[1])
    phases(root / "tiny", root / "tiny_out")  # loads all code
    load_reward_model(root / "tiny")
    print(json.dumps(phases(root / "model", root / "model_out")))
    dist.destroy_process_group()
