"""The order of Lightning's hooks, resuming, and what is on disk, on a real Trainer with the transformers engine."""

import csv
import json
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Callback

from harness.callbacks import HeldOutAccuracy, RolloutCallback
from harness.engines import EngineConfig
from harness.engines.group import RankGroup
from harness.errors import InputError
from harness.loggers import MetricsFile
from harness.rewards import ArithmeticSteps, WeightedSum
from harness.selection import BalancedSampling, FixedSampling, TopK
from harness.store import sealed, write_json, write_rows
from harness.types import SamplingConfig
from tests.callbacks.loop import NUM_STEPS, run
from tests.engines.conftest import build_tokenizer
from tests.rows import same_samples


class Crash(Exception):
    pass


class CrashAt(Callback):
    """Raises in the asked hook of the asked epoch."""

    def __init__(self, hook, epoch):
        self.epoch = epoch
        setattr(self, hook, self.crash)

    def crash(self, trainer, *_):
        if trainer.current_epoch == self.epoch:
            raise Crash


def same_files(first, second, other_batches=()):
    """Files named in `other_batches` were drawn in other batches, in which transformers rounds otherwise."""
    names = [f"iter_{i:03d}{kind}" for i in (1, 2) for kind in (".jsonl", ".probe.jsonl", ".train.jsonl")]
    names += [f"eval_{i:03d}.json" for i in range(3)]
    return all(
        same_samples(first / "rollouts" / n, second / "rollouts" / n)
        if n in other_batches
        else (first / "rollouts" / n).read_bytes() == (second / "rollouts" / n).read_bytes()
        for n in names
    )


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("unbroken")
    trainer, module = run(folder, data, logger=MetricsFile(folder))
    return folder, trainer, module


def test_the_metrics_say_where_the_time_of_each_iteration_went(unbroken):
    with open(unbroken[0] / "metrics.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["time/train"]]
    assert [float(row["iteration"]) for row in rows] == [1, 2]
    for name in ("sync", "prove", "sample", "score", "train", "save"):
        assert all(float(row[f"time/{name}"]) > 0 for row in rows)
    assert [bool(row["time/open"]) for row in rows] == [True, False]


def test_every_epoch_trains_on_its_own_iterations_rows(unbroken):
    folder, trainer, _ = unbroken
    assert trainer.global_step == 2 * NUM_STEPS
    manifests = [json.loads((folder / f"rollouts/iter_{i:03d}.json").read_text()) for i in (1, 2)]
    assert [m["iteration"] for m in manifests] == [1, 2]
    assert manifests[0]["weights"] != manifests[1]["weights"], "iteration 2 must be drawn by the trained policy"
    assert trainer.datamodule.train_files == [str(folder / "rollouts/iter_002.train.jsonl")]
    assert sorted(p.name for p in (folder / "rollouts").glob("eval_*.json")) == [f"eval_{i:03d}.json" for i in range(3)]


def test_the_checkpoint_holds_the_decision_and_the_manifest(unbroken):
    folder, *_ = unbroken
    states = torch.load(folder / "checkpoints/last.ckpt", weights_only=False)["callbacks"]
    [manifest] = [state["manifest"] for state in states.values() if "manifest" in state]
    assert manifest == json.loads((folder / "rollouts/iter_002.json").read_text())


@pytest.mark.parametrize(
    ("hook", "epoch", "steps_kept"),
    [
        ("on_train_epoch_start", 1, NUM_STEPS),  # iteration 2 is collected, its training has not begun
        ("on_train_batch_end", 1, NUM_STEPS),  # in the middle of the second epoch
        ("on_train_end", 2, 2 * NUM_STEPS),  # all trained, the last evaluation missing
    ],
)
def test_a_crash_and_a_resume_end_as_the_unbroken_run(tmp_path, data, unbroken, hook, epoch, steps_kept):
    with pytest.raises(Crash):
        run(tmp_path, data, CrashAt(hook, epoch))
    assert torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=False)["global_step"] == steps_kept
    _, module = run(tmp_path, data, resume=True)
    assert same_files(tmp_path, unbroken[0])
    expected = unbroken[2].state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in module.state_dict().items())


