"""Rows of policy-gradient training: responses as they were sampled, with their advantages and log-probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np
import torch

from harness.datamodules.base import Counts, JSONLDataModule, Rows, check_prompt_length
from harness.datamodules.batches import Items, pack
from harness.datamodules.sft import SFTRows
from harness.datamodules.tokenize import TextRow, Tokens, encode_rows, policy_row
from harness.errors import InputError
from harness.objectives.aggregation import aggregation_weights
from harness.objectives.objective import Objective
from harness.objectives.penalties import kl_to_go
from harness.prompts.templates import PromptTemplate
from harness.sources import Given, read_source


@dataclass(frozen=True)
class PolicyRowSet:
    """Tokenised rows of some files, and what each brings to the loss."""

    ids: list[Tokens]
    """Prompt and response."""
    starts: list[int]
    """Where the responses begin."""
    advantages: np.ndarray
    """(rows,)"""
    temperature: float
    """Of the distribution that all were drawn from."""
    prompts: np.ndarray
    """(rows,) int, which prompt each has."""
    weights: list[str]
    """Fingerprint of the weights that drew each."""
    token_weights: np.ndarray
    """(rows,) weight of each token's loss; see `harness.objectives.aggregation`."""
    denominators: np.ndarray
    logps: dict[str, list[np.ndarray]] = field(default_factory=dict)
    """Under "engine", "old" or "reference": log-probabilities of each row's sampled tokens."""
    token_advantages: list[np.ndarray] | None = None
    """What each sampled token's advantage differs from its row's by."""

    def __len__(self) -> int:
        return len(self.ids)

    def num_sampled(self, row: int) -> int:
        return len(self.ids[row]) - self.starts[row]


class ScoreRows(Protocol):
    """Log-probabilities of rows' sampled tokens under the old policy and the reference, as an objective needs them."""

    def __call__(self, rows: PolicyRowSet, batches: Rows) -> Mapping[str, list[np.ndarray]]: ...


