"""How an index on Milvus is built."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from ae_search.checked_json import whole_of

# Milvus's own limits.
MAX_EFFORT = 32_768
MAX_DIM = 32_768
MAX_ROWS = 16_384
MAX_TEXT = 65_535
_M, _EF, _SHARDS, _REPLICAS = (2, 2048), (4, 32_768), (1, 16), (1, 64)


@dataclass(frozen=True)
class MilvusOptions:
    """Options of an HNSW graph of Milvus, and how far it is spread.

    Attributes:
        m: Links of a latent in each layer of the graph, 2 to 2,048.
        ef_construction: Candidates that a latent is linked among, 4 to 32,768.
        shards: Channels that writes are spread over, 1 to 16; one takes tens of thousands of rows a second.
        replicas: Copies of the index in the memory of query nodes, 1 to 64, each on nodes of its own.
    """

    engine: ClassVar[str] = "milvus"
    m: int = 16
    ef_construction: int = 128
    shards: int = 1
    replicas: int = 1

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, (low, high) in {
            "m": _M,
            "ef_construction": _EF,
            "shards": _SHARDS,
            "replicas": _REPLICAS,
        }.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"Expected {name} in [{low}, {high}]. Received: {getattr(self, name)}.")

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Self:
        """Read and check options that a stranger may have written; a ValueError says what is wrong."""
        return cls(
            whole_of(raw, "m", *_M),
            whole_of(raw, "ef_construction", *_EF),
            whole_of(raw, "shards", *_SHARDS),
            whole_of(raw, "replicas", *_REPLICAS),
        )

    def to_json(self) -> dict[str, Any]:
        """Return them as they stand in the manifest."""
        return {
            "m": self.m,
            "ef_construction": self.ef_construction,
            "shards": self.shards,
            "replicas": self.replicas,
        }

    def most_effort(self, latents: int) -> int:
        """Return the largest effort that the graph has a use for; a larger one compares with every latent."""
        return MAX_EFFORT
