"""The samples of a page: compressed blocks that a browser unpacks when somebody looks at them."""

from __future__ import annotations

import base64
import gzip
import heapq
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

from harness.report.formulas import Formulas, texts_of
from harness.store import GZIP_LEVEL, stable_hash

BLOCK = 400_000
"""Characters of JSON after which a block is full: it is unpacked in a few milliseconds."""
EXCERPT = 120
"""Characters of a question in the list of problems."""
VERDICTS = {"ok": "0", "no_answer": "n", "parse_failure": "p", "timeout": "t"}
"""Letter of a wrong response in a problem's line of the index; a right one is 1. The page's script knows them."""

Pick = Literal["random", "hardest", "first"]


@dataclass(frozen=True)
class Choice:
    """Which problems of a run the page holds."""

    max_problems: int | None = None
    """None is all of them."""
    pick: Pick = "random"
    """Which, where there are more: the same random ones of all runs, those with fewest right responses, the first."""
    seed: int = 0
    """Of `random`, and of the order of equally hard ones."""

    def rank(self, record: dict[str, Any], position: int) -> tuple[float, int]:
        """The smallest are taken."""
        if self.pick == "first":
            return 0.0, position
        rows = record["responses"]
        share = sum(row.get("correct", False) for row in rows) / len(rows) if rows else 0.0
        return share if self.pick == "hardest" else 0.0, stable_hash(self.seed, record["id"])

    def __call__(self, records: Iterable[dict[str, Any]], seen: list[int]) -> Iterator[dict[str, Any]]:
        """The chosen records in their order, holding no more than these in memory; `seen[0]` counts all."""
        if self.max_problems is None:
            for record in records:
                seen[0] += 1
                yield record
            return
        kept: list[tuple[float, int, int, dict[str, Any]]] = []  # a heap, the first to go in front
        for position, record in enumerate(records):
            seen[0] += 1
            share, number = self.rank(record, position)
            # Positions differ, so that records are never compared.
            heapq.heappush(kept, (-share, -number, -position, record))
            if len(kept) > self.max_problems:
                heapq.heappop(kept)
        for *_, record in sorted(kept, key=lambda each: -each[2]):
            yield record


class BlockWriter:
    """Writes blocks into the page as they fill, so that no more than one is held in memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._formulas = Formulas()
        self.count = 0

    def block(self, text: str) -> int:
        """Write a JSON text; the number by which the page finds it."""
        packed = base64.b64encode(gzip.compress(text.encode(), GZIP_LEVEL, mtime=0))
        self._file.write(b'<script type="text/plain" id="block-%d">%b</script>\n' % (self.count, packed))
        self.count += 1
        return self.count - 1

    def problems(self, records: Iterable[dict[str, Any]], choice: Choice) -> dict[str, Any]:
        """Write the chosen problems with their responses; where the page finds them.

        Args:
            records: each with `id`, `question`, `level`, `subject` and `responses` (or `trees`, whose leaves the page's
                script makes responses of).

        Returns:
            `index`: the block with a line for each problem, in columns; `blocks`: (number, problems) of those with the
            samples; `kept`: problems in the page; `total`: problems of the run.
        """
        index: dict[str, list[Any]] = {name: [] for name in ("id", "question", "level", "subject", "verdicts", "cut")}
        seen, blocks = [0], []
        lines: list[str] = []
        formulas: dict[str, str] = {}
        size = 0
        for record in choice(records, seen):
            for name in ("id", "level", "subject"):
                index[name].append(record[name])
            index["question"].append(record["question"][:EXCERPT])
            rows = record["responses"]
            index["verdicts"].append("".join("1" if row.get("correct") else VERDICTS[row["status"]] for row in rows))
            cut = "".join("1" if row.get("truncated") else "0" for row in rows)
            index["cut"].append(cut if "1" in cut else "")
            formulas |= self._formulas.of(texts_of(record))
            lines.append(as_text(record))
            size += len(lines[-1])
            if size >= BLOCK:
                blocks.append([self._samples(lines, formulas), len(lines)])
                lines, formulas, size = [], {}, 0
        if lines:
            blocks.append([self._samples(lines, formulas), len(lines)])
        number = self.block(as_text(index))
        return {"index": number, "blocks": blocks, "kept": len(index["id"]), "total": seen[0]}

    def _samples(self, lines: list[str], formulas: dict[str, str]) -> int:
        return self.block(f'{{"problems": [{", ".join(lines)}], "formulas": {as_text(formulas)}}}')


def as_text(value: Any) -> str:
    """JSON that a browser reads: no NaN, and characters as they are."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
