"""What only a real Milvus shows: consistency, and writers that are killed. `make test-milvus` runs it."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import milvus_server
import numpy as np
import pytest
from guests import child
from index_items import CARD, clustered, small_block

from ae_search.errors import IndexBusyError
from ae_search.index import BuildOptions
from ae_search.open_index import build_index, open_index, verify_index
from ae_search.remote_index.milvus import MilvusOptions

pytestmark = pytest.mark.skipif(
    not os.environ.get("AE_SEARCH_TEST_MILVUS"), reason="needs a Milvus standalone: make test-milvus"
)

ROUNDS = int(os.environ.get("AE_SEARCH_CRASH_ROUNDS", "3"))
SEED = int(os.environ.get("AE_SEARCH_CRASH_SEED", "1"))
_WRITER = Path(__file__).with_name("milvus_crash_writer.py")
_HERE = Path(__file__).parent
NEW = clustered(200, seed=3)


def built(name, **options):
    place = f"{milvus_server.standalone()}/{name}_{os.getpid()}"
    with build_index(place, CARD, BuildOptions(replace=True, **options)) as builder:
        builder.add(**small_block())
    return place


def test_who_sees_what_when():
    """At "strong" a reader of another process sees each change at once; at "session" after a while."""
    place = built("consistency")
    with open_index(place) as index, child(place) as ask:
        for round_ in range(20):
            key = f"new-{round_}"
            index.add(NEW[round_ : round_ + 1], [key])
            # This process, at the default.
            assert index.search(NEW[round_], 1)[0][0].key == key
            # The other one, which has written nothing.
            query = NEW[round_].tolist()
            assert ask("search", query, 1, consistency="strong")[0][0][1] == key
            index.remove([key])
            assert key not in index
            assert ask("search", query, 1, consistency="strong")[0][0][1] != key
        index.add(NEW[50:51], ["late"])
        end = time.monotonic() + 30
        while ask("known", ["late"]) in ([], "set()"):
            assert time.monotonic() < end
        assert index.search(NEW[50], 1, consistency="bounded")[0]


def pairs(index):
    """Return the labels of each pair of a writer's items, by the pair."""
    found = {}
    for key, label, _ in index.items():
        if "-" in key and key.split("-")[0].isdigit():
            found.setdefault(key.rpartition("-")[0], []).append(label)
    return found


def test_a_killed_writer_leaves_no_half():
    place = built("crash") + "?consistency=strong"
    chance = random.Random(SEED)
    environment = {**os.environ, "PYTHONPATH": f"{_HERE.parents[1]}{os.pathsep}{_HERE.parent / 'index'}"}
    said = {}
    for round_ in range(ROUNDS):
        command = [sys.executable, str(_WRITER), place, str(SEED + round_)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as writer:
            for _ in range(chance.randrange(1, 6)):
                word, number = writer.stdout.readline().split()
                said[f"{SEED + round_}-{number}"] = word
            time.sleep(chance.random() * 1.5)
            writer.kill()
            for line in writer.stdout:
                word, number = line.split()
                said[f"{SEED + round_}-{number}"] = word
        with open_index(place) as reader:
            there = pairs(reader)
            # Whole, all with one label, and what was said to be done is done.
            assert {len(labels) for labels in there.values()} <= {2}
            assert all(labels[0] == labels[1] for labels in there.values())
            for pair, word in said.items():
                if word == "updated" and pair in there:
                    assert there[pair] == ["updated"] * 2
                assert pair in there or word in ("removed", "updated")
                assert word != "removed" or pair not in there
            assert sum(map(len, there.values())) + 60 == len(reader)
            assert [check.fault for check in verify_index(place) if check.fault] == []
    with open_index(place) as index:
        with pytest.raises(IndexBusyError, match="written by process"):
            index.add(NEW[:1], ["after"])
        index.add(NEW[:1], ["after"], wait_s=200.0)
        before = sorted(index.keys())
        index.compact()
        assert sorted(index.keys()) == before


def test_a_graph_with_several_shards():
    """More latents than Milvus compares one by one."""
    place = f"{milvus_server.standalone()}/graph_{os.getpid()}"
    rows = np.random.default_rng(5).normal(size=(5000, 16)).astype(np.float32)
    card = type("Card", (), {"name": "tiny", "version": 1, "fingerprint": "ab" * 32, "image_shape": None})
    card.latent_dim, card.metric = 16, "angular"
    options = BuildOptions(MilvusOptions(m=8, shards=2), recall=0.95, replace=True)
    with build_index(place, card, options) as builder:
        for start in range(0, 5000, 1000):
            builder.add(rows[start : start + 1000], [f"key-{i}" for i in range(start, start + 1000)])
    with open_index(place) as index:
        assert index.info().recall >= 0.95
        queries = rows[::100] + 0.1
        truth = [{n.key for n in row} for row in index.search(queries, 10, exact=True)]
        found = [{n.key for n in row} for row in index.search(queries, 10)]
        assert np.mean([len(one & other) / 10 for one, other in zip(found, truth, strict=True)]) >= 0.9
        index.update([f"key-{i}" for i in range(0, 2000, 2)], labels=["even"] * 1000)
        index.remove([f"key-{i}" for i in range(3000, 5000)])
        assert len(index) == 3000 == len(index.search(rows[0], 3000)[0])
        assert {n.label for n in index.search(rows[0], 20, where={"label": "even"})[0]} == {"even"}
        assert [check.fault for check in index.verify() if check.fault] == []
