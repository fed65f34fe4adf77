import os
import re
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from index_child import child, killed_writer
from index_fixtures import *  # noqa: F403
from index_fixtures import only_generation

from ae_search.errors import IndexBusyError
from ae_search.index import IndexBuilder, LatentIndex


def test_one_writer_at_a_time(build, tmp_path, card, latents):
    with IndexBuilder(tmp_path / "index", card) as builder:
        builder.add(latents[:5], list("abcde"))
        with pytest.raises(IndexBusyError, match=f"is being written by process {os.getpid()} since"):
            build()
    with LatentIndex.open(tmp_path / "index") as index:
        assert index.keys() == list("abcde")


def test_a_writer_of_another_process_is_named(ready, latents, build):
    path = ready()
    with child("hold", path) as owner, LatentIndex.open(path) as index:
        actions = {
            "build": lambda: build(replace=True),
            "add": lambda: index.add(latents[:1], ["new"]),
            "update": lambda: index.update(["key-1"], labels=["x"]),
            "remove": lambda: index.remove(["key-1"]),
            "compact": index.compact,
            "tune": index.tune,
        }
        for name, action in actions.items():
            start = time.monotonic()
            with pytest.raises(IndexBusyError, match=r"since (.*) UTC;.*--wait") as caught:
                action()
            assert time.monotonic() - start < 2.0, name
            assert f"process {owner.pid} since" in str(caught.value), name
        since = datetime.fromisoformat(re.search("since (.*) UTC", str(caught.value))[1]).replace(tzinfo=UTC)
        assert timedelta(seconds=-1) <= datetime.now(UTC) - since < timedelta(seconds=60)
        # Readers do not care.
        assert (len(index), index.search(latents[3], 1)[0][0].key) == (600, "key-3")
        owner.stdin.close()
        assert owner.wait(60) == 0
        index.remove(["key-1"])
        assert len(index) == 599


def test_waiting_takes_as_long_as_the_other_writer(ready):
    path = ready()
    with child("hold", path) as owner, LatentIndex.open(path) as index:
        with pytest.raises(IndexBusyError):
            index.remove(["key-1"], wait_s=0.2)
        release = threading.Timer(0.3, owner.stdin.close)
        release.start()
        start = time.monotonic()
        index.remove(["key-1"], wait_s=60.0)
        assert 0.2 < time.monotonic() - start < 30.0
        release.join()
        assert "key-1" not in index


@pytest.mark.parametrize("when", ["spilled", "committed"])
def test_the_lock_of_a_killed_writer_is_free(ready, when):
    path = ready()
    killed_writer(path, when)
    with LatentIndex.open(path) as index:
        index.remove(["key-1"])
        assert "key-1" not in index


@pytest.mark.parametrize("opened_before", [True, False])
def test_half_a_transaction_is_taken_back(ready, latents, opened_before):
    path = ready()
    index = LatentIndex.open(path) if opened_before else None
    killed_writer(path, "spilled")
    assert (only_generation(path) / "changes.sqlite-journal").stat().st_size > 0
    index = index or LatentIndex.open(path)
    with index:
        assert index.keys() == [f"key-{i}" for i in range(600)]
        index.add(latents[:1], ["late-1"])
        assert index.keys()[-1] == "late-1"


def test_a_commit_is_seen_though_its_writer_died_before_it_told(ready, latents):
    path = ready()
    with LatentIndex.open(path) as index:
        assert index.search(latents[0], 1, exact=True)[0][0].key == "key-0"
        killed_writer(path, "committed")
        expected = [*(f"key-{i}" for i in range(1, 600)), "late-0"]
        assert index.keys() == expected
        assert index.search(latents[0], 1, exact=True)[0][0].key != "key-0"
        with LatentIndex.open(path) as fresh:
            assert fresh.keys() == expected
            fresh.remove(["late-0"])
        assert index.keys() == expected[:-1]
