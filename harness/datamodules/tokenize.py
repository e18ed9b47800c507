"""From rows of JSONL to token ids.

A prompt and its response are tokenised apart and concatenated, so training sees the very prompt tokens that an engine
continues from.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import InputError
from harness.prompts.chats import check_bos, encode_continuations, render_chat, written_answer
from harness.prompts.templates import PromptTemplate, encode_prompt
from harness.store import from_dict, read_jsonl
from harness.types import PolicyExample, Problem

Tokens = np.ndarray
"""int32 token ids, one-dimensional."""

NUM_ROUND_TRIPS = 4
"""Rows of each piece whose tokens are turned back into text."""


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
    the template renders, or {"messages"}, of which the last, the assistant's, is trained; "tools" beside them are shown
    to the chat template. "weight" is optional.

    Raises:
        InputError: as `read_jsonl`, or a row has none of these forms.
    """
    for where, row in _rows(files):
        weight = _weight(row, where)
        if "prompt" in row:
            prompt, chat = _prompt(row["prompt"], template, tokenizer, where)
            answer = _column(row, ("response", "completion"), where)
            response = _answer(answer, row["prompt"], prompt, template, tokenizer, where)
        elif "messages" in row:
            messages = _messages(row["messages"], where)
            if messages[-1]["role"] != "assistant":
                raise InputError(f"{where}: the last of `messages` must be the assistant's, to be trained on.")
            shown = _shown(row, template)
            prompt, chat = _render_chat(messages[:-1], tokenizer, shown, where), True
            response = _written(prompt, messages, tokenizer, shown, where)
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
            text = ""
            prompt, chat = _render_problem(row, template, tokenizer), template.chat
        elif isinstance(chosen, list) and isinstance(rejected, list):
            if chosen[:-1] != rejected[:-1]:
                raise InputError(
                    f"{where}: without a 'prompt', chosen and rejected must share all but the last message."
                )
            text = _messages(chosen, where)[:-1]
            prompt, chat = _render_chat(text, tokenizer, template.chat_options, where), True
        else:
            raise InputError(f"{where}: missing column 'prompt' (or 'question', 'problem'); found {sorted(row)}.")
        sides = (_answer(side, text, prompt, template, tokenizer, where) for side in (chosen, rejected))
        yield TextRow(prompt, tuple(sides), chat, weight, where)


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
    return _render_chat(_messages(value, where), tokenizer, template.chat_options, where), True


def _shown(row: Mapping[str, Any], template: PromptTemplate) -> dict[str, Any]:
    """Variables of the chat template for a row."""
    return {**template.chat_options, **({"tools": row["tools"]} if row.get("tools") else {})}


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


def _answer(value: Any, before: Any, prompt: str, template: PromptTemplate, tokenizer: Any, where: str) -> str:
    """The text of a response to `prompt`: as it stands, or of messages that answer messages as the template does."""
    content = _content(value, where)
    if isinstance(value, str) or not isinstance(before, list):
        return content
    return _written(prompt, [*before, _messages(value, where)[-1]], tokenizer, template.chat_options, where)


def _written(
    prompt: str, messages: list[dict[str, str]], tokenizer: Any, options: Mapping[str, Any], where: str
) -> str:
    if not isinstance(messages[-1]["content"], str):
        raise InputError(f"{where}: the content of the answer must be a text, found {messages[-1]['content']!r:.80}.")
    try:
        return written_answer(prompt, messages, tokenizer, options)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _messages(value: Any, where: str) -> list[dict[str, str]]:
    fits = isinstance(value, list) and value
    # A call of a tool may have no content.
    if not fits or not all(
        isinstance(m, dict) and "role" in m and ("content" in m or "tool_calls" in m) for m in value
    ):
        raise InputError(f"{where}: expected text or a list of {{'role', 'content'}} messages, found {value!r:.80}.")
    return value


def _render_chat(messages: list[dict[str, str]], tokenizer: Any, options: Mapping[str, Any], where: str) -> str:
    try:
        return render_chat(messages, tokenizer, options)
    except InputError as error:
        raise InputError(f"{where}: the row is a chat, but {error}") from error


def _render_problem(row: Mapping[str, Any], template: PromptTemplate, tokenizer: Any) -> str:
    question = row.get("question") or row.get("problem") or ""
    choices = tuple(str(choice) for choice in row.get("choices") or ())
    return template.render(Problem(id="", question=str(question), choices=choices), tokenizer)


