"""Replies written by hand: a server for searches that holds no model."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.search import drive
from harness.types import Completion, Execute, Execution, Generate, Judge, Problem, Reply, Request, Score

Written = str | tuple[str, str]
"""A sampled text, and its finish reason where that is not plain from a final newline or marker."""


def completion(text: Written) -> Completion:
    words, reason = text if isinstance(text, tuple) else (text, "step" if text.endswith(("\n", ">")) else "stop")
    return Completion(words, tuple(map(ord, words)), -float(len(words)), reason)  # type: ignore[arg-type]


class Script:
    """Answers from tables; `order` decides which of the waiting requests is answered next.

    Args:
        samples: what follows a partial response, by its text; asked again, the rest of the list, then again from the
            start.
        values: rewards by text; others are 0.
        run: runs a program.
    """

    def __init__(
        self,
        samples: Mapping[str, Sequence[Written]] | Callable[[Generate, int, int], Sequence[Written]],
        values: Mapping[str, float] | Callable[[str], float] = {},  # noqa: B006 - read only
        run: Callable[[tuple[str, ...]], Execution] = lambda program: Execution(""),
        order: random.Random | None = None,
    ) -> None:
        self.samples, self.values, self.run, self.order = samples, values, run, order
        self.requests: list[Request] = []
        self._asked: Counter[Any] = Counter()
        self._waiting: list[tuple[str, Request]] = []

    def submit(self, key: str, request: Request) -> None:
        assert key not in [other for other, _ in self._waiting]
        self.requests.append(request)
        self._waiting.append((key, request))

    @property
    def pending(self) -> bool:
        return bool(self._waiting)

    def next(self) -> tuple[str, Reply]:
        index = self.order.randrange(len(self._waiting)) if self.order else 0
        key, request = self._waiting.pop(index)
        match request:
            case Generate():
                return key, [self._generate(key, request, i) for i in range(len(request.prefixes))]
            case Judge():
                return key, [Score(self._value(response.text)) for response in request.responses]
            case Execute():
                return key, [self.run(program) for program in request.programs]

    def _generate(self, key: str, request: Generate, index: int) -> list[Completion]:
        n, text = request.sampling.n, request.prefixes[index].text
        if callable(self.samples):
            texts = self.samples(request, self._asked[key], index)
            self._asked[key] += index == len(request.prefixes) - 1
            return [completion(text) for text in texts]
        start = self._asked[text]
        self._asked[text] += n
        table = self.samples[text]
        return [completion(table[(start + i) % len(table)]) for i in range(n)]

    def _value(self, text: str) -> float:
        return self.values(text) if callable(self.values) else self.values.get(text, 0.0)


def result(search: Any, script: Script) -> Any:
    """What one search returns."""
    [(_, found)] = drive([("key", search)], script)
    return found


PROBLEM = Problem("p", "question", "1")
