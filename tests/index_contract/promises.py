"""The table of the documentation of which promise holds in which place: python tests/index_contract/promises.py."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "guide" / "places.md"
BEGIN, END = (f"<!-- written by tests/index_contract/promises.py: {mark} -->" for mark in ("begin", "end"))
# What the tests call a promise, and how a reader is told of it.
TOLD = {
    "several latents": "An item may have several latents, as with `--regions`.",
    "calibration": "Thresholds for originals and for distrust are kept with it.",
    "rebuilding": "It moves to another model while it is searched.",
    "duplicates": "It finds near-duplicates.",
    "export": "It is exported and imported.",
    "large items": "Metadata of an item may have 100,000 characters.",
    "fields": "Fields of the metadata can be indexed for filters (`--index-field`).",
    "blocks of one moment": "What is read in blocks, as by `export`, is of one moment while others change it.",
    "changes of other processes": "What another process has changed is seen at once.",
}


def written(page: str) -> str:
    """Return the page with the table as the guests of the contract have it."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{rest.partition(END)[2]}"


def table() -> str:
    from guests import FaissInFolder, MilvusSession, MilvusStrong, PgvectorInPostgres
    from test_contract_missing import NOT_REFUSED

    places = {
        "folder": FaissInFolder, "PostgreSQL": PgvectorInPostgres,
        "Milvus, `strong`": MilvusStrong, "Milvus, `session`": MilvusSession,
    }  # fmt: skip
    rows = [f"| promise | {' | '.join(places)} |", "|---|" + "---|" * len(places)]
    for promise, told in TOLD.items():
        lost = "not promised" if promise in NOT_REFUSED else "refused"
        kept = [lost if promise in guest.missing else "yes" for guest in places.values()]
        rows.append(f"| {told} | {' | '.join(kept)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "index"), str(Path(__file__).parent)]
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
