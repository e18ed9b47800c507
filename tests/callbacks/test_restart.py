import pytest
import torch
from lightning.pytorch import Callback

from harness.callbacks import Restart
from harness.models.weights import load_causal_lm
from tests.callbacks.loop import run


class Look(Callback):
    """Notes the weights and the number of optimizer states that each epoch's first step starts from."""

    def __init__(self):
        self.weights, self.num_states = [], []

    def on_train_batch_start(self, trainer, module, batch, index):
        if index == 0:
            self.weights.append({name: value.clone() for name, value in module.model.state_dict().items()})
            self.num_states.append(len(trainer.optimizers[0].state))


def equal(first, second):
    return all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize(("weights", "optimizer"), [("base", "fresh"), ("previous", "fresh"), ("base", "inherit")])
def test_an_iteration_starts_from_what_was_asked_and_its_rollouts_from_the_newest_policy(
    tmp_path, data, weights, optimizer
):
    look = Look()
    source = str(data / "base") if weights == "base" else weights
    run(tmp_path, data, Restart(source, optimizer), look)
    base = load_causal_lm(data / "base").state_dict()
    assert equal(look.weights[0], base)
    assert equal(look.weights[1], base) == (weights == "base")
    assert look.num_states[0] == 0
    assert (look.num_states[1] == 0) == (optimizer == "fresh")
    drawn_by = {
        line.split('"weights": "')[1][:16] for line in (tmp_path / "rollouts/iter_002.jsonl").read_text().splitlines()
    }
    first = {
        line.split('"weights": "')[1][:16] for line in (tmp_path / "rollouts/iter_001.jsonl").read_text().splitlines()
    }
    assert drawn_by.isdisjoint(first)
