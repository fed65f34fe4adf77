"""Local files that a stranger may have put there: none is waited for, none is read without end."""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from ae_search.data.sources.source import Stamp, damaged
from ae_search.image_file import MAX_FILE_MIB

_MAX_BYTES = MAX_FILE_MIB * 2**20


def read_local(path: Path | str, *, count: int | None = None) -> bytes:
    """Return the bytes of a regular file; links are followed.

    Args:
        path: The file.
        count: Bytes to read from its beginning, at most; None for all of it.

    Raises:
        ImageError: It is gone, is no regular file, cannot be read, or is too large to be read as a whole.
    """
    try:
        # Looked at before it is opened: opening has effects of its own on a device. Without O_NONBLOCK, a pipe that
        # takes the file's place in between would be waited for.
        _check_regular(path, os.stat(path))
        with open(path, "rb", opener=_without_waiting) as file:
            found = os.fstat(file.fileno())
            _check_regular(path, found)
            if count is not None:
                return file.read(count)
            if found.st_size > _MAX_BYTES:
                raise damaged(str(path), f"larger than {MAX_FILE_MIB} MiB")
            data = file.read(_MAX_BYTES + 1)  # it may have grown
    except FileNotFoundError as error:
        raise damaged(str(path), "there is no such image file") from error
    except (OSError, ValueError) as error:
        raise damaged(str(path), f"cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if len(data) > _MAX_BYTES:
        raise damaged(str(path), f"larger than {MAX_FILE_MIB} MiB")
    return data


def local_stamp(path: Path) -> Stamp:
    """Return size and time of a file.

    Raises:
        ImageError: It is gone, or no regular file.
    """
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:
        raise damaged(str(path), f"cannot be read ({getattr(error, 'strerror', None) or error})") from error
    _check_regular(path, found)
    return Stamp(found.st_size, found.st_mtime_ns)


def _check_regular(path: Path | str, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise damaged(str(path), "no regular file")


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)


def open_local(path: Path | str) -> BinaryIO:
    """Open a regular file that may be of any size; links are followed.

    Raises:
        OSError: It cannot be opened, or is no regular file.
    """
    file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return file
