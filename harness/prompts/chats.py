"""Chats as the tokenizer's own template writes them: what an answer continues, what of it is trained, where it ends."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from harness.errors import InputError, first_line

Messages = Sequence[Mapping[str, Any]]
"""{"role", "content"} each, the content a text."""

THOUGHT, END_OF_THOUGHT = "<think>", "</think>"
LEADS = ("\n", ".", "0")
"""Texts behind which another is tokenised as the continuation that it is."""


def render_chat(
    messages: Messages, tokenizer: Any, options: Mapping[str, Any] | None = None, *, answered: bool = False
) -> str:
    """The text of a chat up to where the next answer begins.

    Args:
        messages: all that comes before the answer.
        tokenizer: its template writes the chat.
        options: variables of the template, such as `enable_thinking` of Qwen 3.
        answered: the last message is the answer, to be written as well.

    Raises:
        InputError: there is no template, or it refuses the messages.
    """
    from jinja2 import TemplateError

    if not getattr(tokenizer, "chat_template", None):
        raise InputError("the model's tokenizer has no chat template; choose another template or a chat model.")
    try:
        return tokenizer.apply_chat_template(
            [dict(message) for message in messages],
            tokenize=False,
            add_generation_prompt=not answered,
            **(options or {}),
        )
    except (TemplateError, TypeError) as error:
        roles = ", ".join(str(message.get("role")) for message in messages)
        raise InputError(
            f"the chat template of the model refuses messages of the roles {roles} ({first_line(error)}); write the "
            "chat as it asks, such as a system's text at the beginning of the user's."
        ) from error


def thinks(tokenizer: Any, options: Mapping[str, Any] | None = None) -> bool:
    """Whether the chat template lets answers begin with a thought.

    It does if it knows the tags, and the prompt has not closed a thought already, as with `enable_thinking: false`.
    """
    written = str(getattr(tokenizer, "chat_template", None) or "")
    if THOUGHT not in written and END_OF_THOUGHT not in written:
        return False
    asked = render_chat([{"role": "user", "content": "1"}], tokenizer, options)
    return not asked.rstrip().endswith(END_OF_THOUGHT)


def is_thinking(response: str, prompt: str) -> bool:
    """Whether a response ends within a thought, which it has begun itself or which its prompt has opened."""
    return END_OF_THOUGHT not in response and (THOUGHT in response or prompt.rstrip().endswith(THOUGHT))


def written_answer(prompt: str, messages: Messages, tokenizer: Any, options: Mapping[str, Any] | None = None) -> str:
    """The last message as the template writes it behind the prompt, without the token that ends the turn.

    Where the template writes an answered chat otherwise than the prompt begins (it leaves thoughts out of answers, or
    has no token of its own for the end), the message is taken as it stands.

    Args:
        prompt: of `render_chat` for all messages but the last.
        messages: the chat, the answer last.
        tokenizer: its template writes the chat.
        options: as `render_chat`.

    Raises:
        InputError: the template has opened a thought, and the answer does not close one.
    """
    content = str(messages[-1]["content"])
    if prompt.rstrip().endswith(THOUGHT):
        if END_OF_THOUGHT not in content:
            raise InputError(
                "the chat template begins every answer with a thought (<think>), and this one has none (no </think>); "
                "give answers with thoughts, or switch thinking off by the template's `chat_options`."
            )
        return re.sub(rf"^\s*{THOUGHT}\n?", "", content)
    end = tokenizer.decode([end_of_turn(tokenizer)])
    whole = render_chat(messages, tokenizer, options, answered=True)
    if not whole.startswith(prompt):
        return content
    written = whole[len(prompt) :]
    before, found, _ = written.rpartition(end)
    return before if found and content.strip() in before else content


def end_of_turn(tokenizer: Any) -> int:
    """Id of the token with which the chat template ends an answer, where it is one; else of EOS.

    They differ in Gemma and Phi 3, whose EOS ends a document.
    """
    eos: int = tokenizer.eos_token_id
    if not getattr(tokenizer, "chat_template", None):
        return eos
    probe = [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}]
    try:
        rest = render_chat(probe, tokenizer, answered=True).rpartition("2")[2]
    except InputError:  # it wants more of a chat than this
        return eos
    special = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    ids = tokenizer(rest, add_special_tokens=False)["input_ids"]
    return next((index for index in ids if index in special), eos)


def encode_continuations(texts: Sequence[str], tokenizer: Any) -> list[list[int]]:
    """Token ids of texts that continue another.

    Tokenizers of SentencePiece's kind (Llama 2, Mistral 7B) put a blank before every text; a continuation has none.
    """
    plain: list[list[int]] = tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []
    [word] = tokenizer(["a"], add_special_tokens=False)["input_ids"]
    if tokenizer.decode([*word, *word]) != "a a":
        return plain
    for lead in LEADS:
        [before] = tokenizer([lead], add_special_tokens=False)["input_ids"]
        encoded = tokenizer([lead + text for text in texts], add_special_tokens=False)["input_ids"] if texts else []
        if all(ids[: len(before)] == before for ids in encoded):
            return [ids[len(before) :] for ids in encoded]
    return plain


def check_bos(ids: Sequence[int], tokenizer: Any, where: str = "") -> None:
    """Raise `InputError` if a prompt's tokens begin with BOS twice: models are trained on one."""
    bos = tokenizer.bos_token_id
    if bos is not None and list(ids[:2]) == [bos, bos]:
        raise InputError(
            f"{where + ': ' if where else ''}the prompt begins with {tokenizer.bos_token} twice, as the tokenizer puts "
            "it before a text that begins with it; remove it from the text, or have the chat template write the prompt."
        )
