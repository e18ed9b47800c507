"""The unit tests of coding benchmarks, from the columns in which each publishes them."""

from __future__ import annotations

import base64
import binascii
import io
import json
import pickle
import zlib
from collections.abc import Mapping
from typing import Any

from harness.errors import InputError
from harness.store import to_row
from harness.types import UnitTest


def unit_tests(row: Mapping[str, Any], place: str) -> tuple[UnitTest, ...]:
    """The tests of a row of a coding benchmark, or of one in the project's own form (`tests`).

    The benchmarks are HumanEval, MBPP, APPS, LiveCodeBench and CRUXEval's input prediction.

    Raises:
        InputError: the row has none of the known columns, or they cannot be read.
    """
    if "tests" in row:
        return tuple(to_row(UnitTest, test, place) for test in row["tests"] or ())
    if "entry_point" in row and "test" in row:  # HumanEval: the test defines check(candidate)
        return (UnitTest(check=f"{row['test']}\ncheck({row['entry_point']})\n"),)
    if "test_list" in row:  # MBPP
        setup = "\n".join(row.get("test_imports") or ()) or str(row.get("test_setup_code") or "")
        return (UnitTest(check="\n".join([setup, *row["test_list"]])),)
    if {"code", "input", "output"} <= row.keys():  # CRUXEval: any arguments that give the output are right
        return (UnitTest(check=f"{row['code']}\n\nassert f(*arguments()) == {row['output']}\n"),)
    if "input_output" in row:
        return _apps(row["input_output"], place)
    if "public_test_cases" in row:
        return _live_code_bench(row, place)
    raise InputError(
        f"{place}: no unit tests (columns tests, test, test_list, input_output or public_test_cases); found "
        f"{sorted(row)}."
    )


def _apps(text: Any, place: str) -> tuple[UnitTest, ...]:
    """APPS: JSON with `inputs`, `outputs` and, where a function is called, `fn_name`."""
    try:
        data = json.loads(text) if isinstance(text, str) else text
        pairs = list(zip(data["inputs"], data["outputs"], strict=True))
    except (TypeError, KeyError, ValueError) as error:
        raise InputError(f"{place}: the column 'input_output' cannot be read ({error!r}).") from None
    if name := data.get("fn_name"):
        # The one result stands in a list of its own in most rows.
        results = [out[0] if isinstance(out, list) and len(out) == 1 else out for _, out in pairs]
        return tuple(
            UnitTest(json.dumps(given), json.dumps(result), name)
            for (given, _), result in zip(pairs, results, strict=True)
        )
    return tuple(UnitTest(_lines(given), _lines(wanted)) for given, wanted in pairs)


def _lines(value: Any) -> str:
    return "\n".join(map(str, value)) if isinstance(value, list) else str(value)


def _live_code_bench(row: Mapping[str, Any], place: str) -> tuple[UnitTest, ...]:
    """LiveCodeBench: JSON lists of `input`, `output`, `testtype`, the private one packed; `metadata` names a method."""
    try:
        cases = [*json.loads(row["public_test_cases"]), *json.loads(_unpacked(row.get("private_test_cases") or "[]"))]
        name = json.loads(row.get("metadata") or "{}").get("func_name") or ""
        return tuple(
            UnitTest(json.dumps([json.loads(line) for line in case["input"].splitlines()]), case["output"], name)
            if case["testtype"] == "functional"
            else UnitTest(case["input"], case["output"])
            for case in cases
        )
    except (TypeError, KeyError, ValueError, binascii.Error, zlib.error, pickle.UnpicklingError, EOFError) as error:
        raise InputError(f"{place}: the columns of test cases cannot be read ({error!r}).") from None


def _unpacked(text: str) -> str:
    """A column as published: JSON as it stands, or a text that is pickled, compressed and in base64."""
    if text.lstrip().startswith("["):
        return text
    found = _TextOnly(io.BytesIO(zlib.decompress(base64.b64decode(text)))).load()
    if not isinstance(found, str):
        raise ValueError(f"a {type(found).__name__} is packed, no text")
    return found


class _TextOnly(pickle.Unpickler):
    """Reads pickled builtin values and loads no class or function, so that a file cannot run code."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} is packed, no text")
