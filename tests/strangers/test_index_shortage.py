"""Memory or file descriptors that run out: the error says so, and advises nothing that would destroy an index."""

import numpy as np
import pytest
from bounded import run_bounded
from build_options import build_options

from ae_search.contract import ModelCard
from ae_search.index import IndexBuilder, LatentIndex

CHILD = """
import faulthandler, os, resource, sys; faulthandler.enable()
from ae_search.errors import AeSearchError
from ae_search.index import LatentIndex
from ae_search.index.upkeep.verify import verify
import pathlib

def attempt(path, job):
    try:
        if job == "verify":
            faults = [check.fault for check in verify(pathlib.Path(path)) if check.fault]
            return f"fault: {faults[0]}" if faults else "done"
        with LatentIndex.open(path) as index:
            if job == "thumbnail":
                index.thumbnail("key-1")
            elif job == "remove":
                index.remove(["absent"])
        return "done"
    except AeSearchError as error:
        return f"{type(error).__name__}: {error}"

path, job, what = sys.argv[1:]
attempt(path, job)  # what is made once
if what == "files":
    taken = len(os.listdir("/proc/self/fd")) - 1
    limits = [taken + more for more in range(30)]
    kind = resource.RLIMIT_NOFILE
else:
    now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    limits = [now + (more << 18) for more in (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 1024)]
    kind = resource.RLIMIT_AS
hard = resource.getrlimit(kind)[1]
told = []
for limit in limits:
    resource.setrlimit(kind, (limit, hard))
    try:
        told.append(attempt(path, job))
    except MemoryError:
        told.append("MemoryError")
    resource.setrlimit(kind, (hard, hard))
print("\\n".join(told))
"""


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    path = tmp_path_factory.mktemp("shortage") / "index"
    card = ModelCard("tiny", 1, "ab" * 32, (16, 16, 3), 64)
    rows = np.random.default_rng(0).normal(size=(5000, 64)).astype(np.float32)
    with IndexBuilder(path, card, build_options(n_trees=2, jobs=1)) as builder:
        builder.add(rows, [f"key-{at}" for at in range(5000)])
    with LatentIndex.open(path) as opened:
        opened.add(rows[:500], [f"more-{at}" for at in range(500)])
    return path


@pytest.mark.parametrize("job", ["open", "verify", "thumbnail", "remove"])
@pytest.mark.parametrize("what", ["files", "memory"])
def test_what_ran_out_is_told(index, tmp_path, what, job):
    ended = run_bounded(["python", "-c", CHILD, index, job, what], folder=tmp_path)
    assert ended.code == 0, ended.stderr
    told = ended.stdout.splitlines()
    done = {"done", "ConfigurationError: The index has no item 'absent'; nothing was changed."}
    words = {"files": "has too many files open; close some", "memory": "memory has run out; close something"}
    short = [text for text in told if text not in done]
    assert told[-1] in done
    assert short, told
    for text in short:
        assert text.startswith(("ShortageError: Cannot", "ConfigurationError: Cannot")), text
        assert words[what] in text or f"[Errno {24 if what == 'files' else 12}]" in text, text
        assert "restore" not in text
