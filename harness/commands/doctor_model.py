"""`harness doctor --model DIR`: the whole loop, tried on the model at hand before anything is trained with it."""

from __future__ import annotations

import importlib.util
import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness.errors import InputError, first_line

TOLERANCE = 1e-3
"""Largest difference in nats of log-probabilities that should be equal, in float32."""
LENGTHS = (11, 17)
"""Tokens of the rows that are tried, prompt and response."""
PROMPT = 6
FAULTS = (InputError, RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, NotImplementedError)
"""What an architecture raises where it cannot do a thing; each is said."""


def examine_model(checkpoint: str, layers: int | None = None) -> Iterator[tuple[str, bool, str]]:
    """(name, whether it holds, what was found) for each thing that training with vLLM asks of a model.

    Args:
        checkpoint: directory or hub id.
        layers: try a random model of so many layers, made from the checkpoint's configuration; None is the model.

    Raises:
        InputError: there is no such checkpoint, or `layers` is less than 1.
    """
    from harness.models.checkpoints import check_generates, resolve_checkpoint

    if layers is not None and layers < 1:
        raise InputError(f"layers is {layers}; it must be at least 1.")
    path = resolve_checkpoint(checkpoint, weights=layers is None)
    check_generates(path)
    with tempfile.TemporaryDirectory(prefix="harness-doctor-") as name:
        folder = Path(name)
        if layers is not None:
            path = _small_copy(path, folder / "small", layers)
        yield from _Examination(path, folder).findings()


