"""The version folders under a model base path, as TensorFlow Serving sees them."""

from pathlib import Path

from ae_search.errors import ConfigurationError

SAVED_MODEL = "saved_model.pb"
MAX_VERSION = 2**63 - 1
# Any number of leading zeros fits into a file name; Python reads no number of more than 4300 digits.
_MAX_DIGITS = 255


def version_number(text: str) -> int | None:
    """Return the version that a text names: a whole number up to 2**63 - 1, leading zeros allowed; None for others."""
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        return None
    return number if (number := int(text)) <= MAX_VERSION else None


def version_folders(base_path: Path) -> dict[int, Path]:
    """Return the folders below a base path that are named by a version.

    Raises:
        ConfigurationError: The base path is no folder that can be read.
    """
    found: dict[int, Path] = {}
    try:
        # The longest name first, so that of `7` and `007` the plain one is taken.
        for folder in sorted(base_path.iterdir(), key=lambda path: -len(path.name)):
            version = version_number(folder.name)
            if version is not None and folder.is_dir():
                found[version] = folder
    except OSError as error:
        raise ConfigurationError(f"The model base path {base_path} cannot be read: {error.strerror}.") from error
    return found


def require_version_folders(base_path: Path) -> dict[int, Path]:
    """Return the version folders of a base path, at least one.

    Raises:
        ConfigurationError: There is none.
    """
    found = version_folders(base_path)
    if not found and (base_path / SAVED_MODEL).is_file():
        raise ConfigurationError(
            f"{base_path} is a SavedModel and no model base path; expected the folder above its versions."
        )
    if not found:
        raise ConfigurationError(f"The model base path {base_path} has no version folder such as {base_path / '1'}.")
    return found


def next_version(base_path: Path) -> int:
    """Return the version after the highest one of a base path.

    Raises:
        ConfigurationError: The base path cannot be read, or has the highest version that there can be.
    """
    newest = max(version_folders(base_path), default=0)
    if newest == MAX_VERSION:
        raise ConfigurationError(
            f"{base_path} has version {MAX_VERSION}, and no number is higher; export below another base path."
        )
    return newest + 1
