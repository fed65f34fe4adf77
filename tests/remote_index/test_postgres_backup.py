"""Backup and restore by PostgreSQL's own programs, as the operations page says."""

from index_items import CARD, clustered
from postgres_server import shared_server

from ae_search.index import BuildOptions
from ae_search.open_index import build_index, open_index

ROWS = clustered(300)


def test_a_dump_is_restored_into_another_database_as_the_same_index():
    server = shared_server()
    source, target = server.database("saved"), server.database("restored")
    with build_index(f"{source}&index=photos", CARD, BuildOptions(fields=("price",))) as builder:
        builder.add(
            ROWS, [f"k{row}" for row in range(300)], [f"l{row % 3}" for row in range(300)],
            metadata=[{"price": row} for row in range(300)],
        )  # fmt: skip
        builder.calibrate("told", {"by": 2})
    with open_index(f"{source}&index=photos") as index:
        index.add(ROWS[:1] * 2, ["later"])
        index.remove(["k5"])
        expected = index.search(ROWS[:40], 5)
        filtered = index.search(ROWS[0], 5, where={"price": {"gte": 290}})
    dump = server.folder / "index.dump"
    server.run("pg_dump", "-n", "ae_search", "-Fc", "-f", dump, "-d", source)
    server.execute("CREATE EXTENSION vector", database="restored")
    server.run("pg_restore", "--exit-on-error", "-d", target, dump)
    with open_index(f"{target}&index=photos") as index:
        assert index.info().fields == ("price",)
        index.verify()
        assert len(index) == 300 and "later" in index and "k5" not in index
        assert index.calibration()["told"] == {"by": 2}
        answers = index.search(ROWS[:40], 5)
        assert [[one.key for one in row] for row in answers] == [[one.key for one in row] for row in expected]
        assert index.search(ROWS[0], 5, where={"price": {"gte": 290}}) == filtered
        # It lives on: numbers of items and of generations are not given twice.
        index.add(ROWS[5:6], ["k5"])
        index.compact()
        assert index.search(ROWS[5], 1)[0][0].key == "k5"
        index.verify()
