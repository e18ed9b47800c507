"""Long mathematical solutions in a few steps of similar length (Self-Explore, arXiv:2404.10346, released code)."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

_LINE_ENDS = re.compile(r"(\n\n?)")
_SENTENCE_ENDS = re.compile(r"(?:\.\$|\$\.)\s+")
_WITHIN_STEPS = (",$", ", which", " so", " = ", " and", "Thus", "=")


@dataclass(frozen=True)
class MathSteps:
    """Cuts at lines and after sentences that end in a formula, then evens out the lengths, all counted in characters.

    The rules are those of the released code, in its order, and the steps are equal. It drops nothing either, but writes
    a newline behind each prefix that a later stage trains on; here the steps joined are the text, always.
    """

    max_steps: int = 10
    """Merge until there are at most so many, the answer's own step included."""
    min_length: int = 20
    """Shorter pieces join the one before."""
    min_share: float = 0.3
    """Pieces shorter than this share of the mean length join their shorter neighbour."""
    few_steps: int = 3
    """Solutions of at most so many steps have each long step cut once more, near its middle."""
    answer: str = "The answer is"
    """Begins a step of its own."""

    def split(self, text: str) -> tuple[str, ...]:
        """Cut a text into steps; joined, they are the text again. An empty text has no steps."""
        pieces = self._join_short(_pieces(text))
        while len(pieces) >= self.max_steps:
            _merge(pieces, min(range(len(pieces)), key=lambda i: len(pieces[i])))
        pieces = self._split_off_answer(pieces)
        if len(pieces) <= self.few_steps:
            pieces = [half for piece in pieces for half in self._halves(piece)]
        return tuple(pieces)

    def _join_short(self, pieces: list[str]) -> list[str]:
        joined: list[str] = []
        for piece in pieces:
            if joined and (not piece.strip() or len(piece) < self.min_length):
                joined[-1] += piece
            else:
                joined.append(piece)
        least = self.min_share * sum(map(len, joined)) / max(len(joined), 1)
        index = 0
        while index < len(joined):
            if len(joined) > 1 and len(joined[index]) < least:
                index = _merge(joined, index)
            else:
                index += 1
        return joined

    def _split_off_answer(self, pieces: list[str]) -> list[str]:
        if not pieces or (start := pieces[-1].find(self.answer)) <= 0:
            return pieces
        before, answer = pieces[-1][:start], pieces[-1][start:]
        if len(before) < self.min_length and len(pieces) > 1:
            return [*pieces[:-2], pieces[-2] + before, answer]
        return [*pieces[:-1], before, answer]

    def _halves(self, piece: str) -> tuple[str, ...]:
        """Both halves of a piece, cut at the mark nearest its middle, or the piece if one would be short."""
        ends = {match.end() for mark in _WITHIN_STEPS for match in re.finditer(re.escape(mark), piece)}
        fit = [end for end in ends if min(end, len(piece) - end) > self.min_length]
        if len(piece) < self.min_length or not fit:
            return (piece,)
        cut = min(fit, key=lambda end: (abs(end - len(piece) / 2), end))
        return piece[:cut], piece[cut:]


def _pieces(text: str) -> list[str]:
    """Lines, cut after each sentence that ends in a formula; one or two newlines between them are pieces of their own.

    A line is so judged by its length without its end.
    """
    pieces = []
    for part in _LINE_ENDS.split(text):
        cuts = [0, *(match.end() for match in _SENTENCE_ENDS.finditer(part)), len(part)]
        pieces += [part[start:end] for start, end in itertools.pairwise(cuts) if end > start]
    return pieces


def _merge(pieces: list[str], index: int) -> int:
    """Merge a piece into its shorter neighbour, the right one if they are equal; return where the result stands."""
    last = len(pieces) - 1
    left = index == last or (index > 0 and len(pieces[index - 1]) < len(pieces[index + 1]))
    start = index - 1 if left else index
    pieces[start : start + 2] = ["".join(itertools.islice(pieces, start, start + 2))]
    return start
