"""Whether the Annoy that is installed runs on this processor, tried in a process that may die of it.

Annoy is compiled for the processor that it is installed on. On an older one, its first instruction that is not known
there ends the process without a word. What was tried is remembered in the user's cache, by file and processor.
"""

import hashlib
import os
import signal
import subprocess
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

import annoy

from ae_search.errors import ConfigurationError
from ae_search.index.private_cache import private_cache

_TIMEOUT_S = 30.0
_PROCESSOR = Path("/proc/cpuinfo")
# What the first processor of the list takes; there may be hundreds of them.
_PROCESSOR_BYTES = 8192
_KEPT = 20
# Without the site's modules it starts in 20 ms. The loops over floats are what is compiled in the newest instructions.
_TRIAL = """
import sys
sys.path.insert(0, sys.argv[1])
import annoy
for metric in ("angular", "euclidean"):
    index = annoy.AnnoyIndex(128, metric)
    for item in range(300):
        index.add_item(item, [float(item * at % 7) for at in range(128)])
    index.build(2, 1)
    index.get_nns_by_item(0, 10, 100)
"""


@cache
def check_annoy() -> None:
    """Check once in this process that Annoy runs here.

    Raises:
        ConfigurationError: It was compiled for another processor.
    """
    library = _library()
    tried = _note_of(library)
    if tried is not None and tried.is_file():
        return
    command = [sys.executable, "-I", "-S", "-c", _TRIAL, str(Path(annoy.__file__).parents[1])]
    try:
        ended = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT_S, check=False
        ).returncode
    except (OSError, ValueError, subprocess.SubprocessError):
        return  # that a process cannot be started says nothing about Annoy
    if ended == -signal.SIGILL:
        raise ConfigurationError(
            f"{library} was compiled for another processor and cannot run on this one. Compile it here: `pip install "
            "--force-reinstall --no-cache-dir --no-deps annoy`; or for many processors, by ANNOY_COMPILER_ARGS, as "
            "docs/troubleshooting.md has it."
        )
    if ended == 0 and tried is not None:
        _remember(tried)


def _library() -> Path:
    """Return the file with Annoy's machine code."""
    return Path(getattr(getattr(annoy, "annoylib", None), "__file__", None) or annoy.__file__)


def _note_of(library: Path) -> Path | None:
    """Return the file that says, by being there, that this library was tried on this processor."""
    folder = private_cache("annoy")
    if folder is None:
        return None
    try:
        found = library.stat()
        with _PROCESSOR.open("rb", buffering=0) as file:
            text = file.read(_PROCESSOR_BYTES)
    except OSError:
        return None
    flags = [line for line in text.split(b"\n") if line.startswith((b"flags", b"Features"))][:1]
    about = [os.fsencode(library), repr((found.st_size, found.st_mtime_ns, found.st_ino)).encode(), *flags]
    return folder / hashlib.sha256(b"\0".join(about)).hexdigest()[:32]


def _remember(tried: Path) -> None:
    with suppress(OSError):
        tried.touch(mode=0o600)
        notes = sorted(tried.parent.iterdir(), key=lambda note: note.lstat().st_mtime_ns)
        for old in notes[:-_KEPT]:
            old.unlink(missing_ok=True)