def test_an_iteration_that_a_limit_of_steps_cut_short_is_trained_to_its_end_and_measured_then(tmp_path, data, unbroken):
    run(tmp_path, data, max_steps=NUM_STEPS + 1)
    assert not (tmp_path / "rollouts/eval_002.json").exists()
    _, module = run(tmp_path, data, resume=True)
    assert same_files(tmp_path, unbroken[0])
    expected = unbroken[2].state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in module.state_dict().items())


def test_a_crash_while_sampling_keeps_the_epoch_just_trained_and_what_is_finished(
    tmp_path, data, unbroken, monkeypatch
):
    from harness.rollouts import iteration as home

    real = home.collect

    def collect_until_the_crash(problems, *args, iteration, **options):
        for number, rollout in enumerate(real(problems, *args, iteration=iteration, **options)):
            if iteration == 2 and number == 10:
                raise Crash
            yield rollout

    monkeypatch.setattr(home, "collect", collect_until_the_crash)
    with pytest.raises(Crash):
        run(tmp_path, data)
    assert torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=False)["global_step"] == NUM_STEPS
    rows = tmp_path / "rollouts/iter_002.jsonl.part0"
    assert len(rows.read_text().splitlines()) == 10
    rows.write_text(rows.read_text() + '{"problem": {"id": "torn')
    monkeypatch.undo()
    _, module = run(tmp_path, data, resume=True)
    assert same_files(tmp_path, unbroken[0], other_batches=["iter_002.jsonl"])
    expected = unbroken[2].state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in module.state_dict().items())


def test_a_finished_run_samples_and_trains_nothing_when_started_again(tmp_path, data):
    run(tmp_path, data, max_epochs=1)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "rollouts").iterdir()}
    trainer, _ = run(tmp_path, data, max_epochs=1, resume=True)
    assert trainer.global_step == NUM_STEPS
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "rollouts").iterdir()} == before


def test_more_iterations_can_be_added_to_a_finished_run(tmp_path, data, unbroken):
    run(tmp_path, data, max_epochs=1)
    run(tmp_path, data, max_epochs=2, resume=True)
    assert same_files(tmp_path, unbroken[0])


def test_the_balanced_scheduler_probes_and_its_choice_is_sampled(tmp_path, data):
    scheduler = BalancedSampling(
        SamplingConfig(n=2, max_tokens=8),
        (0.5, 1.5),
        (-1.0, 0.5),
        rows_per_problem=None,
        n_star=1,
        keep_cut=True,
        keep_unanswered=True,
    )
    run(tmp_path, data, max_epochs=1, scheduler=scheduler)
    manifest = json.loads((tmp_path / "rollouts/iter_001.json").read_text())
    assert len((tmp_path / "rollouts/iter_001.probe.jsonl").read_text().splitlines()) == 2 * 4
    chosen = manifest["decision"]["chosen"]["temperature"]
    rows = [json.loads(line) for line in (tmp_path / "rollouts/iter_001.jsonl").read_text().splitlines()]
    assert {row["sampling"]["temperature"] for row in rows} == {chosen}


def test_rollouts_of_other_settings_are_refused_instead_of_trained_on(tmp_path, data):
    with pytest.raises(Crash):
        run(tmp_path, data, CrashAt("on_train_start", 0))
    (tmp_path / "rollouts/iter_001.json").unlink()
    other = FixedSampling(SamplingConfig(n=2, max_tokens=8, temperature=0.3), -1.0)
    with pytest.raises(InputError, match="another sampling"):
        run(tmp_path, data, scheduler=other)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"reward": WeightedSum(ArithmeticSteps())}, "reward.class"),
        ({"grader": "rstar"}, "grader"),
        ({"select": TopK(keep_cut=True, keep_unanswered=True, max_per_problem=1)}, "select.max_per_problem"),
    ],
)
def test_a_finished_iteration_of_other_settings_is_refused_instead_of_trained_on(tmp_path, data, changed, named):
    with pytest.raises(Crash):
        run(tmp_path, data, CrashAt("on_train_start", 0))
    with pytest.raises(InputError, match=rf"(iter_001|eval_000).json: made with another {named}.*new run directory"):
        run(tmp_path, data, **changed)


