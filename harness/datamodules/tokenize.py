"""From rows to token ids: the usual shapes of rows are told by their columns.

A prompt and its response are tokenised apart and concatenated, so training sees the very prompt tokens that an engine
continues from.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.errors import InputError
from harness.prompts.chats import check_bos, encode_continuations, render_chat, written_answer
from harness.prompts.templates import PromptTemplate, encode_prompt
from harness.store import from_dict
from harness.types import PolicyExample, Problem

Tokens = np.ndarray
"""int32 token ids, one-dimensional."""

NUM_ROUND_TRIPS = 4
"""Rows of each piece whose tokens are turned back into text."""
SHAREGPT_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
}
"""Who speaks in a chat of {"from", "value"} -> role."""
STEP_SEPARATOR = "\n"
"""Put behind each step of stepwise supervision that does not end with it, as TRL does."""


@dataclass(frozen=True)
class TextRow:
    """A prompt with its responses (one, or chosen and rejected, or steps) as text."""

    prompt: str
    responses: tuple[str, ...]
    chat: bool
    """Whether a chat template has written the special tokens into the prompt already."""
    weight: float
    where: str
    """File and line, for messages."""
    shape: str = ""
    """The form of the row, for messages."""
    labels: tuple[float, ...] = ()
    """Of the response or the steps, where the rows have them: 1 for good, 0 for bad."""


ReadRow = Callable[[str, Mapping[str, Any], PromptTemplate, Any], TextRow]
"""(place, row, template, tokenizer) -> the row as text; raises `InputError` for a row of no known shape."""


def sft_row(where: str, row: Mapping[str, Any], template: PromptTemplate, tokenizer: Any) -> TextRow:
    """A row of supervised data.

    It is {"prompt", "response" or "completion"}; {"messages"} or {"conversations"} (chats of {"role", "content"} or
    {"from", "value"}), of which the last, the assistant's, is trained, and "tools" beside them are shown to the chat
    template; {"instruction", "input", "output"} (Alpaca), or a problem {"question" or "problem", "solution" or
    "answer"}, which the template renders. "weight" is optional.

    Raises:
        InputError: the row has none of these shapes, or two of them.
    """
    weight = _weight(row, where)
    shapes = {
        "prompt": _has(row, "prompt") and _has(row, "response", "completion"),
        "messages": _has(row, "messages"),
        "conversations": _has(row, "conversations"),
        "instruction": _has(row, "instruction") and _has(row, "output", "response"),
    }
    found = [name for name, fits in shapes.items() if fits]
    if len(found) > 1:
        raise InputError(
            f"{where}: the row can be read as {' and as '.join(map(repr, found))}, with the columns {sorted(row)}; "
            f"hide all but one by the source's columns, as in {found[-1]}: null."
        )
    if "messages" in found or "conversations" in found:
        messages = _messages(row[found[0]], where)
        if messages[0]["role"] != "system" and isinstance(row.get("system"), str) and row["system"]:
            messages = [{"role": "system", "content": row["system"]}, *messages]
        if messages[-1]["role"] != "assistant":
            raise InputError(f"{where}: the last of `{found[0]}` must be the assistant's, to be trained on.")
        shown = _shown(row, template)
        prompt = _render_chat(messages[:-1], tokenizer, shown, where)
        return TextRow(
            prompt, (_written(prompt, messages, tokenizer, shown, where),), True, weight, where, f"{found[0]} (a chat)"
        )
    if "prompt" in row and found != ["instruction"]:
        prompt, chat = _prompt(row["prompt"], template, tokenizer, where)
        answer = _column(row, ("response", "completion"), where)
        response = _answer(answer, row["prompt"], prompt, template, tokenizer, where)
        return TextRow(prompt, (response,), chat, weight, where, _prompt_shape(row["prompt"], template))
    problem = _render_problem(row, template, tokenizer, where)
    if problem is None:
        raise _unknown(row, ("prompt", "messages", "conversations", "instruction", "question", "problem"), where)
    names = ("output", "response") if found else ("solution", "response", "answer", "completion", "output")
    response = _content(_column(row, names, where), where)
    return TextRow(problem, (response,), template.chat, weight, where, _problem_shape(row, template))


def preference_row(where: str, row: Mapping[str, Any], template: PromptTemplate, tokenizer: Any) -> TextRow:
    """A row of a preference pair; the responses are (chosen, rejected).

    It is {"prompt", "chosen", "rejected"} with texts or chat messages, or a problem with "chosen" and "rejected". The
    prompt may be left out: {"chosen", "rejected"} are then whole chats that share all but their last message, or whole
    texts that share their beginning, up to the last blank of it. Chats may have a "prompt" as text beside them, which
    is one of their messages (UltraFeedback). Names of well-known data sets are understood too: "instruction" (with
    "input"), "input" or "conversations" for the prompt, "response_chosen" or "accepted" and "response_rejected" for
    the sides.

    Raises:
        InputError: the row has none of these shapes.
    """
    weight = _weight(row, where)
    chosen, rejected = (
        [side] if isinstance(side, dict) else side
        for side in (
            _column(row, ("chosen", "response_chosen", "accepted"), where),
            _column(row, ("rejected", "response_rejected"), where),
        )
    )
    if isinstance(chosen, str) != isinstance(rejected, str):
        kinds = [type(side).__name__ for side in (chosen, rejected)]
        raise InputError(f"{where}: chosen is of the type {kinds[0]}, rejected {kinds[1]}; give both as text or chats.")
    chats = isinstance(chosen, list)
    if _has(row, "prompt", "instruction", "input", "conversations"):
        text = _column(row, ("prompt", "instruction", "input", "conversations"), where)
        if not _has(row, "prompt") and _has(row, "instruction") and row.get("input"):
            text = _instruction(row, where)
        shape = _prompt_shape(text, template)
        if isinstance(text, str) and chats:
            text = _conversation(text, _messages(chosen, where)[:-1], _messages(rejected, where)[:-1], where)
            shape = "chats, their prompt as text beside them"
        prompt, chat = _prompt(text, template, tokenizer, where)
    elif (problem := _render_problem(row, template, tokenizer, where)) is not None:
        text, prompt, chat, shape = "", problem, template.chat, _problem_shape(row, template)
    elif chats:
        if _messages(chosen, where)[:-1] != _messages(rejected, where)[:-1]:
            raise InputError(f"{where}: without a 'prompt', chosen and rejected must share all but the last message.")
        text, shape = _messages(chosen, where)[:-1], "whole chats"
        prompt, chat = _render_chat(text, tokenizer, template.chat_options, where), True
    else:
        prompt, chosen, rejected = _split_texts(row, str(chosen), str(rejected), where)
        text, chat, shape = prompt, template.chat, "whole texts, which share their beginning"
    sides = (_answer(side, text, prompt, template, tokenizer, where) for side in (chosen, rejected))
    return TextRow(prompt, tuple(sides), chat, weight, where, shape)


def unpaired_row(where: str, row: Mapping[str, Any], template: PromptTemplate, tokenizer: Any) -> TextRow:
    """A row of one response that is good or bad: {"prompt", "completion" or "response", "label"}, as text or chats.

    The prompt may be a problem that the template renders.

    Raises:
        InputError: the row has another shape, or a label that is neither true nor false.
    """
    answer = _column(row, ("completion", "response"), where)
    prompt, chat, text, shape = _any_prompt(row, template, tokenizer, where)
    label = _label(_column(row, ("label",), where), where)
    if label not in (0, 1):
        raise InputError(f"{where}: label must be true or false, found {row['label']!r:.80}.")
    response = _answer(answer, text, prompt, template, tokenizer, where)
    return TextRow(prompt, (response,), chat, _weight(row, where), where, shape, (label,))


def step_row(where: str, row: Mapping[str, Any], template: PromptTemplate, tokenizer: Any) -> TextRow:
    """A row of process supervision, whose responses are the steps.

    It is {"prompt", "steps", "labels"}, or a problem that the template renders with "steps" and "labels"; in TRL's form
    ("completions" instead of "steps") a line break is put behind each step. A label is a number from 0 to 1, or true
    or false.

    Raises:
        InputError: the row has another shape.
    """
    prompt, chat, _, shape = _any_prompt(row, template, tokenizer, where)
    texts = _column(row, ("steps", "completions"), where)
    name = "steps" if row.get("steps") is not None else "completions"
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
        raise InputError(f"{where}: `{name}` must be a list of texts that are not empty, found {texts!r:.80}.")
    if name == "completions":
        texts = [text if text.endswith(STEP_SEPARATOR) else text + STEP_SEPARATOR for text in texts]
    labels = row.get("labels")
    if not isinstance(labels, list) or len(labels) != len(texts):
        raise InputError(f"{where}: `labels` must be a list, one number for each of the {len(texts)} steps.")
    values = tuple(_label(label, where) for label in labels)
    return TextRow(prompt, tuple(texts), chat, _weight(row, where), where, shape, values)


def policy_row(where: str, row: Mapping[str, Any], template: PromptTemplate, tokenizer: Any) -> tuple[TextRow, Any]:
    """A row of a sampled response; the text row holds the prompt alone, as responses are never tokenised.

    Raises:
        InputError: the row lacks what a `PolicyExample` needs.
    """
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
    return TextRow(prompt, (), chat, 1.0, where), example


def _has(row: Mapping[str, Any], *names: str) -> bool:
    return any(row.get(name) is not None for name in names)


def _unknown(row: Mapping[str, Any], names: tuple[str, ...], where: str) -> InputError:
    others = ", ".join(repr(name) for name in names[1:])
    return InputError(
        f"{where}: missing column '{names[0]}'" + (f" (or {others})" if others else "") + f"; found {sorted(row)}."
    )


def _column(row: Mapping[str, Any], names: tuple[str, ...], where: str) -> Any:
    for name in names:
        if row.get(name) is not None:
            return row[name]
    raise _unknown(row, names, where)


def _number(value: Any) -> Any:
    """The number that a cell of a CSV file holds as text; anything else as it is."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _weight(row: Mapping[str, Any], where: str) -> float:
    weight = _number(row.get("weight", 1.0))
    if not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
        raise InputError(f"{where}: weight must be a number of at least 0, found {weight!r}.")
    return float(weight)


