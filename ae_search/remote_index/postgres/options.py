"""How an index on PostgreSQL is built."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from ae_search.checked_json import whole_of
from ae_search.contract import parse_where

# pgvector's own limits.
MAX_EFFORT = 1000
MAX_HNSW_DIM, MAX_HALFVEC_DIM = 2_000, 4_000
_M, _EF = (2, 100), (4, 1000)


@dataclass(frozen=True)
class HnswOptions:
    """Options of pgvector's HNSW graph.

    Attributes:
        m: Links of a latent in each layer of the graph, 2 to 100.
        ef_construction: Candidates that a latent is linked among, at least 2 m and at most 1,000.
        halfvec: Whether the graph holds latents in 16 bits: half its size, for latents below 65,504 in magnitude. What
            is found is compared in 32 bits all the same.
        fields: Fields of the metadata that filters ask for; each gets two indexes of its own. The label always has one.
        memory_mb: Memory of the server that one build may take, `maintenance_work_mem`, in MiB. None: what the graph
            needs, at most 1,024.
    """

    engine: ClassVar[str] = "pgvector"
    m: int = 16
    ef_construction: int = 64
    halfvec: bool = False
    fields: tuple[str, ...] = ()
    memory_mb: int | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not _M[0] <= self.m <= _M[1] or not max(_EF[0], 2 * self.m) <= self.ef_construction <= _EF[1]:
            raise ValueError(
                f"Expected m in [2, 100] and ef_construction in [2 m, 1000]. Received: m={self.m}, "
                f"ef_construction={self.ef_construction}."
            )
        if self.memory_mb is not None and not 1 <= self.memory_mb <= 2**20:
            raise ValueError(f"Expected memory_mb in [1, 1048576]. Received: {self.memory_mb}.")
        if len(self.fields) > 32 or len(set(self.fields)) < len(self.fields):
            raise ValueError(f"Expected up to 32 different fields. Received: {self.fields}.")
        for name in self.fields:
            parse_where({name: None})

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Self:
        """Read and check options that a stranger may have written; a ValueError says what is wrong."""
        fields, halfvec, memory = raw.get("fields"), raw.get("halfvec"), raw.get("memory_mb")
        if not isinstance(fields, list) or not isinstance(halfvec, bool) or not isinstance(memory, int | None):
            raise ValueError("fields, halfvec or memory_mb are not what a builder writes")
        return cls(whole_of(raw, "m", *_M), whole_of(raw, "ef_construction", *_EF), halfvec, tuple(fields), memory)

    def to_json(self) -> dict[str, Any]:
        """Return them as they stand in the manifest."""
        return {
            "m": self.m,
            "ef_construction": self.ef_construction,
            "halfvec": self.halfvec,
            "fields": list(self.fields),
            "memory_mb": self.memory_mb,
        }

    def most_effort(self, latents: int) -> int:
        """Return the largest effort that the graph has a use for; a larger one compares with every latent."""
        return MAX_EFFORT
