"""Log lines of failures that nobody foresaw: whoever can cause one can cause it without end."""

import logging

from ae_search.printable import printable

MAX_LINE = 300
# Beyond so many kinds no more tracebacks are written.
MAX_KINDS = 100

_seen: set[tuple[str, ...]] = set()


def unforeseen(log: logging.Logger, what: str, error: BaseException) -> None:
    """Log a failure: with its traceback the first time that its kind occurs in this process, in one line after that.

    Args:
        log: The logger of the caller.
        what: What failed.
        error: Why.
    """
    kind = (log.name, type(error).__name__, _place(error))
    new = kind not in _seen and len(_seen) < MAX_KINDS
    if new:
        _seen.add(kind)
    text = f"{what}: {type(error).__name__}: {error}"[:MAX_LINE]
    log.error("%s", printable(text), exc_info=error if new else None)


def _place(error: BaseException) -> str:
    """Return where it was raised."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return "" if traceback is None else f"{traceback.tb_frame.f_code.co_filename}:{traceback.tb_lineno}"
