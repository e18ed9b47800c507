"""From rows of JSONL to token ids.

A prompt and its response are tokenised apart and concatenated, so training sees the very prompt tokens that an engine
continues from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import InputError
from harness.prompts.templates import PromptTemplate, encode_prompt
from harness.store import from_dict, read_jsonl
from harness.types import PolicyExample, Problem

Tokens = np.ndarray
"""int32 token ids, one-dimensional."""


@dataclass(frozen=True)
class TextRow:
    """A prompt with its responses (one, or chosen and rejected) as text."""

    prompt: str
    responses: tuple[str, ...]
    chat: bool
    """Whether a chat template has written the special tokens into the prompt already."""
    weight: float
    where: str
    """File and line, for messages."""


def read_sft_rows(files: Sequence[str], template: PromptTemplate, tokenizer: Any) -> Iterator[TextRow]:
    """Read rows of supervised data.

    A row is {"prompt", "response" or "completion"}, a problem {"question" or "problem", "solution" or "answer"} that
    the template renders, or {"messages"}, of which the last, the assistant's, is trained. "weight" is optional.

    Raises:
        InputError: as `read_jsonl`, or a row has none of these forms.
    """
    for where, row in _rows(files):
        weight = _weight(row, where)
        if "prompt" in row:
            prompt, chat = _prompt(row["prompt"], template, tokenizer, where)
            response = _content(_column(row, ("response", "completion"), where), where)
        elif "messages" in row:
            messages = _messages(row["messages"], where)
            if messages[-1]["role"] != "assistant":
                raise InputError(f"{where}: the last of `messages` must be the assistant's, to be trained on.")
            prompt, chat = _render_chat(messages[:-1], tokenizer, where), True
            response = messages[-1]["content"]
        elif "question" in row or "problem" in row:
            prompt, chat = _render_problem(row, template, tokenizer), template.chat
            response = _content(_column(row, ("solution", "response", "answer"), where), where)
        else:
            raise InputError(
                f"{where}: missing column 'prompt' (or 'messages', 'question', 'problem'); found {sorted(row)}."
            )
        yield TextRow(prompt, (response,), chat, weight, where)


def read_preference_rows(files: Sequence[str], template: PromptTemplate, tokenizer: Any) -> Iterator[TextRow]:
    """Read rows of preference pairs; the responses are (chosen, rejected).

    A row is {"prompt", "chosen", "rejected"} with strings or chat messages, {"chosen", "rejected"} with whole chats
    that share all but their last message (a "prompt" as text beside them is one of those messages), or a problem with
    "chosen" and "rejected". Names of well-known data sets are understood too: "question" or "instruction" or "input"
    for the prompt, "response_chosen" or "accepted" and "response_rejected" for the sides.

    Raises:
        InputError: as `read_jsonl`, or a row has none of these forms.
    """
    for where, row in _rows(files):
        weight = _weight(row, where)
        chosen = _column(row, ("chosen", "response_chosen", "accepted"), where)
        rejected = _column(row, ("rejected", "response_rejected"), where)
        if "prompt" in row or "instruction" in row or "input" in row:
            text = _column(row, ("prompt", "instruction", "input"), where)
            if isinstance(text, str) and isinstance(chosen, list) and isinstance(rejected, list):
                text = _conversation(text, _messages(chosen, where)[:-1], _messages(rejected, where)[:-1], where)
            prompt, chat = _prompt(text, template, tokenizer, where)
        elif "question" in row or "problem" in row:
            prompt, chat = _render_problem(row, template, tokenizer), template.chat
        elif isinstance(chosen, list) and isinstance(rejected, list):
            if chosen[:-1] != rejected[:-1]:
                raise InputError(
                    f"{where}: without a 'prompt', chosen and rejected must share all but the last message."
                )
            prompt, chat = _render_chat(_messages(chosen, where)[:-1], tokenizer, where), True
        else:
            raise InputError(f"{where}: missing column 'prompt' (or 'question', 'problem'); found {sorted(row)}.")
        yield TextRow(prompt, (_content(chosen, where), _content(rejected, where)), chat, weight, where)


def read_rows_of(
    files: Sequence[str], template: PromptTemplate, tokenizer: Any, column: str
) -> Iterator[tuple[TextRow, dict[str, Any]]]:
    """Read rows with a list of texts in `column`, which become the responses, and give each row as it stands too.

    The prompt is "prompt", or a problem that the template renders; "weight" is optional.

    Raises:
        InputError: as `read_jsonl`, or a row has no prompt or no such list.
    """
    for where, row in _rows(files):
        if "prompt" in row:
            prompt, chat = _prompt(row["prompt"], template, tokenizer, where)
        elif "question" in row or "problem" in row:
            prompt, chat = _render_problem(row, template, tokenizer), template.chat
        else:
            raise InputError(f"{where}: missing column 'prompt' (or 'question', 'problem'); found {sorted(row)}.")
        texts = _column(row, (column,), where)
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
            raise InputError(f"{where}: `{column}` must be a list of texts that are not empty, found {texts!r:.80}.")
        yield TextRow(prompt, tuple(texts), chat, _weight(row, where), where), row


def read_policy_rows(
    files: Sequence[str], template: PromptTemplate, tokenizer: Any
) -> Iterator[tuple[TextRow, PolicyExample]]:
    """Read rows of sampled responses; the text row holds the prompt alone, as responses are never tokenised.

    Raises:
        InputError: as `read_jsonl`, or a row lacks what a `PolicyExample` needs.
    """
    for where, row in _rows(files):
        prompt, chat = _prompt(_column(row, ("prompt",), where), template, tokenizer, where)
        for name in ("response", "token_ids", "advantage"):
            if name not in row:
                raise InputError(
                    f"{where}: missing column '{name}'; found {sorted(row)}. Rows of policy gradients are written by "
                    "`harness.selection.PolicyRows`."
                )
        try:
            example = from_dict(PolicyExample, row)
        except ValueError as error:
            raise InputError(f"{where}: damaged ({error}); restore the file, or make it again.") from None
        yield TextRow(prompt, (), chat, 1.0, where), example


def _rows(files: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for file in files:
        for number, row in read_jsonl(file):
            yield f"{file}:{number}", row


def _weight(row: Mapping[str, Any], where: str) -> float:
    weight = row.get("weight", 1.0)
    if not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
        raise InputError(f"{where}: weight must be a number of at least 0, found {weight!r}.")
    return float(weight)


def _column(row: Mapping[str, Any], names: tuple[str, ...], where: str) -> Any:
    for name in names:
        if row.get(name) is not None:
            return row[name]
    others = f" (or {', '.join(repr(name) for name in names[1:])})" if len(names) > 1 else ""
    raise InputError(f"{where}: missing column '{names[0]}'{others}; found {sorted(row)}.")


def _prompt(value: Any, template: PromptTemplate, tokenizer: Any, where: str) -> tuple[str, bool]:
    if isinstance(value, str):
        return value, template.chat
    return _render_chat(_messages(value, where), tokenizer, where), True


def _conversation(
    prompt: str, chosen: list[dict[str, str]], rejected: list[dict[str, str]], where: str
) -> list[dict[str, str]]:
    """The messages before both responses of a pair, whose prompt is also given as text (UltraFeedback's form)."""
    if not chosen and not rejected:
        return [{"role": "user", "content": prompt}]
    if chosen != rejected:
        raise InputError(f"{where}: chosen and rejected must share all but the last message.")
    if not any(message["content"].strip() == prompt.strip() for message in chosen):
        raise InputError(
            f"{where}: the text of the prompt is none of the messages before the responses, {chosen!r:.80}."
        )
    return chosen


def _content(value: Any, where: str) -> str:
    """The text of a response, given as a string or as chat messages of which the last counts."""
    if isinstance(value, str):
        return value
    return _messages(value, where)[-1]["content"]


def _messages(value: Any, where: str) -> list[dict[str, str]]:
    fits = isinstance(value, list) and value
    if not fits or not all(isinstance(m, dict) and {"role", "content"} <= m.keys() for m in value):
        raise InputError(f"{where}: expected text or a list of {{'role', 'content'}} messages, found {value!r:.80}.")
    return value


def _render_chat(messages: list[dict[str, str]], tokenizer: Any, where: str) -> str:
    if not getattr(tokenizer, "chat_template", None):
        raise InputError(f"{where}: the row is a chat, but the model's tokenizer has no chat template.")
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def _render_problem(row: Mapping[str, Any], template: PromptTemplate, tokenizer: Any) -> str:
    question = row.get("question") or row.get("problem") or ""
    choices = tuple(str(choice) for choice in row.get("choices") or ())
    return template.render(Problem(id="", question=str(question), choices=choices), tokenizer)


def encode_rows(rows: Sequence[TextRow], tokenizer: Any) -> list[tuple[Tokens, ...]]:
    """Token ids of each row: the prompt, then its responses, without any EOS appended."""
    columns: list[list[str]] = [[row.responses[i] for row in rows] for i in range(len(rows[0].responses))]
    responses = [_encode_texts(texts, tokenizer, special=False) for texts in columns]
    plain = [i for i, row in enumerate(rows) if not row.chat]
    chats = [i for i, row in enumerate(rows) if row.chat]
    prompts: dict[int, Tokens] = {}
    for indices, special in ((plain, True), (chats, False)):
        texts = [rows[i].prompt for i in indices]
        prompts.update(zip(indices, _encode_texts(texts, tokenizer, special), strict=True))
    return [(prompts[i], *(side[i] for side in responses)) for i in range(len(rows))]


def _encode_texts(texts: list[str], tokenizer: Any, special: bool) -> list[Tokens]:
    """As `encode_prompt` does for one text, in batches."""
    if not texts:
        return []
    encoded = tokenizer(texts, add_special_tokens=special)["input_ids"]
    # A tokenizer that treats one text and many differently would break the equality with the engine's prompt.
    assert tuple(encoded[0]) == encode_prompt(texts[0], tokenizer, chat=not special)
    return [np.asarray(ids, dtype=np.int32) for ids in encoded]


def existing(files: Iterable[str]) -> list[str]:
    """The paths, after checking that each is a file; raises `InputError` for the first that is not."""
    paths = [str(file) for file in files]
    for path in paths:
        if not Path(path).is_file():
            raise InputError(f"{path}: no such file; give the path of an existing .jsonl or .jsonl.gz file.")
    return paths
