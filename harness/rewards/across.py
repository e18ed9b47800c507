"""Assertions in one process about a program in another: this text runs inside the sandbox, on both sides.

On the side of the assertions every name that they do not define stands for the program's. What they do with it (calls,
attributes) is an operation; the program's side performs a list of them, and only plain values come back. So a program
can neither see nor change the assertions, nor what they compare with. Imports nothing of the harness.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import importlib
import json
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

MAX_OPERATIONS = 10_000
MAX_GUESSES = 100_000
"""Uses of results that are not known yet; assertions that go beyond wait for the results."""
MAX_ITEMS = 100_000
"""Items read of an iterator."""
SEQUENCES: dict[str, Callable[..., Any]] = {"tuple": tuple, "set": set, "frozenset": frozenset, "iterator": iter}


class Stop(BaseException):
    """The assertions cannot go on without results."""


class CannotPass(TypeError):
    """The assertions hand the program what is no plain value and not the program's own."""


# ---- values


def encode(value: Any, refer: Callable[[Any], Any]) -> Any:
    """A plain value as JSON, other objects by `refer`; subclasses of plain types as those types."""
    if value is None or isinstance(value, bool):
        return value
    for kind, plain in ((str, str), (float, float), (Fraction, str), (Decimal, str)):
        if isinstance(value, kind):
            return plain(value) if kind is plain else {"type": kind.__name__, "value": plain(value)}
    if isinstance(value, int):
        return int(value) if abs(value) < 1 << 63 else {"type": "int", "value": hex(value)}
    if isinstance(value, complex):
        return {"type": "complex", "value": [value.real, value.imag]}
    if isinstance(value, (bytes, bytearray)):
        return {"type": type(value).__name__, "value": value.hex()}
    if isinstance(value, dict):
        return {"type": "dict", "value": [[encode(part, refer) for part in item] for item in value.items()]}
    if isinstance(value, list):
        return [encode(item, refer) for item in value]
    for name, sort in (("tuple", tuple), ("set", set), ("frozenset", frozenset), ("iterator", Iterator)):
        if isinstance(value, sort):
            return {"type": name, "value": [encode(item, refer) for item, _ in zip(value, range(MAX_ITEMS))]}  # noqa: B905
    if isinstance(value, range):
        return {"type": "range", "value": [value.start, value.stop, value.step]}
    return refer(value)


def decode(data: Any, resolve: Callable[[int], Any]) -> Any:
    """The value that `encode` wrote; `resolve` finds what a reference stands for."""
    if isinstance(data, list):
        return [decode(item, resolve) for item in data]
    if not isinstance(data, dict):
        return data
    kind, value = data["type"], data["value"]
    if kind == "reference":
        return resolve(value)
    if kind == "int":
        return int(value, 16)
    if kind == "complex":
        return complex(*value)
    if kind in ("bytes", "bytearray"):
        return getattr(builtins, kind)(bytes.fromhex(value))
    if kind in ("Fraction", "Decimal"):
        return {"Fraction": Fraction, "Decimal": Decimal}[kind](value)
    if kind == "dict":
        return {decode(key, resolve): decode(item, resolve) for key, item in value}
    if kind == "range":
        return range(*value)
    return SEQUENCES[kind](decode(value, resolve))


def reference(number: int) -> dict[str, Any]:
    """What stands for the result of an operation."""
    return {"type": "reference", "value": number}


# ---- the program's side


def perform(source: str, operations: list[Any]) -> None:
    """Run a program, then the operations on what it defines; print the results as one line of JSON."""
    scope: dict[str, Any] = {"__name__": "__main__"}
    with contextlib.suppress(SystemExit):
        exec(compile(source, "<solution>", "exec"), scope)
    values: list[Any] = []
    results = [_performed(operation, scope, values) for operation in operations]
    print("\n" + json.dumps(results))


