"""A JSONL file of rows with keys, appended in whatever order they are finished and put in order at the end."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from harness.errors import InputError
from harness.store import AppendLog, from_dict, read_jsonl, write_rows

Row = TypeVar("Row")
Key = TypeVar("Key", bound=Hashable)


def complete(
    path: str | Path,
    kind: type[Row],
    key: Callable[[Row], Key],
    wanted: Sequence[Key],
    make: Callable[[list[Key]], Iterable[Row]],
    *,
    settings: str,
    weights: str,
    progress: Callable[[int], None] = lambda count: None,
) -> list[Row]:
    """Make the rows that the file lacks, and return all wanted ones in their order.

    Rows that are in the file already are kept, so a run that was killed continues, and so does one that wants more than
    before. At the end the file is in the order wanted, whatever order the rows finished in.

    Args:
        path: JSONL file; it need not exist.
        kind: dataclass of a row, with fields `settings` and `weights`.
        key: of a row.
        wanted: distinct keys.
        make: makes the rows of the missing keys, in any order.
        settings: fingerprint of all that decides what a row holds; written to each.
        weights: fingerprint of the policy.
        progress: told how many more rows there are, first those found in the file.

    Raises:
        InputError: a row in the file was made with other settings or other weights.
    """
    with AppendLog(path) as log:
        found: dict[Key, Any] = {}
        for number, data in read_jsonl(path):
            row: Any = from_dict(kind, data)
            for what, now, then in (("settings", settings, row.settings), ("weights", weights, row.weights)):
                if now != then:
                    raise InputError(
                        f"{path}:{number}: this row was made with other {what} ({then}, now {now}); "
                        "write to another file, or delete this one to make it again."
                    )
            found[key(row)] = row
        missing = [name for name in wanted if name not in found]
        progress(len(wanted) - len(missing))
        for made in make(missing) if missing else ():
            row = replace(made, settings=settings)  # type: ignore[type-var]
            log.extend([row])
            found[key(row)] = row
            progress(1)
    if missing:
        order = {name: rank for rank, name in enumerate(wanted)}
        write_rows(path, sorted(found.values(), key=lambda row: order.get(key(row), len(order))))
    return [found[name] for name in wanted]
