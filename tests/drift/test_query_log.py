"""The log of queries: whole files, several writers, bounded folders, full disks, and what strangers put there."""

import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from ae_search.contract import Neighbour
from ae_search.drift import QueryLog, read_log
from ae_search.errors import ConfigurationError
from ae_search.trust import Trust, Trusted, Usual

MODEL, OTHER = "ab" * 32, "cd" * 32
USUAL = Usual(*(np.linspace(0, 1, 100, dtype=np.float32) for _ in range(3)))


def found(distance, error=None, fingerprint=MODEL, neighbours=12):
    rows = [Neighbour(at + 1, f"key {at}", None, 0.9 - at / 100, distance, at) for at in range(neighbours)]
    return Trusted(rows, USUAL.of(distance, error), np.arange(4, dtype=np.float32), fingerprint)


def files(folder):
    return sorted(folder.glob("*"))


def test_what_is_noted_is_read_again(tmp_path):
    with QueryLog(tmp_path / "log") as log:
        log.add(found(0.5, 0.25), time_s=20.0)
        log.add(found(2.0), time_s=10.0)
        log.add(found(0.1, fingerprint=OTHER), time_s=15.0)
        log.add(Trusted([], Trust(), np.zeros(4, np.float32), MODEL), time_s=30.0)
    logged = read_log(tmp_path / "log", MODEL)
    assert len(logged) == 3 and logged.others == 1
    assert logged.time_s.tolist() == [10, 20, 30]
    np.testing.assert_allclose(logged.distance, [2.0, 0.5, np.nan])
    np.testing.assert_allclose(logged.error, [np.nan, 0.25, np.nan])
    np.testing.assert_allclose(logged.similarity, [0.9, 0.9, np.nan], rtol=1e-6)
    np.testing.assert_allclose(logged.familiar, [0, 1, np.nan])
    assert read_log(tmp_path / "log", MODEL, since_s=15).time_s.tolist() == [20, 30]


def test_other_programs_read_it_and_latents_are_there_on_request_only(tmp_path):
    for latents in (False, True):
        folder = tmp_path / str(latents)
        before = time.time()
        with QueryLog(folder, latents=latents) as log:
            log.add(found(0.5))
        (file,) = files(folder)
        table = pyarrow.parquet.read_table(file)
        (row,) = table.to_pylist()
        assert before <= row["time_s"] <= time.time()
        assert len(row["similarities"]) == 10
        assert row.get("latent") == ([0, 1, 2, 3] if latents else None)
        assert ("latent" in table.column_names) == latents


def test_only_the_owner_can_read_it(tmp_path):
    with QueryLog(tmp_path / "log") as log:
        log.add(found(0.5))
    (file,) = files(tmp_path / "log")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o700


def test_files_are_written_as_they_fill_and_the_oldest_go(tmp_path):
    with QueryLog(tmp_path, rows_per_file=10, max_files=3) as log:
        for at in range(55):
            log.add(found(0.5), time_s=at)
            assert len(files(tmp_path)) <= 3
    assert read_log(tmp_path, MODEL).time_s.tolist() == list(range(30, 55))
    (tmp_path / "notes.txt").write_text("stays")
    with QueryLog(tmp_path, max_files=1) as log:
        log.add(found(0.5), time_s=99)
    assert len(files(tmp_path)) == 2 and read_log(tmp_path, MODEL).time_s.tolist() == [99]


def test_a_file_is_written_after_a_while(tmp_path):
    log = QueryLog(tmp_path, seconds_per_file=0.05)
    log.add(found(0.5))
    time.sleep(0.1)
    log.add(found(0.5))
    assert len(read_log(tmp_path, MODEL)) == 2


def test_threads_lose_nothing(tmp_path):
    with QueryLog(tmp_path, rows_per_file=7) as log:

        def note():
            for _ in range(50):
                log.add(found(0.5))

        threads = [threading.Thread(target=note) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(read_log(tmp_path, MODEL)) == 400 and log.lost == 0


def test_processes_share_a_folder(tmp_path):
    code = "import sys; sys.path.insert(0, sys.argv[2]); import test_query_log as t\n" \
        "log = t.QueryLog(sys.argv[1], rows_per_file=5)\n" \
        "for _ in range(23): log.add(t.found(0.5))\n" \
        "log.close()"  # fmt: skip
    command = [sys.executable, "-c", code, str(tmp_path), str(Path(__file__).parent)]
    writers = [subprocess.Popen(command) for _ in range(2)]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
    assert len(read_log(tmp_path, MODEL)) == 46


def test_what_cannot_be_written_costs_rows_and_never_a_search(tmp_path, caplog):
    folder = tmp_path / "log"
    log = QueryLog(folder, rows_per_file=2)
    folder.rmdir()
    for _ in range(5):
        log.add(found(0.5))
    assert log.lost == 4 and "4 queries" not in caplog.text and "2 queries are missing" in caplog.text
    folder.mkdir()
    log.close()
    assert len(read_log(folder, MODEL)) == 1


def test_a_place_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file" / "log"):
        with pytest.raises(ConfigurationError, match="query log"):
            QueryLog(place)


@pytest.mark.parametrize(
    "options", [{"rows_per_file": 0}, {"max_files": 0}, {"seconds_per_file": float("nan")}], ids=str
)
def test_options_out_of_range_are_refused(tmp_path, options):
    with pytest.raises(ValueError, match="at least 1"):
        QueryLog(tmp_path, **options)


def test_a_folder_without_a_log_is_told(tmp_path):
    (tmp_path / "other.parquet").write_bytes(b"PAR1")
    with pytest.raises(ConfigurationError, match="no log of queries"):
        read_log(tmp_path, MODEL)


def name(at):
    return f"queries-20261130T120000.00000{at}Z-1-0000000{at}.parquet"


def test_what_strangers_put_there_is_checked(tmp_path):
    strange = {
        "time_s": [1.0, float("nan"), None, 2.0, 3.0],
        "fingerprint": [MODEL, MODEL, MODEL, None, MODEL],
        "distance": [float("inf"), 1.0, 1.0, 1.0, 0.5],
    }
    pyarrow.parquet.write_table(pyarrow.table(strange), tmp_path / name(1))
    logged = read_log(tmp_path, MODEL)
    assert logged.time_s.tolist() == [1, 3] and logged.others == 1
    np.testing.assert_allclose(logged.distance, [np.nan, 0.5])
    assert np.isnan(logged.similarity).all()
    pyarrow.parquet.write_table(pyarrow.table({"time_s": ["now"], "fingerprint": [MODEL]}), tmp_path / name(2))
    assert len(read_log(tmp_path, MODEL)) == 2
    for data in (b"", b"PAR1", (tmp_path / name(1)).read_bytes()[:-9]):
        (tmp_path / name(3)).write_bytes(data)
        with pytest.raises(ConfigurationError, match=r"queries-.*cannot be read"):
            read_log(tmp_path, MODEL)
    (tmp_path / name(3)).unlink()
    os.mkfifo(tmp_path / name(3))
    with pytest.raises(ConfigurationError, match="no regular file"):
        read_log(tmp_path, MODEL)