class PolicyDataModule(JSONLDataModule):
    """Rows of sampled responses (`harness.types.PolicyExample`), with loss on the sampled tokens.

    Batches hold `input_ids`, `labels`, `is_token` (B, T), padded on the right; `lengths`, `prompts`, `num_sampled`,
    `advantages`, `token_weights` (B,) of the rows; `temperature`, at which they were drawn; and for N sampled tokens,
    row after row, `old_logps`, `engine_logps`, `reference_logps`, `token_advantages` (N,), as far as they are known. A
    packed batch has `position_ids` and is laid out as `SFTDataModule`'s.
    """

    def __init__(
        self,
        train_files: list[str | dict[str, Any]] | None = None,
        *,
        group: Literal["none", "prompt"] = "prompt",
        group_tokens: int = 16384,
        packing: bool = False,
        **options: Any,
    ) -> None:
        """
        Args:
            train_files: files, folders, data sets of the hub, or mappings; see `JSONLDataModule`; empty if a
                `RolloutCallback` names them.
            group: "prompt" keeps the responses to a prompt together, so that it is computed once, and `batch_size`
                counts prompts; "none" shuffles all responses.
            group_tokens: most tokens of a group, prompts counted with each response; a larger one is cut into several.
            packing: put several responses, each with its prompt, into one sequence of at most `max_length` tokens;
                goes with `group: none`.
            options: those of `JSONLDataModule`.
        """
        super().__init__(train_files or [], **options)
        if self.val_files:
            raise InputError(
                "val_files: advantages of fixed rows say little of a policy; measure it with the `evaluation` of "
                "RolloutCallback."
            )
        if group_tokens < 1:
            raise InputError(f"group_tokens must be at least 1, found {group_tokens}.")
        if packing and group != "none":
            raise InputError("packing lays responses one after another; set group: none with it.")
        self.group, self.group_tokens, self.packing = group, group_tokens, packing
        self._objective: Objective | None = None
        self._score: ScoreRows | None = None

    def attach_policy(self, objective: Objective, score: ScoreRows) -> None:
        """Weigh the tokens as the objective says, and have rows scored when files are read."""
        if objective != self._objective or score != self._score:
            self._objective, self._score, self._texts, self._cache = objective, score, {}, {}
        super().setup("fit")  # the objective says what rows must hold

    def setup(self, stage: str) -> None:
        self.find()

    @staticmethod
    def text_row(where: str, row: Mapping[str, Any], template: PromptTemplate, tokenizer: Any) -> TextRow:
        return policy_row(where, row, template, tokenizer)[0]

    def read(self, files: Sequence[Given]) -> tuple[PolicyRowSet, Counts]:
        if self._objective is None:
            raise InputError("PolicyDataModule feeds PolicyGradientModule, whose objective weighs its tokens.")
        read = [
            policy_row(where, row, self.template, self.tokenizer)
            for source in self.sources(files)
            for where, row in read_source(source)
        ]
        ids: list[Tokens] = []
        starts: list[int] = []
        kept: list[int] = []
        engine: list[np.ndarray] = []
        dropped, truncated = {"prompt too long": 0, "no token to learn from": 0}, 0
        encoded = encode_rows([text for text, _ in read], self.tokenizer) if read else ()
        for i, ((text, example), (prompt,)) in enumerate(zip(read, encoded, strict=True)):
            if not check_prompt_length(text.where, len(prompt), self.max_length, self.long_prompts):
                dropped["prompt too long"] += 1
                continue
            row = np.concatenate([prompt, np.asarray(example.token_ids, dtype=np.int32)])
            start = max(1, len(prompt))  # a first token has nothing before it to be predicted from
            if len(row) <= start:
                dropped["no token to learn from"] += 1
                continue
            given = example.token_logps
            if given and len(given) != len(example.token_ids):
                raise InputError(
                    f"{text.where}: {len(given)} log-probabilities for {len(example.token_ids)} token ids; "
                    "make the file again."
                )
            if self._objective.needs_engine and not given:
                raise InputError(
                    f"{text.where}: the row has no `token_logps`, which this objective needs; sample it again, or use "
                    "old_logps: recomputed without a correction."
                )
            truncated += len(row) > self.max_length
            row = row[: self.max_length]
            kept.append(i)
            ids.append(row)
            starts.append(start)
            engine.append(np.asarray(given[start - len(prompt) :][: len(row) - start], dtype=np.float32))
        rows = self._row_set([read[i][1] for i in kept], ids, starts, self._objective)
        if all(len(values) for values in engine):
            rows.logps["engine"] = engine
        lengths = [len(row) for row in ids]
        counts = Counts(len(read), len(ids), sum(lengths), max(lengths, default=0), truncated, dropped)
        return rows, counts

    def lay_out(self, texts: PolicyRowSet) -> Rows:
        assert self._score is not None
        assert self._objective is not None
        groups = self._groups(texts)
        known = self._score(texts, PolicyBatches(texts, self.pad_token_id, self.packing).rows(groups))
        rows = replace(texts, logps={**texts.logps, **known})
        if self._objective.kl == "k1_reward":
            old = rows.logps["engine" if self._objective.old_logps == "engine" else "old"]
            coefficient = self._objective.kl_coefficient
            rows = replace(rows, token_advantages=kl_to_go(old, rows.logps["reference"], rows.prompts, coefficient))
        return PolicyBatches(rows, self.pad_token_id, self.packing).rows(groups)

    def _row_set(
        self, examples: Sequence[Any], ids: list[Tokens], starts: list[int], objective: Objective
    ) -> PolicyRowSet:
        temperatures = {example.temperature for example in examples}
        if len(temperatures) > 1:
            found = ", ".join(f"{value:g}" for value in sorted(temperatures))
            raise InputError(
                f"the rows were sampled at temperatures {found}; the policy can be trained at one: give files of one "
                "temperature, and a scheduler that keeps it."
            )
        number_of: dict[Any, int] = {}
        # A problem that is replayed counts again.
        problems = [number_of.setdefault((e.problem_id or e.prompt, e.weights), len(number_of)) for e in examples]
        prompt_of: dict[bytes, int] = {}
        prompts = [
            prompt_of.setdefault(row[:start].tobytes(), len(prompt_of)) for row, start in zip(ids, starts, strict=True)
        ]
        sampled = np.array([len(row) - start for row, start in zip(ids, starts, strict=True)])
        weights, denominators = aggregation_weights(
            objective.aggregation, sampled, np.array(problems, dtype=np.int64), objective.constant_length
        )
        return PolicyRowSet(
            ids,
            starts,
            np.array([example.advantage for example in examples]),
            temperatures.pop() if temperatures else 1.0,
            np.array(prompts, dtype=np.int64),
            [example.weights for example in examples],
            weights,
            denominators,
        )

    def _groups(self, rows: PolicyRowSet) -> list[tuple[int, ...]]:
        """Rows that stay together in a micro-batch, or, when packing, in a sequence."""
        if self.packing:
            return pack([len(row) for row in rows.ids], self.max_length, self.seed)
        if self.group == "none":
            return [(i,) for i in range(len(rows))]
        members: dict[int, list[int]] = {}
        for i, prompt in enumerate(rows.prompts.tolist()):
            members.setdefault(prompt, []).append(i)
        groups: list[tuple[int, ...]] = []
        for group in members.values():
            size = max(1, self.group_tokens // max(len(rows.ids[i]) for i in group))
            groups += [tuple(group[a : a + size]) for a in range(0, len(group), size)]
        return groups


class PolicyBatches:
    """Lays rows out in batches."""

    def __init__(self, rows: PolicyRowSet, pad_token_id: int, packing: bool) -> None:
        self._rows, self._packing = rows, packing
        self._layout = SFTRows(rows.ids, np.array(rows.starts, np.int64), np.ones(len(rows)), pad_token_id)

    def rows(self, groups: Sequence[tuple[int, ...]]) -> Rows:
        """Groups of rows as the items of a plan, each with its part of the step's denominator."""
        lengths = self._layout.lengths.tolist()
        items = Items(
            np.array([sum(lengths[i] for i in group) for group in groups], np.int64),
            np.array([float(sum(self._rows.denominators[i] for i in group)) for group in groups]),
            groups,
        )
        return Rows(items, lambda indices: self.collate([items.rows(i) for i in indices]))

    def collate(self, groups: Sequence[tuple[int, ...]]) -> dict[str, Any]:
        """The rows of some groups as tensors; without any, a row without sampled tokens stands in."""
        rows = self._rows
        members = [i for group in groups for i in group]
        batch: dict[str, Any] = self._layout.collate(groups if self._packing else [(i,) for i in members])
        del batch["weights"]
        some = members or [0]
        if not self._packing:
            batch["lengths"] = torch.tensor([len(rows.ids[i]) for i in some])
            batch["prompts"] = torch.from_numpy(rows.prompts[some])
        batch |= {
            "num_sampled": torch.tensor([rows.num_sampled(i) for i in members] or [0]),
            "advantages": torch.from_numpy(rows.advantages[some]).float(),
            "token_weights": torch.from_numpy(rows.token_weights[some]).float(),
            "temperature": rows.temperature,
        }
        tokens = {f"{name}_logps": values for name, values in rows.logps.items()}
        if rows.token_advantages is not None:
            tokens["token_advantages"] = rows.token_advantages
        for name, values in tokens.items():
            joined = np.concatenate([np.zeros(0, dtype=np.float32), *(values[i] for i in members)])
            batch[name] = torch.from_numpy(joined).float()
        return batch
