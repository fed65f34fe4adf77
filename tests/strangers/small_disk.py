"""A disk that is almost full: a small file system in memory, of which a filler leaves some bytes."""

import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest

MIB = 2**20


@contextmanager
def small_disk(place: Path, size_mib: int = 24):
    """Mount it at `place`; yield a function that leaves so many bytes free. Skip where it cannot be mounted."""
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", str(place)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield lambda free: leave(place, free)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def leave(place: Path, free: int | None) -> None:
    """Fill the disk until `free` bytes are left; None removes the filler."""
    filler = place / "filler"
    filler.unlink(missing_ok=True)
    if free is None:
        return
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
        file.truncate(max(0, filler.stat().st_size - free))