def _label(value: Any, where: str) -> float:
    named = {"true": 1.0, "false": 0.0}.get(value.strip().lower(), value) if isinstance(value, str) else value
    label = _number(named)
    if not isinstance(label, int | float) or not 0 <= label <= 1:
        raise InputError(f"{where}: a label must be true, false or a number from 0 to 1, found {value!r:.80}.")
    return float(label)


def _any_prompt(
    row: Mapping[str, Any], template: PromptTemplate, tokenizer: Any, where: str
) -> tuple[str, bool, Any, str]:
    """The rendered prompt, whether it is a chat, what it was made of, and the shape."""
    if "prompt" in row:
        prompt, chat = _prompt(row["prompt"], template, tokenizer, where)
        return prompt, chat, row["prompt"], _prompt_shape(row["prompt"], template)
    problem = _render_problem(row, template, tokenizer, where)
    if problem is None:
        raise _unknown(row, ("prompt", "question", "problem", "instruction"), where)
    return problem, template.chat, "", _problem_shape(row, template)


def _prompt(value: Any, template: PromptTemplate, tokenizer: Any, where: str) -> tuple[str, bool]:
    if isinstance(value, str):
        return value, template.chat
    return _render_chat(_messages(value, where), tokenizer, template.chat_options, where), True


def _prompt_shape(value: Any, template: PromptTemplate) -> str:
    if isinstance(value, str):
        return "prompt as text" + (", which holds the special tokens of a chat" if template.chat else "")
    return "prompt as messages"


