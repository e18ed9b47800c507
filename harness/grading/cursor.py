"""A cursor over the tokens of an answer, and what a command's reader asks of the grammar around it."""

from __future__ import annotations

from typing import Protocol

from harness.grading.expression import MAX_DEPTH, Node, ParseError
from harness.grading.lexer import Token


class Cursor:
    """A place among tokens and the depth of nesting there."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.position = 0
        self.depth = 0
        self.open_groups = 0
        """Brackets and braces around the current token."""

    @property
    def current(self) -> Token:
        return self.tokens[self.position]

    def peek(self, ahead: int = 1) -> Token:
        return self.tokens[min(self.position + ahead, len(self.tokens) - 1)]

    def advance(self) -> Token:
        """The current token; the cursor moves to the next."""
        token = self.tokens[self.position]
        self.position = min(self.position + 1, len(self.tokens) - 1)
        return token

    def expect(self, text: str) -> None:
        """Move over a token. Raises ParseError if another stands here."""
        if self.current.text != text:
            raise ParseError(f"expected {text!r}, found {self.current.text!r}")
        self.advance()

    def enter(self) -> None:
        """One level deeper. Raises ParseError beyond the limit on nesting."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ParseError("nested too deeply")

    def leave(self) -> None:
        self.depth -= 1


class Grammar(Protocol):
    """The parser as the readers of commands see it: its cursor, and the productions of their arguments."""

    tokens: list[Token]
    position: int
    open_groups: int

    @property
    def current(self) -> Token: ...
    def peek(self, ahead: int = 1) -> Token: ...
    def advance(self) -> Token: ...
    def expect(self, text: str) -> None: ...

    def answer(self) -> Node: ...
    def sum(self) -> Node: ...
    def term(self) -> Node: ...
    def power(self) -> Node: ...
    def exponent(self) -> Node: ...
    def primary(self) -> Node: ...
    def group(self) -> Node: ...
    def argument(self) -> Node: ...
    def subscript(self) -> str: ...
    def decoration(self) -> str: ...
