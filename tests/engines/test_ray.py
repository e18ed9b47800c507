"""Replicas on two Ray nodes of this machine; all processes are this test's own."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.commands.evaluate import eval_tasks
from harness.commands.trees import trees
from harness.engines import EngineConfig, generate, open_engine, verify_sync
from harness.errors import InputError
from harness.models.weights import model_version, named_weights
from harness.protocols import Engine
from harness.search import MCTS
from harness.store import write_rows
from harness.types import GenerationRequest, Problem, SamplingConfig
from tests.engines.conftest import build_model, build_tokenizer

# Ray reads them when it is imported, and wants the same on all nodes.
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(16))
ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow

ALONE = EngineConfig(kind="transformers", dtype="float32", max_num_seqs=8)
TWO = EngineConfig(kind="ray", replica="transformers", replicas=2, dtype="float32", max_num_seqs=8)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    size = {"num_cpus": 2, "object_store_memory": 100 << 20}
    nodes = Cluster(initialize_head=True, head_node_args={**size, "include_dashboard": False})
    nodes.add_node(**size)
    ray.init(nodes.address, logging_level="ERROR", log_to_driver=False)
    yield nodes
    ray.shutdown()
    nodes.shutdown()


@pytest.fixture(scope="module")
def pool(cluster: Any, checkpoint: Path) -> Iterator[Engine]:
    engine = open_engine(checkpoint, TWO)
    yield engine
    engine.close()


def requests(count: int = 40) -> list[GenerationRequest]:
    tokenizer = build_tokenizer()
    sampling = SamplingConfig(n=2, max_tokens=24, temperature=1.0)
    prompts = [tuple(tokenizer(f"{i} + {i * i} =")["input_ids"]) for i in range(count)]
    return [GenerationRequest(str(i), ids, replace(sampling, seed=i * 100)) for i, ids in enumerate(prompts)]


def texts(engine: Engine, wanted: list[GenerationRequest]) -> dict[str, list[tuple[int, ...]]]:
    return {r.key: [c.token_ids for c in r.completions] for r in generate(engine, wanted)}


def test_two_replicas_draw_what_one_engine_draws_before_and_after_a_sync_and_a_loss(
    pool: Engine, hf_engine: Engine, checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert pool.name.startswith(hf_engine.name)
    assert pool.version == hf_engine.version
    assert texts(pool, requests()) == texts(hf_engine, requests())
    model = build_model(tied=True, seed=1)
    pool.sync(named_weights(model), model_version(model))
    verify_sync(pool, model, [[5, 6, 7]], model_version(model))
    alone = open_engine(checkpoint, ALONE)
    alone.sync(named_weights(model), model_version(model))
    expected = texts(alone, requests())
    assert texts(pool, requests()) == expected
    found = {}
    for result in generate(pool, requests()):
        found[result.key] = [c.token_ids for c in result.completions]
        if len(found) == 5:
            ray.kill(pool._places[0].actor)
    assert found == expected
    assert "replica 0 was lost" in caplog.text
    alone.close()


def rounded(path: Path) -> list[dict[str, Any]]:
    """The rows of a file; log-probabilities differ in their last digits with the size of a batch."""
    with open(path) as lines:
        rows = [json.loads(line, parse_float=lambda text: round(float(text), 3)) for line in lines]
    return [{name: value for name, value in row.items() if name != "crc32"} for row in rows]


@pytest.mark.usefixtures("pool")
def test_commands_write_the_same_files_from_two_replicas_as_from_one_engine(
    cluster: Any, checkpoint: Path, tmp_path: Path
) -> None:
    problems = [Problem(f"p{i}", f"{i} + {i * i} =", str(i + i * i)) for i in range(6)]
    write_rows(tmp_path / "sums.jsonl", problems)
    for name, engine in (("one", ALONE), ("two", TWO)):
        trees(
            str(checkpoint), [str(tmp_path / "sums.jsonl")], tmp_path / name / "trees.jsonl", engine=engine,
            search=MCTS(rollouts=3, candidates=2, max_depth=3), sampling=SamplingConfig(max_tokens=12),
        )  # fmt: skip
        eval_tasks(
            str(tmp_path / "sums.jsonl"), str(checkpoint), engine, protocol="plain", n=4, max_tokens=16,
            output=tmp_path / name / "eval",
        )  # fmt: skip
    one, two = tmp_path / "one", tmp_path / "two"
    assert rounded(one / "trees.jsonl") == rounded(two / "trees.jsonl")
    assert (one / "eval/samples.jsonl.gz").read_bytes() == (two / "eval/samples.jsonl.gz").read_bytes()


def test_a_cluster_that_is_too_small_and_options_of_another_kind_are_one_sentence(
    cluster: Any, checkpoint: Path
) -> None:
    with pytest.raises(InputError, match=r"engine.replicas is 5, and the Ray cluster has 4 CPU cores.*room for 4"):
        open_engine(checkpoint, EngineConfig(kind="ray", replicas=5))
    with pytest.raises(InputError, match="replicas and replica are for the kind ray; this is vllm"):
        EngineConfig(kind="vllm", replicas=2)


def test_what_a_replica_finds_wrong_is_said_once(cluster: Any, checkpoint: Path) -> None:
    with pytest.raises(InputError, match="max_model_len is 9999, the model's limit is 320"):
        open_engine(checkpoint, replace(TWO, replicas=1, max_model_len=9999))


def test_the_loss_of_a_machine_changes_nothing(cluster: Any, pool: Engine, checkpoint: Path) -> None:
    alone = open_engine(checkpoint, ALONE)
    model = build_model(tied=True, seed=2)
    for engine in (pool, alone):
        engine.sync(named_weights(model), model_version(model))
    expected = texts(alone, requests())
    second = next(node for node in cluster.list_all_nodes() if not node.head)
    found = {}
    for result in generate(pool, requests()):
        found[result.key] = [c.token_ids for c in result.completions]
        if len(found) == 5:
            cluster.remove_node(second, allow_graceful=False)
    assert found == expected
    assert {place.losses for place in pool._places} <= {0, 1}
    alone.close()
