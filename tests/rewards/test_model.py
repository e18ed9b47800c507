import math

import pytest
import torch

from harness.errors import InputError
from harness.models.checkpoints import load_tokenizer
from harness.models.weights import load_reward_model, save_checkpoint
from harness.rewards import OutcomeElseProcess, RewardModel, WeightedSum
from harness.store import SUMS
from harness.types import Problem, Response

PROBLEMS = [Problem(str(i), q, "1") for i, q in enumerate(["1+1", "a longer question", "2"])]
RESPONSES = [
    Response(("one\n", "two\n", "#### 2"), "stop"),
    Response(("a\n", "#### 3"), "length"),
    Response(("x\n",), "step"),
]


@pytest.fixture(scope="module")
def checkpoint(tiny_model_dir, tmp_path_factory):
    """A reward model with a head large enough to tell responses apart."""
    folder = tmp_path_factory.mktemp("reward") / "hf"
    model = load_reward_model(tiny_model_dir)
    with torch.no_grad():
        model.score.weight.copy_(torch.randn(model.score.weight.shape, generator=torch.Generator().manual_seed(1)))
    save_checkpoint(model, load_tokenizer(tiny_model_dir), folder)
    return str(folder)


def rewards(checkpoint, **options):
    return RewardModel(checkpoint, "plain", device="cpu", **options)(PROBLEMS, RESPONSES, [False] * 3)


@torch.no_grad()
def alone(checkpoint, problem, text, eos):
    """The classifier's logit of one unpadded sequence, by transformers' own pooling of the last token."""
    model, tokenizer = load_reward_model(checkpoint).eval(), load_tokenizer(checkpoint, distinct_pad=True)
    ids = tokenizer(f"{problem.question}\n")["input_ids"] + tokenizer(text, add_special_tokens=False)["input_ids"]
    return model(torch.tensor([ids + [tokenizer.eos_token_id] * eos])).logits.item()


@pytest.mark.parametrize("batch_tokens", [1, 10_000])
def test_batched_scores_equal_those_of_each_response_alone(checkpoint, batch_tokens):
    expected = [
        alone(checkpoint, p, r.text, r.finish_reason == "stop") for p, r in zip(PROBLEMS, RESPONSES, strict=True)
    ]
    found = [score.value for score in rewards(checkpoint, batch_tokens=batch_tokens)]
    assert found == pytest.approx(expected, abs=1e-5)
    assert len(set(found)) == 3


def test_a_model_on_an_accelerator_leaves_it_asleep_and_returns_at_the_next_call(checkpoint, monkeypatch):
    inner = RewardModel(checkpoint, "plain", device="cpu")
    reward, moves = WeightedSum(OutcomeElseProcess(inner)), []
    reward.sleep()  # nothing is loaded yet
    before = reward(PROBLEMS, RESPONSES, [False] * 3)
    monkeypatch.setattr(inner._loaded[0], "to", moves.append)
    reward.sleep()
    assert moves == []
    inner._home = "cuda:3"
    reward.sleep()
    assert moves == ["cpu"]
    assert reward(PROBLEMS, RESPONSES, [False] * 3) == before
    assert set(moves[1:]) == {"cuda:3"}


def test_weights_are_in_bfloat16_on_an_accelerator_and_whole_on_a_cpu_if_nothing_is_said(checkpoint):
    for device, dtype in {"cpu": "float32", "cuda": "bfloat16", "cuda:1": "bfloat16"}.items():
        reward = RewardModel(checkpoint, "plain", device=device)
        assert reward.dtype == reward.identity()["dtype"] == dtype, device
    assert RewardModel(checkpoint, "plain", device="cuda", dtype="float32").dtype == "float32"


def test_a_finished_response_can_be_scored_without_eos(checkpoint):
    expected = [alone(checkpoint, p, r.text, False) for p, r in zip(PROBLEMS, RESPONSES, strict=True)]
    found = [score.value for score in rewards(checkpoint, append_eos=False)]
    assert found == pytest.approx(expected, abs=1e-5)
    assert found[0] != pytest.approx(rewards(checkpoint)[0].value, abs=1e-5)


def test_step_scores_are_those_of_the_response_cut_after_each_step(checkpoint):
    [first, *_] = rewards(checkpoint, per_step=True, aggregation="min")
    expected = [
        alone(checkpoint, PROBLEMS[0], "one\n", False),
        alone(checkpoint, PROBLEMS[0], "one\ntwo\n", False),
        alone(checkpoint, PROBLEMS[0], "one\ntwo\n#### 2", True),
    ]
    assert first.steps == pytest.approx(expected, abs=1e-5)
    assert first.value == min(first.steps)


