"""Packages that the base install does without: what to install, told in one place."""

from collections.abc import Iterator
from contextlib import contextmanager

from ae_search.errors import ConfigurationError


def install(extra: str) -> str:
    """Return the command that installs an extra, one of those in `setup.cfg`."""
    return f"pip install 'ae-search[{extra}]'"


@contextmanager
def needs(what: str, extra: str, *, otherwise: str = "") -> Iterator[None]:
    """Import an optional package within this block.

    Args:
        what: What needs which package: "Pictures need matplotlib".
        extra: The extra that brings it.
        otherwise: What would do instead, added to the advice.

    Raises:
        ConfigurationError: The package cannot be imported.

    Example:
        with needs("Pictures need matplotlib", "plots"):
            from matplotlib.figure import Figure
    """
    try:
        yield
    except ImportError as error:
        raise ConfigurationError(f"{what}: {install(extra)}{otherwise}.") from error
