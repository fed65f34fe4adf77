"""The files of the page: read once, so that no request names a file that is opened."""

import gzip
import hashlib
from dataclasses import dataclass
from importlib import resources

# By the endings that the page's files have.
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
FIRST = "index.html"


@dataclass(frozen=True)
class PageFile:
    """A file of the page.

    Attributes:
        content: Its bytes.
        packed: The same as gzip.
        media_type: What it is.
        etag: What tells whether a browser has it already, packed or not.
    """

    content: bytes
    packed: bytes
    media_type: str
    etag: str


def page_files() -> dict[str, PageFile]:
    """Return the files of the page by name."""
    found = {}
    for file in (resources.files("ae_search.web") / "page").iterdir():
        ending = f".{file.name.rpartition('.')[2]}"
        if file.is_file() and ending in _TYPES:
            content = file.read_bytes()
            etag = f'W/"{hashlib.sha256(content).hexdigest()[:32]}"'
            found[file.name] = PageFile(content, gzip.compress(content, mtime=0), _TYPES[ending], etag)
    return found