def test_another_reward_is_given_to_the_stored_rollouts_and_chooses_among_them(tmp_path, data, caplog):
    reward = WeightedSum(ArithmeticSteps(), 2.0)
    for name in ("changed", "fresh"):
        options = {"reward": reward} if name == "fresh" else {}
        with pytest.raises(Crash):
            run(tmp_path / name, data, CrashAt("on_train_start", 0), **options)
    (tmp_path / "changed/rollouts/iter_001.json").unlink()
    with pytest.raises(Crash):
        run(tmp_path / "changed", data, CrashAt("on_train_start", 0), reward=reward)
    assert "iter_001.jsonl: 12 rows were graded anew, not sampled" in caplog.text
    for name in ("iter_001.jsonl", "iter_001.train.jsonl"):
        assert (tmp_path / "changed/rollouts" / name).read_bytes() == (tmp_path / "fresh/rollouts" / name).read_bytes()


def test_policies_of_one_run_are_measured_alike(tmp_path, data):
    run(tmp_path, data, max_epochs=1)
    other = HeldOutAccuracy([str(data / "test.jsonl")], max_tokens=9)
    with pytest.raises(InputError, match=r"eval_000.json: made with another max_tokens \(8, now 9\)"):
        run(tmp_path, data, max_epochs=2, resume=True, evaluation=other)


def test_a_changed_file_of_a_finished_iteration_is_refused(tmp_path, data):
    with pytest.raises(Crash):
        run(tmp_path, data, CrashAt("on_train_start", 0))
    (tmp_path / "rollouts/iter_001.train.jsonl").write_text("{}\n")
    with pytest.raises(InputError, match="changed or removed"):
        run(tmp_path, data)


@pytest.mark.parametrize("which", ["probe", "test"])
def test_held_out_problems_among_the_training_problems_are_refused(tmp_path, data, which):
    folder = tmp_path / "data"
    folder.mkdir()
    for path in data.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / f"{which}.jsonl").unlink()
    row = json.loads((data / "train.jsonl").read_text().splitlines()[0])
    write_rows(folder / f"{which}.jsonl", [{**row, "id": "copy", "question": row["question"].replace(" ", "  ")}])
    with pytest.raises(InputError, match="also training problems"):
        run(tmp_path / "run", folder)


@pytest.mark.parametrize(("which", "kind"), [("probe", "probe"), ("test", "evaluation")])
def test_held_out_problems_among_the_replayed_rows_are_refused(tmp_path, data, which, kind):
    row = json.loads((data / f"{which}.jsonl").read_text().splitlines()[1])
    rows = [{"prompt": "1 + 1 ?\n", "response": "2"}, {"prompt": f"{row['question']} ?\n", "response": row["answer"]}]
    write_rows(tmp_path / "replay.jsonl", rows)
    with pytest.raises(InputError, match=rf"1 {kind} problems are also replayed in training \(such as '{row['id']}'"):
        run(tmp_path / "run", data, replay_files=[str(tmp_path / "replay.jsonl")], replay_share=1.0)


@pytest.mark.parametrize("how", ["replayed", "pooled"])
def test_worked_solutions_that_the_template_cannot_read_are_refused(tmp_path, data, how):
    rows = [json.loads(line) for line in (data / "train.jsonl").read_text().splitlines()]
    write_rows(tmp_path / "rows.jsonl", [{**row, "solution": f"It is {row['answer']}."} for row in rows])
    file = [str(tmp_path / "rows.jsonl")]
    options = {"problems": file, "select": TopK(with_gold=True)} if how == "pooled" else {"replay_files": file}
    with pytest.raises(InputError, match=r"rows.jsonl:1: none of the 12 solutions .* under the template 'arithmetic'"):
        run(tmp_path / "run", data, **options)


