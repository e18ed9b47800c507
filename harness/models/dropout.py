"""Dropout, which some families carry in their configuration: GPT-2, OPT, Phi and others train with a tenth.

Where two passes are compared, of a policy with a reference or of a chosen with a rejected response, it is noise of the
size of what is learnt, so only supervised fine-tuning leaves it on.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn


def dropout_rates(model: nn.Module) -> dict[str, float]:
    """Name of a kind of dropout in the model (such as "attention_dropout") -> its highest rate; only those above 0."""
    rates: dict[str, float] = {}
    for module, attribute, name in _places(model):
        rate = getattr(module, attribute)
        if rate > 0:
            rates[name] = max(rates.get(name, 0.0), rate)
    return rates


def switch_off_dropout(model: nn.Module) -> None:
    """Set all rates of a model to 0. Its configuration stays as it is, and so does what is saved of it."""
    for module, attribute, _ in list(_places(model)):
        setattr(module, attribute, 0.0)


def _places(model: nn.Module) -> Iterator[tuple[nn.Module, str, str]]:
    """(module, attribute, name) of every rate: of dropout modules, and of modules that call the function with one."""
    for path, module in model.named_modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            yield module, "p", path.rpartition(".")[2]
        else:
            for attribute, value in vars(module).items():
                if isinstance(value, float) and ("dropout" in attribute or attribute.endswith("pdrop")):
                    yield module, attribute, attribute
