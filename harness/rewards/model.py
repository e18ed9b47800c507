"""Trained reward models as rewards: one score per response, or one per step."""

from __future__ import annotations

import logging
import math
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from harness.errors import InputError
from harness.prompts.chats import encode_continuations, end_of_turn
from harness.prompts.find import find_template
from harness.types import Problem, Response, Score

log = logging.getLogger(__name__)

Aggregation = Literal["last", "min", "mean", "product"]

_AGGREGATE: dict[str, Callable[[Sequence[float]], float]] = {
    "last": lambda values: values[-1],
    "min": min,
    "mean": lambda values: sum(values) / len(values),
    "product": math.prod,
}
ACTIVATIONS: dict[str, Callable[[float], float]] = {
    "none": lambda value: value,
    "sigmoid": lambda value: 0.5 * (1 + math.tanh(value / 2)),
    "tanh": math.tanh,
}


@dataclass(frozen=True)
class _Encoded:
    ids: list[int]
    start: int
    """Where the response begins."""
    ends: list[int]
    """Positions to score."""


class RewardModel:
    """Scores by a checkpoint directory as `RewardModule` writes it: a sequence classifier, or a language model with a
    `reward_head.safetensors`, whose log-probability of the response counts too.

    Sequences are sorted by length and batched by a budget of tokens. A response is scored at its EOS, which is added if
    the response is finished and does not show it; a step is scored at its last token.

    Responses are read as text, so the policy may have another tokenizer; the first call says if this one loses some of
    the text, which the scores then know nothing of. A response longer than the model's context is scored by what fits,
    its further steps as the last one that does, with one warning.

    Args:
        checkpoint: directory of a one-label sequence classifier, or of a language model with a reward head.
        template: name of the prompt template the model was trained with; with another one its scores mean nothing.
        per_step: score the end of every step (PRM, PPM) instead of the end of the response.
        aggregation: how step scores become the response's score.
        scale: raw scores are divided by it before the activation (5 in B-STaR's and rStar-Math's released code).
        activation: applied to each raw score.
        append_eos: add the EOS of a finished response and score it there; false where the model was trained on
            responses without one, as a PPM is on steps.
        bounds: scores are clipped to these, after the activation.
        batch_tokens: padded tokens per batch.
        dtype: number format of the weights; "auto" is bfloat16 on accelerators and float32 on a CPU.
        device: default is CUDA where there is one.

    Raises:
        InputError: no such checkpoint; when called, a tokenizer that can write none of the questions, a question longer
            than the model's context, or a token that the model does not have.
    """

    answer_weight: ClassVar[float | None] = 0.0

    def __init__(
        self,
        checkpoint: str,
        template: str | dict[str, Any],
        per_step: bool = False,
        aggregation: Aggregation = "last",
        scale: float = 1.0,
        activation: Literal["none", "sigmoid", "tanh"] = "none",
        append_eos: bool = True,
        bounds: tuple[float, float] | None = None,
        batch_tokens: int = 16384,
        dtype: str = "auto",
        device: str | None = None,
    ) -> None:
        if scale <= 0:
            raise InputError(f"reward model: scale is {scale}; it must be above 0.")
        import torch

        from harness.models.weights import check_checkpoint

        self.checkpoint = check_checkpoint(checkpoint)
        self.template = find_template(template)
        self.per_step, self.aggregation = per_step, aggregation
        self.scale, self.activation, self.bounds = scale, activation, bounds
        self.append_eos = append_eos
        self.batch_tokens = batch_tokens
        self._home = device or ("cuda" if torch.cuda.is_available() else "cpu")
        """Where the model computes."""
        by_device = "float32" if self._home == "cpu" else "bfloat16"
        self.dtype = by_device if dtype == "auto" else dtype
        self._loaded: tuple[Any, Any] | None = None
        self._cut = False
        self._weights = ""

    def identity(self) -> dict[str, Any]:
        """What the scores depend on; the weights by their content, wherever they lie."""
        from harness.models.checkpoints import load_tokenizer, resolve_checkpoint, tokenizer_fingerprint
        from harness.models.weights import stored_fingerprint

        if not self._weights:  # they are loaded once as well
            path = resolve_checkpoint(self.checkpoint)
            self._weights = f"{stored_fingerprint(path)}-{tokenizer_fingerprint(load_tokenizer(path))}"
        settings = ("per_step", "aggregation", "scale", "activation", "append_eos", "bounds", "dtype")
        return {
            "weights": self._weights,
            "template": {name: getattr(self.template, name) for name in self.template.prompting},
            **{name: getattr(self, name) for name in settings},
        }

    def load(self) -> tuple[Any, Any]:
        """The model and its tokenizer, loaded at the first use."""
        if self._loaded is None:
            from harness.models.checkpoints import check_vocabulary, load_tokenizer
            from harness.models.reward_head import has_reward_head, load_likelihood_reward
            from harness.models.weights import load_reward_model

            tokenizer = load_tokenizer(self.checkpoint, distinct_pad=True)
            check_vocabulary(self.checkpoint, tokenizer)
            load = load_likelihood_reward if has_reward_head(self.checkpoint) else load_reward_model
            self._loaded = load(self.checkpoint, dtype=self.dtype).eval(), tokenizer
        self._loaded[0].to(self._home)
        return self._loaded

    def sleep(self) -> None:
        """Put the weights into the host's memory; the next call takes them back to the device."""
        if self._loaded is not None and self._home != "cpu":
            import torch

            self._loaded[0].to("cpu")
            torch.cuda.empty_cache()

    def __call__(
        self, problems: Sequence[Problem], responses: Sequence[Response], correct: Sequence[bool]
    ) -> list[Score]:
        first = self._loaded is None
        model, tokenizer = self.load()
        if first:
            self._check_text(problems, responses, tokenizer)
        encoded = [self._encode(p, r, tokenizer) for p, r in zip(problems, responses, strict=True)]
        encoded = [self._fit(problem, row, model) for problem, row in zip(problems, encoded, strict=True)]
        values: list[list[float]] = [[] for _ in encoded]
        order = sorted(range(len(encoded)), key=lambda i: len(encoded[i].ids))
        start = 0
        while start < len(order):
            stop = start + 1
            while stop < len(order) and (stop + 1 - start) * len(encoded[order[stop]].ids) <= self.batch_tokens:
                stop += 1
            batch = order[start:stop]
            for i, found in zip(batch, self._score([encoded[i] for i in batch]), strict=True):
                values[i] = [self._transform(value) for value in found]
            start = stop
        if self.per_step:
            return [Score(_AGGREGATE[self.aggregation](steps), tuple(steps)) for steps in values]
        return [Score(steps[-1]) for steps in values]

    def _check_text(self, problems: Sequence[Problem], responses: Sequence[Response], tokenizer: Any) -> None:
        """Raise if the tokenizer can write no question, warn if it loses some of the questions or responses."""
        questions = sorted({problem.question for problem in problems})
        texts = [*questions, *sorted({response.text for response in responses})]
        written = [tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
        lost = [
            i for i, (text, kept) in enumerate(zip(texts, written, strict=True)) if _letters(text) != _letters(kept)
        ]
        if not lost:
            return
        example = f"{texts[lost[0]]!r} becomes {written[lost[0]]!r}"
        if set(range(len(questions))) <= set(lost):
            raise InputError(
                f"reward model {self.checkpoint}: its tokenizer can write none of the questions ({example}); "
                "give a reward model for this kind of problem."
            )
        log.warning(
            "reward model %s: its tokenizer cannot write %d of %d questions and responses (%s); their scores are of "
            "what is left of them.", self.checkpoint, len(lost), len(texts), example,
        )  # fmt: skip

    def _fit(self, problem: Problem, row: _Encoded, model: Any) -> _Encoded:
        """The sequence cut to the model's context, behind a whole step where one fits."""
        size = model.get_input_embeddings().num_embeddings
        if max(row.ids) >= size:
            raise InputError(
                f"reward model {self.checkpoint}: its tokenizer gives token {max(row.ids)}, its model has only {size}; "
                "the two do not belong together."
            )
        context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        if context is None or len(row.ids) <= context:
            return row
        if row.start >= context:
            raise InputError(
                f"reward model {self.checkpoint}: problem '{problem.id}' alone takes {row.start} of its tokens, and "
                f"its context is {context}; give a reward model with a longer context."
            )
        if not self._cut:
            log.warning(
                "reward model %s: the response to problem '%s' takes %d of its tokens with the problem, more than its "
                "context of %d; it is scored by what fits, and so are others.",
                self.checkpoint, problem.id, len(row.ids), context,
            )  # fmt: skip
        self._cut = True
        last = max((end for end in row.ends if end < context), default=context - 1)
        return _Encoded(row.ids[: last + 1], row.start, [min(end, last) for end in row.ends])

    def _encode(self, problem: Problem, response: Response, tokenizer: Any) -> _Encoded:
        ids = list(self.template.encode(problem, tokenizer))
        start, ends = len(ids), []
        for step in encode_continuations(response.steps if self.per_step else (response.text,), tokenizer):
            ids += step
            ends.append(len(ids) - 1)
        if self.append_eos and response.finish_reason == "stop":
            ids.append(end_of_turn(tokenizer) if self.template.chat else tokenizer.eos_token_id)
            ends = [*ends[:-1], len(ids) - 1]
        return _Encoded(ids, start, ends or [len(ids) - 1])

    def _score(self, batch: Sequence[_Encoded]) -> list[list[float]]:
        """Raw scores at the asked positions of right-padded sequences; padding is never attended to."""
        import torch

        from harness.models.reward_head import likelihood_rewards
        from harness.models.weights import rewards_at

        model, tokenizer = self.load()
        width = max(len(row.ids) for row in batch)
        padded = torch.full((len(batch), width), tokenizer.pad_token_id)
        mask = torch.zeros_like(padded)
        for line, seen, row in zip(padded, mask, batch, strict=True):
            line[: len(row.ids)], seen[: len(row.ids)] = torch.tensor(row.ids), 1
        device = next(model.parameters()).device
        ids, seen = padded.to(device), mask.to(device)
        positions = torch.tensor([n * width + end for n, row in enumerate(batch) for end in row.ends], device=device)
        with torch.no_grad():
            if hasattr(model, "reward_head"):
                spans, before = _spans(batch, width)
                sides = torch.repeat_interleave(torch.arange(len(spans)), torch.tensor([b - a for a, b in spans]))
                at = torch.tensor([t for a, b in spans for t in range(a, b)], dtype=torch.long)
                tokens = ((at - 1).to(device), padded.flatten()[at].to(device), sides.to(device))
                flat = likelihood_rewards(
                    model, ids, tokens, positions, before=torch.tensor(before), attention_mask=seen
                )
            else:
                flat = rewards_at(model, ids, positions, attention_mask=seen)
        values = iter(flat.tolist())
        return [[next(values) for _ in row.ends] for row in batch]

    def _transform(self, value: float) -> float:
        value = ACTIVATIONS[self.activation](value / self.scale)
        return value if self.bounds is None else min(max(value, self.bounds[0]), self.bounds[1])


def _letters(text: str) -> str:
    """What a tokenizer must keep of a text: not its blanks, case or composed forms."""
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def _spans(batch: Sequence[_Encoded], width: int) -> tuple[list[tuple[int, int]], list[int]]:
    """The flat positions that each scored place adds to its response, and the place before it (or itself)."""
    spans: list[tuple[int, int]] = []
    before: list[int] = []
    for number, row in enumerate(batch):
        done = row.start
        for place, end in enumerate(row.ends):
            spans.append((number * width + done, number * width + max(done, end + 1)))
            before.append(len(before) - bool(place))
            done = max(done, end + 1)
    return spans, before