def test_nothing_kept_is_one_clear_sentence(tmp_path, data):
    match = r"no response was kept of 12 responses with rewards from 0 to 0.*lower the reward threshold \(5\)"
    with pytest.raises(InputError, match=match):
        run(tmp_path, data, scheduler=FixedSampling(SamplingConfig(n=1, max_tokens=4), 5.0))


def test_prompts_that_the_datamodule_tokenises_otherwise_are_refused_before_anything_is_sampled(tmp_path, data):
    with pytest.raises(
        InputError, match=r"the prompt of problem .* tokens to the policy .* the datamodule's tokenizer"
    ):
        run(tmp_path, data, tokenizer=build_tokenizer())
    assert not (tmp_path / "rollouts").exists()


@pytest.mark.parametrize("engine", ["vllm", "transformers", "auto"])
def test_an_engine_on_the_devices_of_the_training_samples_nothing_beside_it(engine):
    with pytest.raises(InputError, match=f"staleness is 1 with engine.kind {engine}, .* set staleness: 0, or take"):
        RolloutCallback(["train.jsonl"], FixedSampling(SamplingConfig()), engine=EngineConfig(engine), staleness=1)
    with pytest.raises(InputError, match="staleness is 2; it must be 0 or 1"):
        RolloutCallback(["train.jsonl"], FixedSampling(SamplingConfig()), staleness=2)


def test_a_run_goes_on_with_the_staleness_it_began_with(tmp_path, data):
    with pytest.raises(Crash):
        run(tmp_path, data, CrashAt("on_train_start", 0))
    apart = EngineConfig(kind="ray", replica="transformers")
    with pytest.raises(InputError, match=r"iter_001.json: of a run with staleness 0, now 1; keep staleness: 0, or"):
        run(tmp_path, data, engine=apart, staleness=1)
    path = tmp_path / "rollouts/iter_001.json"
    manifest = json.loads(path.read_text())
    manifest["asked"]["staleness"] = 1
    write_json(path, sealed(manifest))
    with pytest.raises(InputError, match=r"iter_001.json: of a run with staleness 1, now 0; keep staleness: 1, or"):
        run(tmp_path, data)
    del manifest["asked"]
    write_json(path, sealed(manifest))
    with pytest.raises(Crash):
        run(tmp_path, data, CrashAt("on_train_start", 0))


@pytest.mark.parametrize(
    ("nodes", "engine", "said"),
    [
        (1, {"tensor_parallel_size": 3}, "4 ranks of a machine are not a multiple of 3; set it to a divisor of 4"),
        (4, {"tensor_parallel_size": 2}, "1 ranks of a machine"),
        (1, {"tensor_parallel_size": 2, "kind": "transformers"}, "transformers samples on one device"),
        (1, {"tensor_parallel_size": 2, "distributed_executor_backend": "mp"}, "leave out .*backend .mp."),
    ],
)
def test_ranks_that_cannot_hold_engines_together_are_one_sentence(nodes, engine, said):
    callback = RolloutCallback([], FixedSampling(SamplingConfig(), 0.0), engine=EngineConfig(**engine))
    callback._ranks = SimpleNamespace(size=4, rank=3)
    with pytest.raises(InputError, match=said):
        callback._group_of(SimpleNamespace(num_nodes=nodes))


def test_consecutive_ranks_of_a_machine_hold_an_engine_together():
    callback = RolloutCallback([], FixedSampling(SamplingConfig(), 0.0), engine=EngineConfig(tensor_parallel_size=2))
    callback._ranks = SimpleNamespace(size=4, rank=3)
    assert callback._group_of(SimpleNamespace(num_nodes=2)) == RankGroup(number=1, rank=1, size=2)
    callback._ranks = SimpleNamespace(size=1, rank=0)  # vLLM starts workers of its own
    assert callback._group_of(SimpleNamespace(num_nodes=1)) is None
