"""TensorFlow without its greeting, which no log level reaches and which would bury other messages."""

import importlib
import os
import re
import sys
import tempfile
from contextlib import suppress

# "I0000 00:00:1796012366.543353   22745 port.cc:153] oneDNN custom operations are on", and what stands before it.
_GREETING = re.compile(
    rb"^(?:[IWE]\d{4} \d\d:\d\d:|WARNING: All log messages before absl::InitializeLog)|^\d{4}-\d\d-\d\d "
)
_LEVEL = "TF_CPP_MIN_LOG_LEVEL"


def load_tensorflow() -> None:
    """Import TensorFlow, and keep back what it says meanwhile, but where the import fails.

    Whoever has set TF_CPP_MIN_LOG_LEVEL to less than 3 wants to see it all. What others write to stderr meanwhile is
    shown when it is done.
    """
    if "tensorflow" in sys.modules:
        return
    # Both bring a TLS library, with functions of the same names. Where TensorFlow's is loaded first, the process dies
    # when psycopg speaks TLS.
    with suppress(ImportError):
        importlib.import_module("psycopg")
    os.environ.setdefault(_LEVEL, "3")
    if os.environ[_LEVEL] in ("0", "1", "2"):
        importlib.import_module("tensorflow")
        return
    if sys.stderr is not None:
        sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # a daemon has no stderr
        importlib.import_module("tensorflow")
        return
    with tempfile.TemporaryFile() as held, os.fdopen(kept, "wb") as stderr:
        os.dup2(held.fileno(), 2)
        failed = True
        try:
            importlib.import_module("tensorflow")
            failed = False
        finally:
            os.dup2(stderr.fileno(), 2)
            held.seek(0)
            stderr.writelines(line for line in held if failed or not _GREETING.match(line))
