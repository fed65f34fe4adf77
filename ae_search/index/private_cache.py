"""What this user's processes remember for each other, where nobody else may write."""

import os
import stat
from pathlib import Path


def private_cache(name: str) -> Path | None:
    """Return a folder of this user's cache that nobody else may write, made where missing; None where there is none.

    Args:
        name: The folder's own name.
    """
    given = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(given if os.path.isabs(given) else os.path.expanduser("~/.cache"))
    if not base.is_absolute():
        return None
    folder = base / "ae-search" / name
    try:
        # A cache of another user, as that of the one who called sudo, is not ours to fill.
        if not folder.is_dir() and (base if base.exists() else base.parent).stat().st_uid == os.geteuid():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = os.lstat(folder)
    except OSError:
        return None
    is_ours = found.st_uid == os.geteuid() and not found.st_mode & 0o022
    return folder if stat.S_ISDIR(found.st_mode) and is_ours else None
