"""What the machine is asked to do with scans: the words of `coinstac-meshnet import` or `inspect`, and nothing more."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NoReturn

from computation.errors import ImportScanError
from computation.scans import command

__all__ = ["Order", "parsed"]


@dataclass(frozen=True)
class Order:
    """See above.

    Attributes
    ----------
    verb : str
        `import` or `inspect`.
    words : tuple of str
        What follows it on the command line, paths absolute.
    source, target : str
        Names below the root of what is read, and of the database.
    """

    verb: Literal["import", "inspect"]
    words: tuple[str, ...]
    source: str
    target: str

    @property
    def tries(self) -> bool:
        """Whether an import only says what it would do."""
        return "--dry-run" in self.words

    @property
    def line(self) -> str:
        """The same as a line for a terminal."""
        return shlex.join(["coinstac-meshnet", self.verb, *self.words])

    def as_json(self) -> dict[str, Any]:
        """Return the order as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Order:
        """Read an order that this software has written; raises `KeyError` or `TypeError` for what it has not."""
        verb: Literal["import", "inspect"] = "inspect" if raw["verb"] == "inspect" else "import"
        return cls(verb, tuple(map(str, raw["words"])), str(raw["source"]), str(raw["target"]))


class _Parser(argparse.ArgumentParser):
    """The command line's own, but for the end of the process."""

    def error(self, message: str) -> NoReturn:
        raise ImportScanError(message)


def parsed(verb: str, words: Sequence[str]) -> argparse.Namespace:
    """Return an order's words as the command itself reads them.

    Raises
    ------
    ImportScanError
        If it would not take them.
    """
    parser: argparse.ArgumentParser = _Parser(add_help=False)
    command.add_arguments(parser.add_subparsers(required=True))
    return parser.parse_args([verb, *words])
