"""Many keys in little memory, and where each of them is."""

from array import array
from functools import cached_property
from hashlib import blake2b

import numpy as np
import numpy.typing as npt


class Keys:
    """Texts, one after the other; some ten bytes each beyond their own."""

    def __init__(self) -> None:
        self._text, self._ends, self._hashes = bytearray(), array("Q", [0]), array("Q")

    def __len__(self) -> int:
        return len(self._hashes)

    def __getitem__(self, position: int) -> str:
        return self._text[self._ends[position] : self._ends[position + 1]].decode()

    def add(self, key: str) -> None:
        """Add a key after the others; not once one was looked for."""
        data = key.encode()
        self._text += data
        self._ends.append(len(self._text))
        self._hashes.append(_hash(data))

    def position(self, key: str) -> int | None:
        """Return where a key is, the first place of several; None where it is none of these."""
        order, hashes = self._sorted
        wanted = _hash(key.encode(errors="surrogatepass"))
        at = int(np.searchsorted(hashes, np.uint64(wanted)))
        while at < len(hashes) and hashes[at] == wanted:
            if self[int(order[at])] == key:
                return int(order[at])
            at += 1
        return None

    def repeated(self) -> str | None:
        """Return a key that occurs twice, None where there is none."""
        order, hashes = self._sorted
        for at in np.flatnonzero(hashes[1:] == hashes[:-1]):
            if self[int(order[at])] == self[int(order[at + 1])]:
                return self[int(order[at])]
        return None

    @cached_property
    def _sorted(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
        hashes = np.array(self._hashes, np.uint64)
        order = np.argsort(hashes, kind="stable")
        return order, hashes[order]


def _hash(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little")
