"""The training process is the same after an engine as before it."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch

from harness.engines.isolation import (
    PrivateProcessGroup,
    RandomStream,
    keep_environment,
    keep_random_state,
    keep_torch_threads,
)
from tests.engines.conftest import need_vllm


def test_random_state_is_restored_even_after_an_error():
    states = random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state()
    with contextlib.suppress(ZeroDivisionError), keep_random_state():
        random.seed(1)
        numpy.random.seed(1)
        torch.manual_seed(1 // 0 if torch.rand(1) < 2 else 0)
    assert random.getstate() == states[0]
    assert numpy.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])


def test_a_stream_of_random_numbers_goes_on_from_call_to_call_and_no_two_are_the_same():
    streams = RandomStream(), RandomStream()
    state, drawn = torch.get_rng_state(), []
    for stream in (*streams, *streams):
        with keep_random_state(), stream.entered():
            drawn.append(torch.rand(()).item())
    assert len(set(drawn)) == 4
    assert torch.equal(torch.get_rng_state(), state)


def test_environment_is_restored_but_for_vllms_own_names(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PROBE_CHANGED", "before")
    monkeypatch.setenv("PROBE_REMOVED", "before")
    monkeypatch.delenv("VLLM_PROBE", raising=False)
    with keep_environment():
        os.environ.update(PROBE_CHANGED="after", PROBE_NEW="1", VLLM_PROBE="1")
        del os.environ["PROBE_REMOVED"]
    assert os.environ["PROBE_CHANGED"] == os.environ["PROBE_REMOVED"] == "before"
    assert "PROBE_NEW" not in os.environ
    assert os.environ.pop("VLLM_PROBE") == "1"


def test_a_replaced_thread_setter_is_put_back(monkeypatch: pytest.MonkeyPatch):
    setter, threads = torch.set_num_threads, torch.get_num_threads()
    with keep_torch_threads():
        torch.set_num_threads(threads + 1)
        torch.set_num_threads = lambda _: None
    assert torch.set_num_threads is setter
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_is_handled_once_the_trainers_group_is_in_place_again(number: signal.Signals):
    from torch.distributed import distributed_c10d as c10d

    seen: list[object] = []
    before = signal.signal(number, lambda *_: seen.append(c10d._world.default_pg))
    group = PrivateProcessGroup()
    try:
        with group.entered():
            c10d._update_default_pg(torch.distributed.ProcessGroup(0, 1))  # as vLLM makes its own
            signal.raise_signal(number)
            assert seen == []
        assert seen == [None]
        signal.raise_signal(number)
        assert seen == [None, None]
    finally:
        signal.signal(number, before)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.vllm
@pytest.mark.slow
def test_the_process_group_of_two_ranks_lives_through_an_engine_on_the_first(checkpoint: Path):
    need_vllm()
    script = Path(__file__).with_name("ddp_script.py")
    common = os.environ | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    common |= {"PYTHONPATH": str(script.parents[2])}
    ranks = [
        subprocess.Popen(
            [sys.executable, str(script), str(checkpoint)],
            env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        outputs = [rank.communicate(timeout=300)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(outputs)
    assert [f"rank {i} done" in output for i, output in enumerate(outputs)] == [True, True]
