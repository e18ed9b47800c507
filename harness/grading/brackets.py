"""Matching brackets in LaTeX."""

from __future__ import annotations

import re

_BARE = re.compile(r"[^\s${}\\]+")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)


def matching_brace(text: str, start: int) -> int | None:
    """Index of the brace that closes the one at `start`; escaped braces do not count. None if it never closes."""
    depth, position = 0, start
    while position < len(text):
        char = text[position]
        if char == "\\":
            position += 2
            continue
        if char == "{":
            depth += 1
        elif char == "}":
            depth -= 1
            if depth == 0:
                return position
        position += 1
    return None


def brace_pairs(text: str) -> dict[int, int]:
    """For every opening brace that is closed, the index of its closing brace; one pass whatever the nesting."""
    pairs: dict[int, int] = {}
    open_braces: list[int] = []
    for match in _BRACE.finditer(text):
        if match[0] == "{":
            open_braces.append(match.start())
        elif match[0] == "}" and open_braces:
            pairs[open_braces.pop()] = match.start()
    return pairs


def boxes(text: str) -> list[tuple[int, int, str]]:
    r"""Start, end and content of every `\boxed{...}` and `\fbox{...}`, outermost ones only; `\boxed 5` gives `5`."""
    if "box" not in text:
        return []
    found, position = [], 0
    start = text.index("box")
    pairs = {start + left: start + right for left, right in brace_pairs(text[start:]).items()}
    for match in re.finditer(r"\\(?:boxed|fbox|framebox)\s*", text):
        if match.start() < position:
            continue
        if match.end() < len(text) and text[match.end()] == "{":
            end = pairs.get(match.end())
            if end is None:
                continue
            content = text[match.end() + 1 : end]
            position = end + 1
        elif (bare := _BARE.match(text, match.end())) and match[0].startswith("\\boxed"):
            content, position = bare[0], bare.end()
        else:
            continue
        found.append((match.start(), position, content))
    return found
