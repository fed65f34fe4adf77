"""The answers of a query: as tables for a person, as JSON for a program."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ae_search.cli.terminal import show_table
from ae_search.contract import Neighbour
from ae_search.errors import ImageError

_FIELDS = ("rank", "key", "label", "similarity", "distance", "metadata")


@dataclass
class Answer:
    """What was found for one query.

    Attributes:
        query: The file or key that was asked with.
        file: The image file; None for a key.
        neighbours: What was found, the nearest first.
        plain: Whether it is of one colour, so that its neighbours mean nothing.
        error: Why it could not be searched with, None where it could.
    """

    query: str
    file: Path | None
    neighbours: list[Neighbour] = field(default_factory=list)
    plain: bool = False
    error: ImageError | None = None


def print_answers(answers: Sequence[Answer]) -> None:
    """Print a table for each query that was answered."""
    for answer in answers:
        if answer.error is None:
            rows = [(str(n.rank), n.key, n.label or "", f"{n.similarity:.4f}") for n in answer.neighbours]
            show_table(answer.query, ("rank", "key", "label", "similarity"), rows)


def to_json(answers: Sequence[Answer], sources: Sequence[str]) -> str:
    """Return the answers as a JSON list, one object a query.

    Args:
        answers: What was found.
        sources: Names of the sources that the items were indexed from.
    """
    roots = [root for root in map(Path, sources) if root.is_absolute()]
    rows = []
    for answer in answers:
        found = [
            {name: getattr(n, name) for name in _FIELDS} | {"path": path_of(n.key, roots)} for n in answer.neighbours
        ]
        error = {} if answer.error is None else {"error": str(answer.error)}
        rows.append({"query": answer.query, "plain": answer.plain, "neighbours": found} | error)
    return json.dumps(rows, indent=2)


def path_of(key: str, roots: Sequence[Path]) -> str | None:
    """Return where the file of a key lies, in the first folder that has it; None where none has, or it leads out."""
    parts = PurePosixPath(key).parts
    if not parts or ".." in parts or parts[0] == "/" or "\0" in key:
        return None
    files = (root.joinpath(*parts) for root in roots)
    return next((str(file) for file in files if _is_file(file)), None)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False
