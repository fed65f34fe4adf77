"""Files in object stores (gs://, s3://, …), through fsspec."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from ae_search.data.sources.source import damaged
from ae_search.errors import AeSearchError, ConfigurationError
from ae_search.extras import needs
from ae_search.image_file import MAX_FILE_MIB

# Not all that fsspec knows: some of its schemes run commands, unpack archives or ask any web server.
PACKAGES = {
    "gs": "gcsfs", "gcs": "gcsfs", "s3": "s3fs", "s3a": "s3fs", "az": "adlfs", "abfs": "adlfs", "abfss": "adlfs",
    "memory": "fsspec",
}  # fmt: skip
_MAX_BYTES = MAX_FILE_MIB * 2**20


def scheme_of(text: str) -> str | None:
    """Return the scheme of a URL, None where a text is none."""
    scheme, mark, _ = text.partition("://")
    return scheme if mark and scheme.isascii() and scheme.isalnum() else None


def open_store(url: str) -> "ObjectStore":
    """Return the store that a URL lies in.

    Raises:
        ConfigurationError: Its scheme is none that is known here, or the package for it is missing.
    """
    scheme = scheme_of(url)
    if scheme not in PACKAGES or "::" in url:
        schemes = ", ".join(f"{one}://" for one in PACKAGES)
        raise ConfigurationError(f"An object store is one of {schemes}. Received: {url!r}.")
    with needs(f"{scheme}:// needs fsspec", "cloud"):
        import fsspec
    try:
        return ObjectStore(scheme, fsspec.filesystem(scheme))
    except ImportError as error:
        package = PACKAGES[scheme]
        raise ConfigurationError(f"{scheme}:// needs the package {package}: pip install {package}.") from error
    except Exception as error:  # each store has errors of its own, about credentials and the like
        raise ConfigurationError(f"{url} cannot be opened: {_first_line(error)}.") from error


class ObjectStore:
    """A store.

    Args:
        scheme: What its URLs begin with.
        system: fsspec's filesystem.
    """

    def __init__(self, scheme: str, system: Any) -> None:
        self._scheme, self._system = scheme, system

    def url(self, path: str) -> str:
        """Return the URL of a path of the store."""
        return f"{self._scheme}://{path.lstrip('/')}"

    def below(self, url: str) -> dict[str, int]:
        """Return the sizes of all objects below a folder, in bytes, by their paths relative to it."""
        with told(url):
            root = self._path(url).rstrip("/")
            found: dict[str, dict[str, Any]] = self._system.find(root, withdirs=False, detail=True)
        start = len(root) + 1
        return {
            path[start:]: int(about.get("size") or 0) for path, about in found.items() if path.startswith(f"{root}/")
        }

    def matching(self, url: str) -> list[str]:
        """Return the URLs of the objects that a pattern matches, sorted."""
        with told(url):
            return sorted(self.url(path) for path in self._system.glob(self._path(url)))

    def heads(self, urls: list[str], count: int) -> list[bytes]:
        """Return the first bytes of some objects, empty where one cannot be read; stores answer many at once."""
        with told(urls[0]):
            parts = self._system.cat_ranges(
                [self._path(url) for url in urls], [0] * len(urls), [count] * len(urls), on_error="return"
            )
        return [bytes(part) if isinstance(part, bytes | bytearray | memoryview) else b"" for part in parts]

    def read(self, url: str) -> bytes:
        """Return an object that is an image file.

        Raises:
            ImageError: It is gone or too large.
            ConfigurationError: The store does not answer.
        """
        try:
            with told(url):
                data = bytes(self._system.cat_file(self._path(url), start=0, end=_MAX_BYTES + 1))
        except ConfigurationError as error:
            if isinstance(error.__cause__, FileNotFoundError | IsADirectoryError):
                raise damaged(url, "there is no such image file") from error
            raise
        if len(data) > _MAX_BYTES:
            raise damaged(url, f"larger than {MAX_FILE_MIB} MiB")
        return data

    def size(self, url: str) -> int:
        """Return the bytes of an object."""
        with told(url):
            return int(self._system.size(self._path(url)) or 0)

    def stream(self, url: str) -> BinaryIO:
        """Open an object, to be read from its beginning."""
        with told(url):
            stream: BinaryIO = self._system.open(self._path(url), "rb")
            return stream

    def part(self, url: str, start: int, count: int) -> bytes:
        """Return some bytes of an object."""
        with told(url):
            return bytes(self._system.cat_file(self._path(url), start=start, end=start + count))

    def _path(self, url: str) -> str:
        return str(self._system._strip_protocol(url))


@contextmanager
def told(url: str) -> Iterator[None]:
    """Tell what a store's library raises as an error of ours."""
    try:
        yield
    except AeSearchError:
        raise
    except FileNotFoundError as error:
        raise ConfigurationError(f"{url}: there is no such object.") from error
    except Exception as error:  # each store has errors of its own
        raise ConfigurationError(f"{url} cannot be read: {_first_line(error)}.") from error


def last_part(url: str) -> str:
    """Return the last name of a URL's path."""
    return PurePosixPath(url.partition("://")[2]).name or url


def joined(folder: str, path: str) -> str:
    """Return the URL of a path below a folder; the path must not lead out of it.

    Raises:
        ValueError: It is absolute, or leads out.
    """
    if path.startswith("/") or ".." in path.split("/"):
        raise ValueError(f"{path!r} leads out of {folder}")
    return f"{folder.rstrip('/')}/{os.path.normpath(path)}"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
