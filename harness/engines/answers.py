"""What a server of the OpenAI completions API answers, read strictly: another form is an error, never a guess."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

MAX_TOKEN_ID = 1 << 24
"""Beyond any vocabulary."""


class Malformed(ValueError):
    """An answer that is not of the API's form; the message says what is wrong with it."""


@dataclass(frozen=True)
class Model:
    """A model that a server offers."""

    id: str
    max_model_len: int | None
    is_vllm: bool


@dataclass(frozen=True)
class Choice:
    """One sample."""

    text: str
    finish_reason: str
    logp: float
    """Natural log-probability of all its tokens; NaN where the server gave none."""
    token_logps: tuple[float, ...]
    """Those of the single tokens; empty where any was not given."""
    token_ids: tuple[int, ...] | None
    stop_reason: str | int | None
    """The stop string or token that ended it, where the server says so."""


def models(body: bytes) -> dict[str, Model]:
    """The models of a list, by name. Raises `Malformed`."""
    found = {}
    for entry in _field(_object(_parsed(body), "the answer"), "data", list):
        row = _object(entry, "a model")
        length = _field(row, "max_model_len", int, None)
        if length is not None and length < 1:
            raise Malformed(f"max_model_len is {length}")
        name = _field(row, "id", str)
        found[name] = Model(name, length, row.get("owned_by") == "vllm")
    return found


def token_ids(body: bytes) -> tuple[int, ...]:
    """The tokens of a text, as vLLM's `/tokenize` gives them. Raises `Malformed`."""
    return _ids(_field(_object(_parsed(body), "the answer"), "tokens", list))


def choices(body: bytes, n: int, max_tokens: int) -> list[Choice]:
    """The `n` samples of a completion, in order, each of at most `max_tokens` tokens. Raises `Malformed`."""
    rows = [_object(entry, "a choice") for entry in _field(_object(_parsed(body), "the answer"), "choices", list)]
    if len(rows) != n:
        raise Malformed(f"{len(rows)} samples instead of {n}")
    numbered = {_field(row, "index", int): row for row in rows}
    if sorted(numbered) != list(range(n)):
        raise Malformed(f"samples numbered {sorted(numbered)}"[:100])
    return [_choice(numbered[index], max_tokens) for index in range(n)]


def weight_version(body: bytes) -> str:
    """What a vLLM server calls the weights that it holds. Raises `Malformed`."""
    return _field(_object(_parsed(body), "the answer"), "weight_version", str)


def succeeded(body: bytes) -> bool:
    """Whether a vLLM server says that it has done what it was asked. Raises `Malformed`."""
    return _field(_object(_parsed(body), "the answer"), "success", bool)


def _choice(row: dict[str, Any], max_tokens: int) -> Choice:
    ids = _field(row, "token_ids", list, None)
    if ids is not None and len(ids) > max_tokens:
        raise Malformed(f"{len(ids)} tokens instead of at most {max_tokens}")
    stop = row.get("stop_reason")
    if stop is not None and type(stop) not in (str, int):
        raise Malformed(f"stop_reason is {stop!r}"[:100])
    logps = _logps(_field(row, "logprobs", dict, None))
    given = tuple(logp for logp in logps if logp is not None)
    return Choice(
        _field(row, "text", str),
        _field(row, "finish_reason", str),
        float(sum(given)) if logps else math.nan,
        given if len(given) == len(logps) else (),
        None if ids is None else _ids(ids),
        stop,
    )


def _ids(values: list[Any]) -> tuple[int, ...]:
    for token in values:
        if type(token) is not int or not 0 <= token < MAX_TOKEN_ID:
            raise Malformed(f"token id {token!r}"[:100])
    return tuple(values)


def _logps(logprobs: dict[str, Any] | None) -> list[float | None]:
    values = (_field(logprobs, "token_logprobs", list, None) if logprobs else None) or []
    for value in values:
        if value is not None and (type(value) not in (int, float) or not abs(value) < 1e9):
            raise Malformed(f"log-probability {value!r}"[:100])
    return values


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise Malformed("no JSON") from None


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Malformed(f"{what} is {_kind(value)} and no object")
    return value


_NEEDED = object()


def _field(row: dict[str, Any], name: str, kind: type, default: Any = _NEEDED) -> Any:
    """A field of one type; absent or null only where a default is given."""
    value = row.get(name)
    if value is None and default is not _NEEDED:
        return default
    if type(value) is not kind:
        raise Malformed(f"'{name}' is {_kind(value) if name in row else 'missing'}")
    return value


def _kind(value: Any) -> str:
    return "null" if value is None else f"of type {type(value).__name__}"


def printable(text: str) -> str:
    """The text with control and other invisible characters written as escapes, for a terminal or a file's name."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
