"""The version folders under a model base path."""

from pathlib import Path

from ae_search.errors import ConfigurationError

SAVED_MODEL = "saved_model.pb"
MAX_VERSION = 2**63 - 1


def version_folders(base_path: Path) -> dict[int, Path]:
    """Return the version folders of a base path: those named by a whole number, leading zeros allowed.

    Raises:
        ConfigurationError: The base path is no folder that can be read.
    """
    found: dict[int, Path] = {}
    try:
        # The longest name first, so that of `7` and `007` the plain one is taken.
        for folder in sorted(base_path.iterdir(), key=lambda path: -len(path.name)):
            named = folder.name.isascii() and folder.name.isdigit()
            if named and int(folder.name) <= MAX_VERSION and folder.is_dir():
                found[int(folder.name)] = folder
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
