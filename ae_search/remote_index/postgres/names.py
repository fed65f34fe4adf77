"""What an item is looked up by."""

import hashlib
from uuid import UUID


def name_of(key: str) -> UUID:
    """Return what stands for a key of any length: half of its sha256, of which no two equal ones are known.

    A key that is no Unicode has the name of another text, which no item has: those are refused.
    """
    return UUID(bytes=hashlib.sha256(key.encode(errors="surrogatepass")).digest()[:16])
