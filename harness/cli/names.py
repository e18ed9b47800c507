"""Short names of classes in options and configuration files, and classes in files and packages of the user's.

`TopK` is `harness.selection.TopK` wherever a selector is asked for; `mylab/rewards.py:ShortIsGood` is the class in that
file; and what an installed package lists under an entry point such as `harness.rewards` has the name given there.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import sys
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import jsonargparse._typehints as typehints

from harness.errors import InputError


@dataclass(frozen=True)
class Kind:
    """What can be named in an option: the classes of one protocol or base class."""

    plural: str
    """Such as "rewards"; `harness.rewards` is the group of entry points."""
    home: str
    """The package whose `__all__` names the project's own."""
    base: str
    """Name of the protocol or base class."""
    marks: tuple[str, ...] = ("__call__",)
    """Methods that tell this kind from another one in the same package."""
    default: str = ""
    """Class of options that name none, such as `search: {rollouts: 8}`; "" is none."""
    known_to_parser: bool = False
    """The classes inherit from `base`, so that the parser finds imported ones by itself."""

    def names(self) -> dict[str, str]:
        """Short name -> class path of the project's own and of installed packages'."""
        package = importlib.import_module(self.home)
        found = {
            name: f"{self.home}.{name}"
            for name in package.__all__
            if inspect.isclass(found_class := getattr(package, name))
            and all(any(mark in vars(base) for base in found_class.__mro__) for mark in self.marks)
        }
        for point in entry_points(group=f"harness.{self.plural}"):
            found[point.name] = point.value.replace(":", ".")
        return found


KINDS: dict[str, Kind] = {
    kind.plural: kind
    for kind in (
        Kind("modules", "harness.modules", "LightningModule", ("training_step",), known_to_parser=True),
        Kind("datamodules", "harness.datamodules", "LightningDataModule", ("train_dataloader",), known_to_parser=True),
        Kind("callbacks", "harness.callbacks", "Callback", ("on_fit_start",), known_to_parser=True),
        Kind("rewards", "harness.rewards", "Reward"),
        Kind("searches", "harness.search", "SearchMethod"),
        Kind("tree_searches", "harness.search", "TreeSearch", ("grow",), default="harness.search.MCTS"),
        Kind("schedulers", "harness.selection", "SamplingScheduler", ("decide",)),
        Kind("selectors", "harness.selection", "Selector"),
    )
}
"""All kinds, by their plural."""

_BASES = {kind.base: kind for kind in KINDS.values()}
_started_in: ContextVar[Path | None] = ContextVar("_started_in", default=None)
_adapt, _resolve = typehints.adapt_typehints, typehints.resolve_class_path_by_name


@contextlib.contextmanager
def files_from_here() -> Iterator[None]:
    """Find `FILE.py:NAME` from the folder that is current now, though the parser enters that of each config file."""
    token = _started_in.set(_started_in.get() or Path.cwd())
    try:
        yield
    finally:
        _started_in.reset(token)


def full_name(kind: Kind, name: str) -> str:
    """The class path that a user's name for a class means; a class path is returned as it is.

    Raises:
        InputError: a file that does not exist or whose name is another module's.
    """
    if ".py:" in name:
        return _in_file(name)
    if not name.isidentifier() or name.lower() in ("null", "none"):
        owner, _, method = name.partition(".")
        # A class's own constructor, such as MCTS.paper.
        return f"{known}.{method}" if method.isidentifier() and (known := kind.names().get(owner)) else name
    # Lightning's own short names, such as ModelCheckpoint, are known to the parser; a protocol's classes are not.
    return kind.names().get(name, name if kind.known_to_parser else f"{kind.home}.{name}")


def _in_file(name: str) -> str:
    """`folder/file.py:Name` as a class path, found from the current folder or else from the file's."""
    given, _, attribute = name.rpartition(":")
    here = _started_in.get() or Path.cwd()
    path = (here / given).resolve()
    if not path.is_file():
        raise InputError(f"{given}: no such file; give FILE.py:NAME with the path of an existing file.")
    folder = here if path.is_relative_to(here) else path.parent
    module = ".".join(path.relative_to(folder).with_suffix("").parts)
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    imported = importlib.import_module(module)
    if Path(getattr(imported, "__file__", None) or "").resolve() != path:
        raise InputError(f"{given}: another module is called '{module}'; give the file another name.")
    return f"{module}.{attribute}"


def _adapt_with_names(value: Any, typehint: Any, **options: Any) -> Any:
    kind = _BASES.get(getattr(typehint, "__name__", ""))
    if kind is not None:
        if isinstance(value, str):
            value = full_name(kind, value)
        elif isinstance(value, Mapping | typehints.Namespace) and isinstance(value.get("class_path"), str):
            named = full_name(kind, value["class_path"])
            if named != value["class_path"]:
                value = value.clone() if isinstance(value, typehints.Namespace) else dict(value)
                value["class_path"] = named
        if kind.default and not isinstance(options.get("prev_val"), typehints.Namespace):
            options["prev_val"] = typehints.Namespace(class_path=kind.default)
    return _adapt(value, typehint, **options)


def _resolve_with_names(cls: Any, name: str) -> str:
    for each in cls if isinstance(cls, tuple) else (cls,):
        kind = _BASES.get(getattr(each, "__name__", ""))
        if kind is not None and (found := full_name(kind, name)) != name:
            return found
    return _resolve(cls, name)


def understand_names() -> None:
    """Have jsonargparse take these names in every parser; it has no public way to add names of a protocol's classes."""
    typehints.adapt_typehints = _adapt_with_names  # type: ignore[assignment]
    typehints.resolve_class_path_by_name = _resolve_with_names
