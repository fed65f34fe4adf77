"""The answers of a query: as tables for a person, as JSON for a program."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ae_search.calibration import Verdict
from ae_search.cli.terminal import show_table
from ae_search.contract import Neighbour
from ae_search.errors import ImageError
from ae_search.explaining import Explanation
from ae_search.search import Candidate
from ae_search.trust import Trusted

_FIELDS = ("rank", "key", "label", "similarity", "distance", "metadata")


@dataclass
class Answer:
    """What was found for one query.

    Attributes:
        query: The file or key that was asked with.
        file: The image file; None for a key.
        neighbours: What was found, the nearest first.
        plain: Whether it is of one colour, so that its neighbours mean nothing.
        candidates: For its original, the best first; None where it was not asked for.
        error: Why it could not be searched with, None where it could.
        trusted: Whether it is like what the model was trained on; None where that was not looked at.
        why: Why it and its first neighbour are similar; None where that was not asked for.
    """

    query: str
    file: Path | None
    neighbours: list[Neighbour] = field(default_factory=list)
    plain: bool = False
    candidates: list[Candidate] | None = None
    error: ImageError | None = None
    trusted: Trusted | None = None
    why: Explanation | None = None


def print_answers(answers: Sequence[Answer]) -> None:
    """Print a table for each query that was answered."""
    for answer in answers:
        if answer.error is None and answer.candidates is not None:
            judged = [
                (verdict, n.key, n.label or "", _figure(score), _figure(n.similarity))
                for verdict, score, n in answer.candidates
            ]
            title = f"{answer.query}: {verdict_of(answer.candidates)}"
            show_table(title, ("verdict", "key", "label", "score", "similarity"), judged)
        elif answer.error is None:
            rows = [(str(n.rank), n.key, n.label or "", _figure(n.similarity)) for n in answer.neighbours]
            show_table(answer.query, ("rank", "key", "label", "similarity"), rows)


def verdict_of(candidates: Sequence[Candidate]) -> Verdict:
    """Return what is said of a query: the verdict on its best candidate."""
    return candidates[0].verdict if candidates else "not here"


def _figure(value: float) -> str:
    return f"{value:.4f}"


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
        told: dict[str, Any] = {"query": answer.query, "plain": answer.plain, "neighbours": found}
        if answer.candidates is not None:
            told["verdict"] = verdict_of(answer.candidates)
            for row, candidate in zip(found, answer.candidates, strict=True):
                row |= {"verdict": candidate.verdict, "score": candidate.score}
        if answer.trusted is not None:
            told["trust"] = answer.trusted.trust.to_json()
        if answer.why is not None:
            told["why"] = _why_of(answer.why)
        rows.append(told if answer.error is None else told | {"error": str(answer.error)})
    return json.dumps(rows, indent=2)


def _why_of(why: Explanation) -> dict[str, Any]:
    """Return what can be said of an explanation without pictures."""
    return {
        "key": why.key,
        "similarity": why.similarity,
        "mean_agreement": float(why.agreement.mean()),
        "parts": [{"dimension": part.dimension, "contribution": part.contribution} for part in why.parts],
        "rest": why.rest,
    }


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