def _performed(operation: list[Any], scope: dict[str, Any], values: list[Any]) -> list[Any]:
    kind, *parts = operation
    number = len(values)
    values.append(None)
    arguments: list[Any] = []
    try:
        if kind == "name":
            if parts[0] not in scope:
                raise NameError(f"name {parts[0]!r} is not defined")
            value = scope[parts[0]]
        else:
            subject, *arguments = decode(parts, values.__getitem__)
            if kind == "call":
                value = subject(*arguments[0], **arguments[1])
            else:
                value = (setattr if kind == "set" else getattr)(subject, *arguments)
        values[number] = value
        after = [encode(argument, lambda other: None) for argument in arguments[0]] if kind == "call" else []
        # An iterator is used up by encoding it; what later operations get is a new one over the same items.
        found = encode(value, lambda other: reference(number))
        if isinstance(value, Iterator):
            values[number] = decode(found, values.__getitem__)
        return ["value", found, after]
    except BaseException as error:
        return ["raised", type(error).__name__, str(error)[:500]]


# ---- the assertions' side


def judge(source: str, operations: list[Any], results: str) -> None:
    """Run assertions, given the results of operations as `perform` printed them."""
    Assertions(operations, json.loads(results)).run(source)


class Assertions:
    """Runs assertions with the results of earlier operations, and guesses on beyond them to learn what else is asked.

    Beyond the first operation without a result (`guessing`) nothing fails; what is asked there may change once the
    results are known, so it is asked again until all of it agrees.
    """

    def __init__(self, operations: list[Any], results: list[Any]) -> None:
        self.results = results
        known = zip(operations, results, strict=True)
        self.known = [json.dumps(self._filled(operation)) for operation, _ in known]
        self.asked: list[Any] = []
        self.guessing = False
        self.guesses = 0

    def _filled(self, operation: Any) -> Any:
        """The operation with plain results in the place of references to them."""
        if isinstance(operation, list):
            return [self._filled(part) for part in operation]
        if isinstance(operation, dict) and operation["type"] == "reference":
            status, value, *_ = self.results[operation["value"]]
            return value if status == "value" else operation
        if isinstance(operation, dict):
            return {"type": operation["type"], "value": self._filled(operation["value"])}
        return operation

    def ask(self, kind: str, *parts: Any) -> Any:
        """The result of an operation, or a guess."""
        number = len(self.asked)
        if number >= MAX_OPERATIONS:
            raise Stop
        operation = [kind, *(encode(part, _refer) for part in parts)]
        self.asked.append(operation)
        if number >= len(self.known) or self.known[number] != json.dumps(operation):
            self.guessing = True
        if self.guessing:
            return (Remote if kind == "name" else Guess)(self, number)
        status, value, after = self.results[number]
        if status == "raised":
            known = getattr(builtins, value, None)
            raise (
                known if isinstance(known, type) and issubclass(known, Exception) else type(value, (Exception,), {})
            )(after)
        for argument, encoded in zip(parts[1] if kind == "call" else (), after, strict=True):
            _update(argument, decode(encoded, self._remote))
        return decode(value, self._remote)

    def guess(self) -> None:
        """Count a use of a result that is not known."""
        self.guesses += 1
        if self.guesses > MAX_GUESSES:
            raise Stop

    def _remote(self, number: int) -> Remote:
        return Remote(self, number)

    def run(self, source: str) -> None:
        """Print what is to be asked, or null when all assertions passed; raise what they raise."""
        tree = ast.parse(source)
        scope = _Scope(self, *names_of(tree))
        tolerant = ast.fix_missing_locations(_Tolerant().visit(tree))
        try:
            exec(compile(tolerant, "<test>", "exec"), scope)
        except CannotPass:
            raise
        except BaseException:
            if not self.guessing:
                raise
        print("\n" + json.dumps(self.asked if self.guessing else None))