def encode_rows(rows: Sequence[TextRow], tokenizer: Any) -> list[tuple[Tokens, ...]]:
    """Token ids of each row: the prompt, then its responses, without any EOS appended.

    Warns where the first rows' tokens are another text.

    Raises:
        InputError: a prompt begins with BOS twice, or a first one has other tokens for an engine, or other tokens again
            when they are turned back into text.
    """
    columns: list[list[str]] = [[row.responses[i] for row in rows] for i in range(len(rows[0].responses))]
    responses = [_arrays(encode_continuations(texts, tokenizer)) for texts in columns]
    plain = [i for i, row in enumerate(rows) if not row.chat]
    chats = [i for i, row in enumerate(rows) if row.chat]
    prompts: dict[int, Tokens] = {}
    for indices, special in ((plain, True), (chats, False)):
        texts = [rows[i].prompt for i in indices]
        encoded = tokenizer(texts, add_special_tokens=special)["input_ids"] if texts else []
        for i, ids in zip(indices, encoded, strict=True):
            check_bos(ids, tokenizer, rows[i].where)
        for i, ids in list(zip(indices, encoded, strict=True))[:NUM_ROUND_TRIPS]:
            # An engine's prompts are tokenised one at a time.
            if tuple(ids) != encode_prompt(rows[i].prompt, tokenizer, chat=not special):
                raise InputError(
                    f"{rows[i].where}: the tokenizer gives the prompt other tokens alone, as engines sample from, than "
                    "among others, as it is trained; use a tokenizer that does not depend on its batch."
                )
        prompts.update(zip(indices, _arrays(encoded), strict=True))
    encoded_rows = [(prompts[i], *(side[i] for side in responses)) for i in range(len(rows))]
    for row, (prompt, *parts) in list(zip(rows, encoded_rows, strict=True))[:NUM_ROUND_TRIPS]:
        _check_round_trip(row, np.concatenate([prompt, *parts[:1]]), tokenizer)
    return encoded_rows


def _arrays(encoded: Iterable[Sequence[int]]) -> list[Tokens]:
    return [np.asarray(ids, dtype=np.int32) for ids in encoded]


def _check_round_trip(row: TextRow, ids: Tokens, tokenizer: Any) -> None:
    """Text -> ids -> text -> ids, of a prompt and its first response.

    Warns if the tokens are not their text: what is lost cannot be learnt. Raises `InputError` if the prompt's text as
    tokens say it has other tokens: then the tokenizer does not read what it writes, as where its decoder is missing.
    """
    text = row.prompt + "".join(row.responses[:1])
    prompt = tokenizer(row.prompt, add_special_tokens=False)["input_ids"]
    if not row.chat:  # BOS, which the tokenizer puts before a plain prompt
        ids = ids[len(tokenizer(row.prompt)["input_ids"]) - len(prompt) :]

    def written(tokens: Any) -> str:
        return tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)

    back = written(ids)
    if back != text:
        # Some tokenizers write a blank behind a special token, which they read as one of the text.
        if not set(prompt) & set(tokenizer.all_special_ids):
            again = tokenizer(written(prompt), add_special_tokens=False)["input_ids"]
            if again != prompt:
                raise InputError(
                    f"{row.where}: the tokenizer does not read what it writes: the prompt {row.prompt!r:.40} has "
                    f"{len(prompt)} tokens, and their text {written(prompt)!r:.40} has {len(again)} others; mend the "
                    "tokenizer's files (is its decoder missing?)."
                )
        at = next((i for i, (a, b) in enumerate(zip(text, back, strict=False)) if a != b), min(len(text), len(back)))
        start = max(0, at - 10)
        warnings.warn(
            f"{row.where}: the tokens of the row are another text: {text[start : at + 10]!r} has become "
            f"{back[start : at + 10]!r}; the tokenizer has no tokens for it, or normalises it.",
            stacklevel=2,
        )


def existing(files: Iterable[str]) -> list[str]:
    """The paths, after checking that each is a file; raises `InputError` for the first that is not."""
    paths = [str(file) for file in files]
    for path in paths:
        if not Path(path).is_file():
            raise InputError(f"{path}: no such file; give the path of an existing .jsonl or .jsonl.gz file.")
    return paths
