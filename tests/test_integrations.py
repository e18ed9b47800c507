"""The grader as a reward of TRL and verl."""

from __future__ import annotations

import importlib.util

import pytest

from harness.errors import InputError
from harness.integrations import compute_score, correct_answer


def test_completions_are_rewarded_by_their_final_answer():
    rewards = correct_answer(
        prompts=["?"] * 4,
        completions=[
            r"so $\boxed{\frac12}$",
            [{"role": "assistant", "content": "The answer is 3."}],
            [{"role": "assistant", "content": [{"type": "text", "text": "The answer is 4."}]}],
            "The answer is 5.",
        ],
        completion_ids=[[1]] * 4,
        answer=["0.5", "4", "4", None],
    )
    assert rewards == [1.0, 0.0, 1.0, None]


def test_a_worked_solution_may_hold_the_gold_answer():
    assert correct_answer(completions=["It is 7."], solution=[r"3+4=7, so \boxed{7}"]) == [1.0]


def test_missing_gold_answers_are_refused():
    with pytest.raises(InputError, match="No column of gold answers"):
        correct_answer(prompts=["?"], completions=["5"], level=["1"])
    with pytest.raises(InputError, match="1 gold answers for 2 completions"):
        correct_answer(completions=["5", "6"], answer=["5"])


def test_a_score_as_verl_asks_for_it():
    assert compute_score("gsm8k", "#### 1,000", "1000", {"index": 0}) == 1.0
    assert compute_score("gsm8k", "#### 24", "42") == 0.0
    assert compute_score("math", r"\boxed{2}", ["1", "2"], None, reward_router_address="") == 1.0


@pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="TRL is not installed")
def test_a_trainer_of_trl_runs_three_steps_with_our_reward(tmp_path):
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    from tests.integrations_model import tiny_model_and_tokenizer

    model, tokenizer = tiny_model_and_tokenizer()
    rows = Dataset.from_dict({"prompt": ["1+1=", "2+2="] * 6, "answer": ["2", "4"] * 6})
    config = GRPOConfig(
        output_dir=str(tmp_path),
        max_steps=3,
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=4,
        logging_steps=1,
        report_to=[],
        use_cpu=True,
        save_strategy="no",
    )
    trainer = GRPOTrainer(
        model=model, reward_funcs=correct_answer, args=config, train_dataset=rows, processing_class=tokenizer
    )
    trainer.train()
    logged = [row for row in trainer.state.log_history if "rewards/correct_answer/mean" in row]
    assert len(logged) == 3
