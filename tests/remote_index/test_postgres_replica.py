"""Replicas: reads from them, how far behind they are, and a primary that is lost."""

import signal
import threading
import time

import numpy as np
import pytest
from index_items import CARD, clustered
from postgres_server import PostgresServer

from ae_search.errors import AeSearchError, NotSupportedError, ServerError
from ae_search.open_index import build_index, open_index

pytestmark = pytest.mark.slow

ROWS = clustered(400)


@pytest.fixture
def pair():
    """A primary, and a replica that follows it."""
    primary = PostgresServer(port="5441", max_wal_senders="4", hot_standby="on")

    def follow(replica):
        source = f"host={primary.folder} port=5441 user=postgres"
        replica.run("pg_basebackup", "-D", replica.data, "-d", source, "-R", "-X", "stream", "-c", "fast")

    with build_index(f"{primary.url()}&index=a", CARD) as builder:
        builder.add(ROWS[:300], [str(i) for i in range(300)])
    replica = PostgresServer(data=follow, port="5442", hot_standby="on")
    yield primary, replica
    replica.close()
    primary.close()


def url(*servers, attributes="prefer-standby"):
    hosts = ",".join(str(one.folder) for one in servers)
    ports = ",".join(one._settings["port"] for one in servers)
    return f"postgresql://postgres@/postgres?host={hosts}&port={ports}&target_session_attrs={attributes}&index=a"


def caught_up(primary, replica):
    ((position,),) = primary.execute("SELECT pg_current_wal_lsn()::text")
    while not replica.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", (position,))[0][0]:
        time.sleep(0.01)


def test_reads_come_from_the_replica_and_changes_go_to_the_primary(pair):
    primary, replica = pair
    with open_index(url(primary, replica)) as index, open_index(f"{primary.url()}&index=a") as at_primary:
        assert index.replica_lag_s is not None and at_primary.replica_lag_s is None
        assert "replica_behind_s" in index.info().engine_options
        index.add(ROWS[300:301], ["new"])
        assert "new" in at_primary
        caught_up(primary, replica)
        assert index.search(ROWS[300], 1)[0][0].key == "new"
        assert any("a replica" in one.told for one in index.health())
    with open_index(f"{replica.url()}&index=a") as alone:
        assert alone.search(ROWS[3], 1)[0][0].key == "3"
        for change in (lambda: alone.add(ROWS[301:302], ["x"]), lambda: alone.compact(), lambda: alone.tune()):
            with pytest.raises(NotSupportedError, match="takes no changes"):
                change()


def test_a_replica_that_is_behind_says_so_and_never_mixes_two_models(pair):
    primary, replica = pair
    with open_index(f"{replica.url()}&index=a") as reader, open_index(f"{primary.url()}&index=a") as writer:
        replica.execute("SELECT pg_wal_replay_pause()")
        with writer.rebuilding(type("Card", (), {**vars(CARD), "fingerprint": "cd" * 32, "version": 2})) as anew:
            anew.add(-ROWS[:300], [str(i) for i in range(300)])
        time.sleep(1.1)
        assert reader.search(ROWS[7], 1)[0][0].distance == pytest.approx(0.0, abs=1e-6)
        assert reader.replica_lag_s > 0.5
        replica.execute("SELECT pg_wal_replay_resume()")
        caught_up(primary, replica)
        with pytest.raises(AeSearchError, match="version 2"):
            reader.search(ROWS[7], 1)
        assert reader.search(-ROWS[7], 1, fingerprint="cd" * 32)[0][0].key == "7"


def test_a_lost_primary_and_a_replica_that_is_promoted_under_load(pair):
    primary, replica = pair
    done, wrong, answers = threading.Event(), [], []

    def ask():
        with open_index(url(primary, replica, attributes="any")) as index:
            while not done.is_set():
                try:
                    found = index.search(ROWS[len(answers) % 300], 1)[0][0]
                    answers.append(found.key)
                except Exception as error:
                    wrong.append(error)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    with open_index(url(primary, replica, attributes="any")) as writer:
        writer.add(ROWS[300:301], ["before"])
        caught_up(primary, replica)
        for thread in threads:
            thread.start()
        while len(answers) < 50:
            time.sleep(0.01)
        primary.kill(signal.SIGKILL)
        count = len(answers)
        while len(answers) < count + 50 and not wrong:
            time.sleep(0.01)
        with pytest.raises((NotSupportedError, ServerError)):
            writer.add(ROWS[301:302], ["refused"])
        replica.run("pg_ctl", "promote", "-D", replica.data, "-w")
        writer.add(ROWS[302:303], ["after"])
        assert writer.known(["before", "refused", "after"]) == {"before", "after"}
        done.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert np.all([answer in {str(i) for i in range(300)} for answer in answers])