class Remote:
    """Something of the program's that is no plain value: a function, a class, an object. Equal to itself only."""

    def __init__(self, side: Assertions, number: int) -> None:
        self.__dict__.update(_side=side, _number=number)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._side.ask("call", self, list(arguments), named)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._side.ask("get", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._side.ask("set", self, name, value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Remote) and other._number == self._number

    def __hash__(self) -> int:
        return hash(self._number)


class Guess(Remote):
    """A result that is not known yet, taken for a plain value: whatever is done with it goes well.

    What is made from it has no number, and cannot be given to the program before the results are there.
    """

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return Guess(self._side, -1)

    def __getattr__(self, name: str) -> Any:
        return Guess(self._side, -1)

    def __copy__(self, *_: Any) -> Guess:
        return self

    __deepcopy__ = __copy__

    def __bool__(self) -> bool:
        self._side.guess()
        return True


def _guessed(value: Any) -> Callable[..., Any]:
    def method(self: Guess, *others: Any) -> Any:
        self._side.guess()
        return Guess(self._side, -1) if value is Guess else value() if callable(value) else value

    return method


OPERATORS = """
    add sub mul matmul truediv floordiv mod divmod pow lshift rshift and or xor
    radd rsub rmul rmatmul rtruediv rfloordiv rmod rdivmod rpow rlshift rrshift rand ror rxor
    neg pos abs invert round trunc floor ceil getitem eq ne lt le gt ge reversed
"""
for _name in OPERATORS.split():
    setattr(Guess, f"__{_name}__", _guessed(Guess))
for _name, _value in {"len": 0, "int": 0, "index": 0, "float": 0.0, "complex": 0j, "contains": True, "hash": 0}.items():
    setattr(Guess, f"__{_name}__", _guessed(_value))
for _name, _make in {"iter": lambda: iter(()), "str": str, "setitem": lambda: None, "delitem": lambda: None}.items():
    setattr(Guess, f"__{_name}__", _guessed(_make))


def _refer(value: Any) -> Any:
    if not isinstance(value, Remote):
        raise CannotPass(f"a {type(value).__name__} cannot be given to a program in another process")
    if value._number < 0:
        raise Stop
    return reference(value._number)


def _update(argument: Any, after: Any) -> None:
    """Give a list, dict or set of the assertions' the contents that the program left in its copy."""
    if isinstance(argument, list):
        argument[:] = after
    elif isinstance(argument, (dict, set)):
        argument.clear()
        argument.update(after)


def names_of(tree: ast.Module) -> tuple[set[str], set[str]]:
    """What assertions leave undefined: modules of the standard library, and what the program is to define.

    A module is meant where only attributes of a name are used, as in `math.fabs(x)`. A builtin function is Python's,
    whatever the program calls by its name, unless it is all that the assertions can be about.
    """
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    bases = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    used = {node.id for node in names if isinstance(node.ctx, ast.Load)}
    modules = used & sys.stdlib_module_names - {node.id for node in names if id(node) not in bases}
    about = {name for name in used - modules if not hasattr(builtins, name)}
    called = [node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    return modules, about or set(called[:1])


class _Scope(dict[str, Any]):
    """The names of the assertions: their own, Python's, those of its modules, and all others from the program."""

    def __init__(self, side: Assertions, modules: set[str], about: set[str]) -> None:
        super().__init__({"__name__": "__test__", "__builtins__": builtins, "__side__": side})
        self.modules, self.about = modules, about

    def __missing__(self, name: str) -> Any:
        if hasattr(builtins, name) and name not in self.about:
            raise KeyError(name)  # so that Python looks among its own
        if name in self.modules:
            return importlib.import_module(name)
        found = self["__side__"].ask("name", name)
        if type(found) is Remote:  # a function or a class: asked for once
            self[name] = found
        return found


class _Tolerant(ast.NodeTransformer):
    """Lets an assertion pass while its values are guesses."""

    def visit_Assert(self, node: ast.Assert) -> ast.Assert:
        guessing = ast.parse("__side__.guessing", mode="eval").body
        return ast.Assert(ast.BoolOp(ast.Or(), [node.test, guessing]), node.msg)