def _problem_shape(row: Mapping[str, Any], template: PromptTemplate) -> str:
    kind = "instruction" if _has(row, "instruction") and not _has(row, "question", "problem") else "problem"
    return f"{kind}, rendered by the template '{template.name}'" + (" as a chat" if template.chat else "")


def _shown(row: Mapping[str, Any], template: PromptTemplate) -> dict[str, Any]:
    """Variables of the chat template for a row."""
    return {**template.chat_options, **({"tools": row["tools"]} if row.get("tools") else {})}


def _split_texts(row: Mapping[str, Any], chosen: str, rejected: str, where: str) -> tuple[str, str, str]:
    """(prompt, chosen, rejected) of two whole texts: what they share, up to its last blank, is the prompt."""
    pairs = zip(chosen, rejected, strict=False)
    shared = "".join(a for a, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
    shared = shared[: max(map(shared.rfind, " \n\t")) + 1].rstrip(" ")
    if not shared.strip():
        names = ("prompt", "question", "problem", "instruction", "conversations")
        raise InputError(f"{str(_unknown(row, names, where)).rstrip('.')}, and chosen and rejected share no beginning.")
    return shared, chosen[len(shared) :], rejected[len(shared) :]


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
    messages = [*_messages(before, where), _messages(value, where)[-1]]
    return _written(prompt, messages, tokenizer, template.chat_options, where)


def _written(
    prompt: str, messages: list[dict[str, str]], tokenizer: Any, options: Mapping[str, Any], where: str
) -> str:
    if not isinstance(messages[-1].get("content"), str):
        content = messages[-1].get("content")
        raise InputError(f"{where}: the content of the answer must be a text, found {content!r:.80}.")
    try:
        return written_answer(prompt, messages, tokenizer, options)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _messages(value: Any, where: str) -> list[dict[str, str]]:
    fits = isinstance(value, list) and value and all(isinstance(message, dict) for message in value)
    if fits and all("from" in message and "value" in message for message in value):
        return [_of_sharegpt(message, where) for message in value]
    # A call of a tool may have no content.
    if not fits or not all("role" in m and ("content" in m or "tool_calls" in m) for m in value):
        raise InputError(f"{where}: expected text or a list of {{'role', 'content'}} messages, found {value!r:.80}.")
    return value


def _of_sharegpt(message: Mapping[str, Any], where: str) -> dict[str, str]:
    role = SHAREGPT_ROLES.get(message["from"])
    if role is None:
        raise InputError(f"{where}: a message is from {message['from']!r:.40}; known: {', '.join(SHAREGPT_ROLES)}.")
    return {"role": role, "content": message["value"]}


def _render_chat(messages: list[dict[str, str]], tokenizer: Any, options: Mapping[str, Any], where: str) -> str:
    try:
        return render_chat(messages, tokenizer, options)
    except InputError as error:
        raise InputError(f"{where}: the row is a chat, but {error}") from error


def _render_problem(row: Mapping[str, Any], template: PromptTemplate, tokenizer: Any, where: str) -> str | None:
    """The prompt of a problem or an instruction; None of a row that is neither."""
    if _has(row, "question", "problem"):
        question = str(row.get("question") or row.get("problem") or "")
    elif _has(row, "instruction"):
        question = _instruction(row, where)
    else:
        return None
    choices = tuple(str(choice) for choice in row.get("choices") or ())
    try:
        return template.render(Problem(id="", question=question, choices=choices), tokenizer)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _instruction(row: Mapping[str, Any], where: str) -> str:
    """The instruction and, below it, its input (Alpaca; "context" in Dolly)."""
    parts = [row["instruction"], row.get("input") or row.get("context") or ""]
    for part in parts:
        if not isinstance(part, str):
            raise InputError(f"{where}: instruction and input must be texts, found {part!r:.80}.")
    return "\n\n".join(part for part in parts if part)


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