def _small_copy(path: Path, target: Path, layers: int) -> Path:
    """A checkpoint of the same configuration with few layers and random weights, and with the same tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from harness.models.checkpoints import load_tokenizer

    config = AutoConfig.from_pretrained(path)
    inner = config.get_text_config()
    layers = min(layers, inner.num_hidden_layers)
    for name in ("layer_types", "layers_block_type", "mlp_layer_types"):
        kinds = inner.attribute_map.get(name, name)
        if getattr(inner, kinds, None) and not isinstance(getattr(type(inner), kinds, None), property):
            setattr(inner, kinds, getattr(inner, kinds)[:layers])
    inner.num_hidden_layers = layers
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(target)
    load_tokenizer(path).save_pretrained(target)
    return target


class _Examination:
    """Of one checkpoint; a finding that does not hold does not keep the next from being made."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.path, self.folder = path, folder
        self.model: Any = None

    def findings(self) -> Iterator[tuple[str, bool, str]]:
        yield self._tried("load", self.load)
        if self.model is None:
            return
        for name, check in (
            ("loss", self.loss),
            ("packing", self.packing),
            ("shared prefixes", self.shared_prefixes),
            ("reward head", self.reward_head),
            ("export", self.export),
        ):
            yield self._tried(name, check)
        if importlib.util.find_spec("vllm") is None:
            yield "vLLM", True, "not installed, so that transformers would sample"
            return
        yield self._tried("sync to vLLM", self.sync)

    def _tried(self, name: str, check: Callable[[], str]) -> tuple[str, bool, str]:
        try:
            return name, True, check()
        except (*FAULTS, ImportError, OSError) as error:
            return name, False, first_line(error)

    def load(self) -> str:
        from harness.models.checkpoints import load_tokenizer
        from harness.models.dropout import switch_off_dropout
        from harness.models.weights import load_causal_lm

        tokenizer = load_tokenizer(self.path)
        model: Any = load_causal_lm(self.path)
        switch_off_dropout(model)
        self.words = min(len(tokenizer), model.get_input_embeddings().num_embeddings)
        self.tokenizer, self.model = tokenizer, model
        size = sum(parameter.numel() for parameter in model.parameters())
        kind = model.config.get_text_config()
        return f"{type(model).__name__}, {kind.num_hidden_layers} layers, {size / 1e6:,.1f} M parameters"

    def rows(self) -> list[Any]:
        import torch

        generator = torch.Generator().manual_seed(0)
        return [torch.randint(0, self.words, (length,), generator=generator) for length in LENGTHS]

    def _logps(self, ids: Any, labels: Any, **inputs: Any) -> Any:
        from harness.models.losses import supervised_positions
        from harness.models.token_stats import token_stats

        positions, targets, _ = supervised_positions(labels)
        return token_stats(self.model, ids, positions, targets, **inputs).logps

    def loss(self) -> str:
        """Equal to transformers' own, with a finite gradient."""
        [row, *_] = self.rows()
        loss = -self._logps(row[None], row[None]).mean()
        own = self.model(input_ids=row[None], labels=row[None]).loss.item()
        loss.backward()
        if not abs(loss.item() - own) <= TOLERANCE:  # also where one of them is no number
            raise ValueError(f"the loss is {loss.item():.4g}, transformers' own is {own:.4g}")
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        norm = math.sqrt(sum(float(gradient.double().square().sum()) for gradient in gradients))
        self.model.zero_grad()
        if not math.isfinite(norm):
            raise ValueError(f"the loss is {loss.item():.4g}, but its gradient is not finite")
        return f"{loss.item():.4g} nats per token as transformers has it, gradient {norm:.3g}"

    def packing(self) -> str:
        import torch

        from harness.models.losses import IGNORED
        from harness.models.shared_prefix import packs_exactly

        if not packs_exactly(self.model):
            return "refused: packed rows would see one another (set packing: false)"
        rows = self.rows()
        packed = torch.cat(rows)[None]
        labels = packed.clone()
        labels[0, LENGTHS[0]] = IGNORED
        positions = torch.cat([torch.arange(len(row)) for row in rows])[None]
        with torch.no_grad():
            together = self._logps(packed, labels, position_ids=positions)
            alone = torch.cat([self._logps(row[None], row[None]) for row in rows])
        return _same(together, alone, "packed rows", "each alone")

    def _pairs(self) -> dict[str, Any]:
        import numpy as np

        from harness.datamodules.pairs import Pair, collate_pairs

        first, second = (row.numpy().astype(np.int32) for row in self.rows())
        sides = [np.concatenate([first[:PROMPT], response]) for response in (first[PROMPT:], second)]
        pair = Pair(sides[0], sides[1], PROMPT, 1.0)
        return collate_pairs([pair], pair, self.tokenizer.pad_token_id)

    def shared_prefixes(self) -> str:
        import torch

        from harness.models.shared_prefix import (
            attention_inputs,
            longest_shareable,
            share_prefixes,
            supervised_tokens,
        )
        from harness.models.token_stats import token_stats

        limit = longest_shareable(self.model)
        if limit < max(LENGTHS) + PROMPT:
            return "left plain: the architecture does not allow them"
        plain = self._pairs()
        found = []
        for batch in (plain, share_prefixes(plain)):
            sources, targets, sides = supervised_tokens(batch)
            with torch.no_grad():
                inputs = attention_inputs(batch, self.model)
                logps = token_stats(self.model, batch["input_ids"], sources, targets, **inputs).logps
            found.append(torch.zeros(len(batch["lengths"])).index_add(0, sides, logps))
        return _same(found[1], found[0], "pairs with shared prefixes", "plain ones")

    def reward_head(self) -> str:
        import torch

        from harness.models.shared_prefix import last_tokens
        from harness.models.weights import load_reward_model, rewards_at

        model: Any = load_reward_model(self.path)
        batch = self._pairs()
        rewards = rewards_at(model, batch["input_ids"], last_tokens(batch))
        rewards.sum().backward()
        if not torch.isfinite(rewards).all():
            raise ValueError(f"the rewards are {rewards.tolist()}")
        own = " of harness" if type(model).__module__.startswith("harness") else ""
        return f"{type(model).__name__}{own}, finite rewards"

    def export(self) -> str:
        from harness.models.weights import load_causal_lm, model_version, save_checkpoint

        save_checkpoint(self.model, self.tokenizer, self.folder / "export")
        written, reopened = model_version(self.model), model_version(load_causal_lm(self.folder / "export"))
        if written != reopened:
            raise ValueError(f"the export's weights have the fingerprint {reopened}, the model's {written}")
        return f"reopens with the fingerprint {written}"

    def sync(self) -> str:
        """VLLM takes the weights after a step, and samples from them."""
        import torch

        from harness.engines import EngineConfig, open_engine, verify_sync
        from harness.models.weights import model_version, named_weights

        config = EngineConfig(kind="vllm", dtype="float32", kv_cache_bytes=256 * 2**20, max_num_seqs=8)
        engine = open_engine(self.path, config)
        try:
            [row, *_] = rows = self.rows()
            loss = -self._logps(row[None], row[None]).mean()
            loss.backward()
            largest = max(float(p.grad.abs().max()) for p in self.model.parameters() if p.grad is not None)
            torch.optim.SGD(self.model.parameters(), lr=1e-3 / max(largest, 1e-12)).step()
            version = model_version(self.model)
            engine.sync(named_weights(self.model), version)
            proof = verify_sync(engine, self.model, [row.tolist() for row in rows], version)
        finally:
            engine.close()
        return f"{engine.name} samples from the weights after a step, {proof.max_error:.1g} nats off"


def _same(found: Any, expected: Any, first: str, second: str) -> str:
    error = float((found - expected).abs().max())
    if not error <= TOLERANCE:
        raise ValueError(f"{first} differ from {second} by {error:.2g} nats")
    return f"{first} equal {second} ({error:.1g} nats)"
