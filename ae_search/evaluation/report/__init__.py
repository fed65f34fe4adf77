"""The report of an evaluation: one HTML file that loads nothing, for people."""

from pathlib import Path

from ae_search.errors import ConfigurationError
from ae_search.evaluation.report.page import page
from ae_search.evaluation.results import Evaluation
from ae_search.files import trouble_in_words, write_atomically

__all__ = ["write_report"]


def write_report(evaluation: Evaluation, path: Path) -> Path:
    """Write an evaluation as one HTML file with pictures and charts, without scripts and without network access.

    Texts of the index are escaped, and its pictures decoded and encoded anew. The pictures together take 2 MiB at most.

    Args:
        evaluation: What was found.
        path: The file; an existing one is replaced.

    Returns:
        `path`.

    Raises:
        ConfigurationError: `path` cannot be written.
    """
    if path.is_dir() or not path.parent.is_dir():
        reason = "it is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise ConfigurationError(f"Cannot write the report {path}: {reason}.")
    try:
        write_atomically(path, page(evaluation))
    except OSError as error:
        raise ConfigurationError(f"Cannot write the report {path}: {trouble_in_words(error)}.") from error
    return path
