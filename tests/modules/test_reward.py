"""Pairwise reward models with a real Trainer."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from harness.datamodules import PreferenceDataModule
from harness.errors import InputError
from harness.models.checkpoints import load_tokenizer
from harness.models.reward_head import load_likelihood_reward
from harness.models.weights import load_causal_lm, load_reward_model, reward_head, rewards_at, save_checkpoint
from harness.modules import RewardModule
from harness.modules.base import LoRAConfig
from harness.modules.optimizer import OptimizerConfig
from harness.modules.pairs import margin_metrics
from harness.rewards import RewardModel
from harness.types import Problem, Response
from tests.modules.test_sft import Gradients


def test_a_reward_model_starts_at_ln_2_and_learns_to_rank(tmp_path, trainer, tiny_model_dir, pair_files):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    module = RewardModule(str(tiny_model_dir), optimizer=OptimizerConfig(lr=1e-2))
    data = PreferenceDataModule([pair_files[0]], [pair_files[1]], batch_size=8, max_length=64)
    fit = trainer(max_epochs=15)
    fit.validate(module, data, verbose=False)
    assert fit.callback_metrics["val/loss"].item() == pytest.approx(math.log(2), abs=0.02)
    fit.fit(module, data)
    assert fit.callback_metrics["val/accuracy"] == 1.0
    assert fit.callback_metrics["val/loss"] < 0.2

    module.export(tmp_path / "rm")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "rm").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "rm")
    right = 0
    for line in open(pair_files[1]):  # noqa: SIM115
        row = json.loads(line)
        texts = [row["prompt"] + row[side] + tokenizer.eos_token for side in ("chosen", "rejected")]
        batch = tokenizer(texts, padding=True, return_tensors="pt")
        with torch.no_grad():
            good, bad = model(**{key: batch[key] for key in ("input_ids", "attention_mask")}).logits.flatten()
        right += bool(good > bad)
    assert right == 8


def test_dropout_before_the_head_acts_in_training_alone_and_keeps_the_mean(tiny_model_dir):
    ids, end = torch.tensor([[2, 3, 4, 5]]), torch.tensor([3])
    plain, dropped = (RewardModule(str(tiny_model_dir), head_dropout=share) for share in (0.0, 0.5))
    for module in (plain, dropped):
        module.configure_model()
    wanted = rewards_at(plain.model.eval(), ids, end)
    assert torch.equal(rewards_at(dropped.model.eval(), ids, end), wanted)
    dropped.model.train()
    torch.manual_seed(0)
    drawn = torch.cat([rewards_at(dropped.model, ids, end) for _ in range(400)]).detach()
    assert drawn.std() > 0
    assert drawn.mean().item() == pytest.approx(wanted.item(), abs=4 * drawn.std().item() / 20)


def test_a_new_head_starts_as_asked_and_a_trained_one_as_it_is(tiny_model_dir, tmp_path):
    head = reward_head(RewardModule(str(tiny_model_dir), head_start=(0.5, 0.1)).build_model()).weight
    assert head.mean().item() == pytest.approx(0.5, abs=0.06)
    assert head.std().item() == pytest.approx(0.1, rel=0.4)
    trained = load_reward_model(tiny_model_dir)
    save_checkpoint(trained, load_tokenizer(tiny_model_dir, distinct_pad=True), tmp_path / "rm")
    again = RewardModule(str(tmp_path / "rm"), head_start=(0.5, 0.1)).build_model()
    assert torch.equal(reward_head(again).weight, reward_head(trained).weight)


@pytest.mark.parametrize(
    "options",
    [
        {"head_dropout": 1.0},
        {"head_dropout": 0.1, "likelihood": "sum"},
        {"head_start": (0.0, 1.0), "likelihood": "sum"},
        {"head_start": (0.0, -1.0)},
    ],
)
def test_dropout_that_cannot_be_is_refused(tiny_model_dir, options):
    with pytest.raises(InputError, match="head_"):
        RewardModule(str(tiny_model_dir), **options)


def test_accumulated_batches_of_weighted_pairs_give_the_gradients_of_one_batch(tmp_path, trainer, tiny_model_dir):
    rows = [{"prompt": f"{i}=", "chosen": "1" * (i + 1), "rejected": "2", "weight": 1 + i / 4} for i in range(8)]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def gradients(batch_size, accumulate):
        found = Gradients()
        module = RewardModule(str(tiny_model_dir), optimizer=OptimizerConfig(lr=0.0), margin=0.5, centring=0.01)
        data = PreferenceDataModule([str(path)], batch_size=batch_size, max_length=64)
        trainer(accumulate_grad_batches=accumulate, callbacks=[found]).fit(module, data)
        return found.steps

    (one,), (many,) = gradients(8, 1), gradients(1, 8)
    for name in one:
        torch.testing.assert_close(many[name], one[name], atol=1e-6, rtol=0)


def test_a_reward_model_with_lora_exports_its_trained_head(tmp_path, trainer, tiny_model_dir, pair_files):
    from harness.models.weights import reward_head

    module = RewardModule(str(tiny_model_dir), lora=LoRAConfig(rank=2), optimizer=OptimizerConfig(lr=1e-2))
    trainer().fit(module, PreferenceDataModule([pair_files[0]], batch_size=8, max_length=64))
    module.export(tmp_path / "rm")
    plain = load_reward_model(tmp_path / "rm").eval()
    assert not torch.equal(reward_head(plain).weight, reward_head(load_reward_model(tiny_model_dir)).weight)
    ids = torch.randint(2, 80, (1, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(plain(input_ids=ids).logits, module.model.eval()(input_ids=ids).logits)


def write_pairs(path, groups):
    """All pairs of a right and a wrong response of each problem, as the pair miner weighs them."""
    with open(path, "w") as file:
        for prompt, right, wrong in groups:
            for a, b in itertools.product(right, wrong):
                weight = 1 / (len(right) * len(wrong))
                file.write(json.dumps({"prompt": prompt, "chosen": a, "rejected": b, "weight": weight}) + "\n")
    return str(path)


def plain_reward(model, tokenizer, text):
    ids = tokenizer(text)["input_ids"] + [tokenizer.eos_token_id]
    return model(input_ids=torch.tensor([ids])).logits[0, 0]


def test_all_pairs_of_a_problem_count_as_one_by_their_number(tmp_path, trainer, tiny_model_dir):
    """One problem with 1 x 4 pairs and one with 2 x 2: the mean over problems of -1/(PN) sum log sigmoid(r_p - r_n)."""
    groups = [("1+1=", ["2"], ["3", "44", "5", "6?"]), ("2+2=", ["4", "04"], ["5", "1"])]
    path = write_pairs(tmp_path / "groups.jsonl", groups)
    found = Gradients()
    module = RewardModule(str(tiny_model_dir), optimizer=OptimizerConfig(lr=0.0))
    fit = trainer(accumulate_grad_batches=4, callbacks=[found])
    fit.fit(module, PreferenceDataModule([path], batch_size=2, max_length=64))

    model, tokenizer = load_reward_model(tiny_model_dir), load_tokenizer(tiny_model_dir)
    losses = []
    for prompt, right, wrong in groups:
        good, bad = ([plain_reward(model, tokenizer, prompt + text) for text in side] for side in (right, wrong))
        terms = [-F.logsigmoid(a - b) for a in good for b in bad]
        losses.append(torch.stack(terms).sum() / (len(right) * len(wrong)))
    expected = torch.stack(losses).mean()
    expected.backward()
    assert fit.callback_metrics["train/loss"].item() == pytest.approx(expected.item(), abs=1e-6)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found.steps[0][f"model.{name}"], parameter.grad, atol=1e-6, rtol=1e-5)


def logp(model, tokenizer, prompt, response, mean):
    start = len(tokenizer(prompt)["input_ids"])
    ids = torch.tensor([tokenizer(prompt + response)["input_ids"] + [tokenizer.eos_token_id]])
    values = model(input_ids=ids).logits.log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])[start - 1 :]
    return (values.mean() if mean else values.sum()).item()


@pytest.mark.parametrize("likelihood", ["sum", "mean"])
@pytest.mark.parametrize("share_prefix", [False, True])
def test_with_likelihood_responses_first_rank_by_it(trainer, tiny_model_dir, pair_files, likelihood, share_prefix):
    options = {"likelihood": likelihood, "alpha": 0.3, "share_prefix": share_prefix}
    module = RewardModule(str(tiny_model_dir), **options)
    fit = trainer()
    fit.validate(module, PreferenceDataModule([], [pair_files[1]], batch_size=8, max_length=64), verbose=False)
    model, tokenizer = load_causal_lm(tiny_model_dir).eval(), load_tokenizer(tiny_model_dir)
    rows = [json.loads(line) for line in open(pair_files[1])]  # noqa: SIM115
    with torch.no_grad():
        margins = [
            0.3 * (logp(model, tokenizer, r["prompt"], r["chosen"], likelihood == "mean")
            - logp(model, tokenizer, r["prompt"], r["rejected"], likelihood == "mean"))
            for r in rows
        ]  # fmt: skip
    assert fit.callback_metrics["val/margin"].item() == pytest.approx(sum(margins) / len(margins), abs=1e-5)
    assert fit.callback_metrics["val/accuracy"].item() == sum(m > 0 for m in margins) / len(margins)


@pytest.mark.parametrize("lora", [None, LoRAConfig(rank=2)])
def test_a_reward_with_likelihood_learns_and_is_scored_alike_after_loading(
    tmp_path, trainer, tiny_model_dir, pair_files, lora
):
    from transformers import AutoModelForCausalLM

    module = RewardModule(str(tiny_model_dir), likelihood="sum", lora=lora, optimizer=OptimizerConfig(lr=1e-2))
    fit = trainer(max_epochs=4)
    # Problems, so that the template writes the prompts of both.
    questions = [Path(file) for file in pair_files]
    for file in questions:
        file.write_text(file.read_text().replace('"prompt"', '"question"'))
    data = PreferenceDataModule([pair_files[0]], [pair_files[1]], batch_size=8, max_length=64)
    fit.validate(module, data, verbose=False)
    before = fit.callback_metrics["val/loss"].item()
    fit.fit(module, data)
    assert fit.callback_metrics["val/loss"] < before
    module.export(tmp_path / "rm")
    head = load_likelihood_reward(tmp_path / "rm").reward_head
    assert head.alpha.item() != 0.5
    assert head.score.weight.abs().max() > 0
    _, loading = AutoModelForCausalLM.from_pretrained(tmp_path / "rm", output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]

    rows = [json.loads(line) for line in open(pair_files[1])]  # noqa: SIM115
    score = RewardModel(str(tmp_path / "rm"), "plain", device="cpu", batch_tokens=40)

    def values(side):
        problems = [Problem(str(i), row["question"], "") for i, row in enumerate(rows)]
        return [s.value for s in score(problems, [Response((r[side],), "stop") for r in rows], [False] * len(rows))]

    margins = [a - b for a, b in zip(values("chosen"), values("rejected"), strict=True)]
    assert fit.callback_metrics["val/margin"].item() == pytest.approx(sum(margins) / len(margins), abs=1e-4)


def test_steps_of_a_reward_with_likelihood_are_judged_with_all_before_them(tmp_path, tiny_model_dir):
    model = load_likelihood_reward(tiny_model_dir, likelihood="mean", alpha=0.7)
    with torch.no_grad():
        model.reward_head.score.weight.normal_(generator=torch.Generator().manual_seed(0))
    save_checkpoint(model, load_tokenizer(tiny_model_dir), tmp_path / "rm")
    problem, steps = Problem("a", "1+1=", ""), ("one\n", "two three\n", "4")
    [score] = RewardModel(str(tmp_path / "rm"), "plain", per_step=True, device="cpu")(
        [problem], [Response(steps)], [False]
    )
    whole = RewardModel(str(tmp_path / "rm"), "plain", device="cpu")
    cut = [whole([problem], [Response(steps[: n + 1])], [False])[0].value for n in range(3)]
    assert score.steps == pytest.approx(cut, abs=1e-5)
    assert len(set(cut)) == 3


def test_a_head_of_the_other_likelihood_is_refused(tmp_path, tiny_model_dir):
    model = load_likelihood_reward(tiny_model_dir, likelihood="mean")
    save_checkpoint(model, load_tokenizer(tiny_model_dir), tmp_path / "rm")
    with pytest.raises(InputError, match="trained with `likelihood: mean`, not sum"):
        load_likelihood_reward(tmp_path / "rm", likelihood="sum")


def test_shared_prefixes_give_the_rewards_of_plain_sequences(trainer, tmp_path, tiny_model_dir):
    groups = [("a question long enough to be shared: " + "1+" * n, [f"{n}."], [f"{n + 1}" + "!" * n]) for n in range(8)]
    path = write_pairs(tmp_path / "groups.jsonl", groups)

    def run(share_prefix):
        found = Gradients()
        module = RewardModule(str(tiny_model_dir), optimizer=OptimizerConfig(lr=1e-2), share_prefix=share_prefix)
        trainer(max_epochs=2, callbacks=[found]).fit(module, PreferenceDataModule([path], batch_size=4, max_length=96))
        return found.steps

    for plain, shared in zip(run(False), run(True), strict=True):
        for name in plain:
            torch.testing.assert_close(shared[name], plain[name], atol=1e-5, rtol=1e-4)


def test_calibration_and_length_metrics_by_hand():
    """Two bins: three pairs of margin 0 (confidence 1/2, accuracy 1/2) and two of margin +-2 (confidence .8808)."""
    margins = torch.tensor([0.0, 0.0, 0.0, 2.0, -2.0], dtype=torch.double)
    lengths = torch.tensor([1.0, -1.0, 0.0, 3.0, 1.0], dtype=torch.double)
    metrics = margin_metrics(margins, torch.ones_like(margins), lengths)
    assert metrics["calibration_error"] == pytest.approx(2 / 5 * (1 / (1 + math.exp(-2)) - 0.5))
    assert metrics["accuracy/small_margin"] == 0.5
    # sum m*d = 6 - 2, sum m^2 = 8, sum d^2 = 12; labels: sum d = 4, n = 5
    assert metrics["length_correlation"] == pytest.approx(4 / math.sqrt(8 * 12))
    assert metrics["length_correlation_of_labels"] == pytest.approx(4 / math.sqrt(5 * 12))


def test_accuracy_is_told_apart_by_margin():
    margins = torch.tensor([0.1, -0.2, 1.0, 1.1, 5.0, 6.0], dtype=torch.double)
    metrics = margin_metrics(margins, torch.tensor([3.0, 1, 1, 1, 1, 1], dtype=torch.double), torch.zeros(6).double())
    assert [metrics[f"accuracy/{name}_margin"] for name in ("small", "medium", "large")] == [0.75, 1, 1]
    assert metrics["length_correlation"] == 0


def test_a_reward_that_follows_length_more_than_the_labels_do_is_called_out(trainer, tmp_path, tiny_model_dir):
    rows = [("1=", "2" * (1 + i % 3), "3" * (3 - i % 3)) for i in range(9)]
    path = write_pairs(tmp_path / "pairs.jsonl", [(a, [b], [c]) for a, b, c in rows])
    # At first the summed log-probability ranks: shorter is better.
    module = RewardModule(str(tiny_model_dir), likelihood="sum")
    with pytest.warns(UserWarning, match="follow the length of responses"):
        trainer().validate(module, PreferenceDataModule([], [path], batch_size=9, max_length=64), verbose=False)