@pytest.mark.parametrize(
    ("aggregation", "combine"),
    [("last", lambda v: v[-1]), ("mean", lambda v: sum(v) / len(v)), ("product", math.prod)],
)
def test_step_scores_are_combined_as_asked(checkpoint, aggregation, combine):
    for score in rewards(checkpoint, per_step=True, aggregation=aggregation):
        assert score.value == pytest.approx(combine(score.steps))


def test_scale_activation_and_bounds_are_applied_in_this_order(checkpoint):
    raw = [score.value for score in rewards(checkpoint)]
    assert [s.value for s in rewards(checkpoint, scale=5, activation="tanh")] == pytest.approx(
        [math.tanh(v / 5) for v in raw]
    )
    assert [s.value for s in rewards(checkpoint, activation="sigmoid")] == pytest.approx(
        [1 / (1 + math.exp(-v)) for v in raw]
    )
    low, high = sorted(raw)[0] + 1e-3, sorted(raw)[-1] - 1e-3
    assert [s.value for s in rewards(checkpoint, bounds=(low, high))] == [min(max(v, low), high) for v in raw]


def test_a_missing_checkpoint_is_named_before_anything_is_sampled(tmp_path):
    with pytest.raises(InputError, match="no such directory"):
        RewardModel(str(tmp_path / "missing"), "plain")


def test_text_that_its_tokenizer_cannot_write_is_reported(checkpoint, caplog):
    problem = Problem("p", "1+1", "2")
    RewardModel(checkpoint, "plain", device="cpu")(
        [problem] * 2, [Response(("2",)), Response(("2 → 3",))], [True, False]
    )
    [said] = [record.getMessage() for record in caplog.records]
    assert "cannot write 1 of 3 questions and responses ('2 → 3' becomes '2 _ 3')" in said


def test_text_that_its_tokenizer_writes_with_other_blanks_is_not_reported(checkpoint, caplog):
    rewards(checkpoint)
    assert not caplog.records


def test_a_reward_model_for_another_language_is_refused(checkpoint):
    with pytest.raises(InputError, match=r"can write none of the questions \('Сколько\?' becomes '_______\?'\)"):
        RewardModel(checkpoint, "plain", device="cpu")([Problem("p", "Сколько?", "2")], [Response(("2",))], [True])


def test_a_response_longer_than_its_context_is_scored_by_the_steps_that_fit(checkpoint, caplog):
    reward = RewardModel(checkpoint, "plain", per_step=True, device="cpu")
    steps = ("1" * 100, "2" * 100, "3" * 100, "4")
    problems, cut = [Problem("p", "1+1", "2")] * 2, [False, False]
    long, short = reward(problems, [Response(steps, finish_reason="length"), Response(steps[:2])], cut)
    reward(problems, [Response(steps, finish_reason="length")] * 2, cut)
    assert long.steps == pytest.approx([*short.steps, short.steps[1], short.steps[1]], abs=1e-6)
    [said] = [record.getMessage() for record in caplog.records]
    assert "response to problem 'p' takes 306 of its tokens with the problem, more than its context of 256" in said


def test_a_response_without_a_step_that_fits_is_scored_where_the_context_ends(checkpoint):
    reward = RewardModel(checkpoint, "plain", device="cpu")
    problem = Problem("p", "1+1", "2")
    [long] = reward([problem], [Response(("1" * 300,), finish_reason="length")], [False])
    [whole] = reward([problem], [Response(("1" * 251,), finish_reason="length")], [False])
    assert long.value == pytest.approx(whole.value, abs=1e-6)


def test_a_question_longer_than_its_context_is_refused_with_the_problem_named(checkpoint):
    with pytest.raises(InputError, match=r"problem 'p' alone takes 30\d of its tokens, and its context is 256"):
        RewardModel(checkpoint, "plain", device="cpu")([Problem("p", "1" * 300, "2")], [Response(("1",))], [True])


def test_a_tokenizer_of_another_model_is_refused(tiny_model_dir, tmp_path):
    tokenizer = load_tokenizer(tiny_model_dir)
    save_checkpoint(load_reward_model(tiny_model_dir), tokenizer, tmp_path / "rm")
    tokenizer.add_tokens([f"<{number}>" for number in range(20)])
    tokenizer.save_pretrained(tmp_path / "rm")
    (tmp_path / "rm" / SUMS).unlink()  # as of a directory that another program wrote
    with pytest.raises(InputError, match=r"15 tokens .* beyond the 88 rows of the model's embedding"):
        RewardModel(str(tmp_path / "rm"), "plain", device="cpu")(
            [Problem("p", "1", "2")], [Response(("<19>",))], [True]
        )
