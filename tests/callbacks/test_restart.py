import pytest
import torch
from lightning.pytorch import Callback

from harness.callbacks import HFCheckpoint, Restart
from harness.models.checkpoints import load_tokenizer
from harness.models.weights import load_causal_lm, save_checkpoint
from tests.callbacks.loop import NUM_STEPS, run


class Look(Callback):
    """Notes what the first step of each epoch, or of a resumed part of one, starts from."""

    def __init__(self):
        self.epochs, self.weights, self.num_states = [], [], []
        self.after_step = {}
        """Weights by the number of steps done."""

    def on_train_batch_start(self, trainer, module, batch, index):
        if trainer.current_epoch not in self.epochs:
            self.epochs.append(trainer.current_epoch)
            self.weights.append(weights_of(module))
            self.num_states.append(len(trainer.optimizers[0].state))

    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        self.after_step[trainer.global_step] = weights_of(module)


class Stop(Exception):
    pass


class StopAfter(Callback):
    """Raises after so many optimizer steps."""

    def __init__(self, steps):
        self.steps = steps

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.steps:
            raise Stop


def weights_of(module):
    return {name: value.clone() for name, value in module.model.state_dict().items()}


def equal(first, second):
    return all(torch.equal(value, second[name]) for name, value in first.items())


def weights_that_sampled(folder, iteration):
    rows = (folder / f"rollouts/iter_{iteration:03d}.jsonl").read_text().splitlines()
    return {row.split('"weights": "')[1][:16] for row in rows}


@pytest.fixture(scope="module")
def base(data, tmp_path_factory):
    """A base model that is not the policy the runs begin with."""
    folder = tmp_path_factory.mktemp("base") / "base"
    model = load_causal_lm(data / "base")
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.5)
    save_checkpoint(model, load_tokenizer(data / "base"), folder)
    return folder


@pytest.mark.parametrize(("weights", "optimizer"), [("base", "fresh"), ("previous", "fresh"), ("base", "inherit")])
def test_every_iteration_starts_from_what_was_asked_and_its_rollouts_from_the_newest_policy(
    tmp_path, data, base, weights, optimizer
):
    look = Look()
    run(tmp_path, data, Restart(str(base) if weights == "base" else weights, optimizer), look, max_epochs=3)
    assert look.epochs == [0, 1, 2]
    fixed = load_causal_lm(base).state_dict()
    assert [equal(start, fixed) for start in look.weights] == [weights == "base"] * 3
    assert equal(look.weights[0], load_causal_lm(data / "base").state_dict()) == (weights == "previous")
    assert look.num_states[0] == 0
    assert [number == 0 for number in look.num_states[1:]] == [optimizer == "fresh"] * 2
    sampled_by = [weights_that_sampled(tmp_path, iteration) for iteration in (1, 2, 3)]
    assert len(set.union(*sampled_by)) == 3, "each iteration is drawn by another policy"


def test_a_run_resumed_inside_the_first_iteration_goes_on_where_it_was(tmp_path, data, base):
    """The base is taken once per iteration: not again in the middle of one."""
    every_step = {"dirpath": tmp_path / "checkpoints", "every_n_train_steps": 1, "filename": "{step}"}
    before, after = Look(), Look()
    with pytest.raises(Stop):
        run(tmp_path, data, Restart(str(base)), HFCheckpoint(**every_step), before, StopAfter(2))
    assert NUM_STEPS > 2, "the run is stopped within its first iteration"
    _, module = run(tmp_path, data, Restart(str(base)), HFCheckpoint(**every_step), after, resume=True)
    fixed = load_causal_lm(base).state_dict()
    assert equal(before.weights[0], fixed)
    assert after.epochs == [0, 1]
    assert not equal(after.weights[0], fixed)
    assert equal(after.weights[0], before.after_step[1]), "the checkpoint of step 2 was never written"
    assert equal(after.weights[1], fixed)

    unbroken = tmp_path / "unbroken"
    _, whole = run(unbroken, data, Restart(str(base)))
    assert equal(weights_of(module), weights_of(whole))
