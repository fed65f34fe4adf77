"""Tiny seeded images, models and exports that several rooms' tests share."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import atexit
import gc
import random
import shutil
import tempfile
from contextlib import suppress

import pytest

with suppress(ImportError):
    # Before TensorFlow, as all of the package does it: after it, an index on another machine's PostgreSQL is refused.
    import psycopg  # noqa: F401
from pictures import coloured_picture, encoded

# What tests prove of their indexes is not for the cache of whoever runs them; their child processes share this one. But
# matplotlib keeps its list of fonts, which takes seconds to make.
_own_cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
os.environ.setdefault("MPLCONFIGDIR", os.path.join(_own_cache, "matplotlib"))
os.environ["XDG_CACHE_HOME"] = _cache = tempfile.mkdtemp(prefix="ae-search-tests-")
atexit.register(shutil.rmtree, _cache, ignore_errors=True)


def pytest_make_parametrize_id(val, argname):
    """Name bytes by their argument: gzip and the like put the time of day into theirs, and test ids must not move."""
    return argname if isinstance(val, bytes | bytearray | memoryview) else None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Draw the same weights in each run: a bound that some draws miss must not fail one run in seven.

    Keras takes its seeds from Python's generator. TensorFlow's own seed would make it forget all that it has compiled.
    """
    random.seed(11)


@pytest.fixture(autouse=True, scope="module")
def _kept_from_the_collector():
    """Let Python's collector pass over what a module leaves: TensorFlow's and Keras's objects, millions in the end."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A folder as a user has it: two classes, every format, a stray text file, a hidden file and two damaged images."""
    root = tmp_path_factory.mktemp("photos")
    forms = {"jpg": "JPEG", "png": "PNG", "gif": "GIF", "bmp": "BMP", "webp": "WEBP"}
    for seed in range(20):
        folder = root / ("cats" if seed % 2 else "dögs")
        folder.mkdir(exist_ok=True)
        suffix = list(forms)[seed % 5]
        coloured_picture(seed, (40 + seed, 70 - seed)).save(folder / f"image {seed:02}.{suffix.upper()}", forms[suffix])
    (root / "notes.txt").write_text("not an image")
    (root / "cats" / ".hidden.jpg").write_text("not an image")
    (root / "cats" / "text.jpg").write_text("a text file that is named like an image")
    (root / "cats" / "truncated.jpg").write_bytes(encoded(coloured_picture(99, (300, 200)), "JPEG")[:900])
    return root


@pytest.fixture(scope="session")
def tiny_encoder():
    """A seeded encoder for 16 x 16 px colour images, 8 floats."""
    import keras

    from ae_search.model import build_encoder

    keras.utils.set_random_seed(1)
    return build_encoder((16, 16, 3), latent_dim=8)


@pytest.fixture(scope="session")
def tiny_export(tiny_encoder, tmp_path_factory):
    """A model base path with that encoder as version 1."""
    from ae_search.export import export_encoder

    base = tmp_path_factory.mktemp("export") / "tiny"
    export_encoder(tiny_encoder, base)
    return base
