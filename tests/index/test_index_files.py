import os
import shutil
import stat
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from index_child import ask, child, killed_writer
from index_fixtures import *  # noqa: F403
from index_fixtures import only_generation

from ae_search.errors import ConfigurationError, IndexDamagedError
from ae_search.index import LatentIndex


def test_two_builds_with_one_thread_are_the_same_bytes(build, latents):
    first, second = (only_generation(build(name, jobs=1, on_disk=False)) for name in ("first", "second"))
    for name in ("forest.ann", "catalogue.sqlite", "names.bin"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    other = only_generation(build("other", jobs=1, on_disk=False, seed=43))
    assert (first / "forest.ann").read_bytes() != (other / "forest.ann").read_bytes()


def test_a_forest_built_within_its_file_answers_the_same(build, latents):
    answers = []
    for on_disk in (False, True):
        with LatentIndex.open(build(str(on_disk), jobs=1, on_disk=on_disk)) as index:
            answers.append([index.search(latents[:50], 10, effort=50), index.search(latents[:50], 10, exact=True)])
    assert answers[0] == answers[1]


@pytest.mark.parametrize("on_disk", [False, True])
def test_others_may_read_what_was_built(build, on_disk):
    mask = os.umask(0o022)
    try:
        path = build(on_disk=on_disk)
    finally:
        os.umask(mask)
    for file in path.rglob("*"):
        assert stat.S_IMODE(file.stat().st_mode) == (0o755 if file.is_dir() else 0o644), file.name


@pytest.fixture
def path(ready):
    return ready()


@pytest.fixture
def proofs(tmp_path, monkeypatch):
    """The folder of this user's proofs, of this test alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "ae-search" / "proofs"


@pytest.fixture
def hashed(monkeypatch, proofs):
    """Names of the files whose bytes were read, in order; empty it between two looks."""
    from ae_search.index.store import proof

    names, describe = [], proof.describe_file

    def counting(path):
        names.append(path.name)
        return describe(path)

    monkeypatch.setattr(proof, "describe_file", counting)
    return names


@pytest.fixture
def later(monkeypatch):
    """Return a function that lets the proofs of this process think that so many seconds have passed."""

    def pass_s(seconds):
        shifted = SimpleNamespace(time_ns=lambda: time.time_ns() + int(1e9 * seconds))
        monkeypatch.setattr("ae_search.index.store.proof.time", shifted)

    return pass_s


def opens(path, hashed):
    """Open an index and return what was read for it."""
    hashed.clear()
    with LatentIndex.open(path) as index:
        assert len(index) == 600
    return sorted(hashed)


PROVED_FILES = ("catalogue.sqlite", "forest.ann", "names.bin")
ALL = sorted(PROVED_FILES)


@pytest.mark.parametrize(("seconds", "is_proved"), [(0.0, False), (1.0, False), (3.0, True)])
def test_a_proof_is_kept_once_the_files_have_settled(ready, hashed, later, proofs, seconds, is_proved):
    path = ready()
    later(seconds)
    assert opens(path, hashed) == ALL
    assert len(list(proofs.glob("*"))) == is_proved
    assert opens(path, hashed) == ([] if is_proved else ALL)


def test_what_was_just_written_needs_no_proof(build, hashed, latents):
    """The writer has read it for its digests, so that open readers follow at once."""
    path = build()
    assert opens(path, hashed) == []
    with LatentIndex.open(path) as index:
        index.update(["key-1"], labels=["other"])
        index.compact()
    assert opens(path, hashed) == []


def test_a_proof_goes_with_its_manifest(build, hashed, latents):
    """The files are those that were proved, but the manifest is another index's."""
    path, other = build(), build("other", rows=latents[::-1])
    shutil.copy(only_generation(other) / "manifest.json", only_generation(path) / "manifest.json")
    with pytest.raises(IndexDamagedError, match="forest.ann"):
        LatentIndex.open(path)


@pytest.mark.parametrize("name", PROVED_FILES)
@pytest.mark.parametrize("touch", ["utime", "rewrite", "same times", "replace"])
def test_a_touched_file_is_proved_again(path, hashed, later, name, touch):
    later(60.0)
    opens(path, hashed)
    file = only_generation(path) / name
    times = file.stat().st_atime_ns, file.stat().st_mtime_ns
    if touch == "replace":
        shutil.copy2(file, file.with_name("copy"))
        file.with_name("copy").replace(file)
    elif touch != "utime":
        file.write_bytes(file.read_bytes())
    if touch == "utime":
        os.utime(file)
    else:
        os.utime(file, ns=times)
    assert opens(path, hashed) == [name]
    assert opens(path, hashed) == []


def test_a_copy_is_proved_again(path, hashed, later, tmp_path):
    later(60.0)
    opens(path, hashed)
    shutil.copytree(path, tmp_path / "copy")
    assert opens(tmp_path / "copy", hashed) == ALL
    assert opens(path, hashed) == []
    # In the other's place as well.
    path.rename(tmp_path / "away")
    (tmp_path / "copy").rename(path)
    assert opens(path, hashed) == ALL


@pytest.mark.parametrize("name", PROVED_FILES)
def test_damage_after_a_proof_is_noticed(path, hashed, later, name):
    """Not even the old size and times, which anybody can set, hide it."""
    later(60.0)
    opens(path, hashed)
    file = only_generation(path) / name
    times = file.stat().st_atime_ns, file.stat().st_mtime_ns
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=times)
    with pytest.raises(IndexDamagedError, match=name):
        LatentIndex.open(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"{}", b'{"forest.ann": 1}', b"\xff", b"[" * 9999])
def test_a_broken_proof_proves_nothing(path, hashed, later, proofs, content):
    later(60.0)
    opens(path, hashed)
    (proof,) = proofs.iterdir()
    assert opens(path, hashed) == []
    proof.write_bytes(content)
    assert opens(path, hashed) == ALL
    assert opens(path, hashed) == []


def test_an_index_does_not_vouch_for_itself(path, hashed, later, proofs):
    """A proof that comes with the folder is no proof, whatever it says."""
    later(60.0)
    opens(path, hashed)
    (proof,) = proofs.iterdir()
    shutil.move(proof, only_generation(path) / ".proved.json")
    assert opens(path, hashed) == ALL


@pytest.mark.parametrize("fault", ["written by others", "of another user", "link", "unwritable cache", "no home"])
def test_a_cache_that_is_not_ours_alone_proves_nothing(path, hashed, later, proofs, monkeypatch, tmp_path, fault):
    later(60.0)
    opens(path, hashed)
    assert opens(path, hashed) == []
    if fault == "written by others":
        proofs.chmod(0o777)
    elif fault == "of another user":
        if os.geteuid():
            pytest.skip("only root can give a folder away")
        os.chown(proofs, 12345, -1)
    elif fault == "link":
        proofs.rename(tmp_path / "elsewhere")
        proofs.symlink_to(tmp_path / "elsewhere")
    elif fault == "unwritable cache":
        monkeypatch.setenv("XDG_CACHE_HOME", "/proc/no/such/place")
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", "relative")
        monkeypatch.setenv("HOME", "relative")
        monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert opens(path, hashed) == ALL
    assert not (tmp_path / "relative").exists()


def test_a_cache_is_private_and_holds_the_last_proofs_only(ready, hashed, later, proofs, monkeypatch):
    mask = os.umask(0)
    try:
        later(60.0)
        monkeypatch.setattr("ae_search.index.store.proof._PROOFS_KEPT", 2)
        paths = [ready(name=name) for name in ("one", "two", "three")]
        for path in paths:
            opens(path, hashed)
    finally:
        os.umask(mask)
    assert stat.S_IMODE(proofs.stat().st_mode) == 0o700
    assert [opens(path, hashed) for path in reversed(paths)] == [[], [], ALL]


def test_a_folder_that_cannot_be_written_opens_and_answers(path, hashed, later, latents):
    with LatentIndex.open(path) as index:
        expected = index.search(latents[:20], 5)
    later(60.0)
    before = sorted(path.rglob("*"))
    modes = [(entry, stat.S_IMODE(entry.stat().st_mode)) for entry in [path, *before]]
    for entry, mode in modes:
        entry.chmod(mode & ~0o222)
    try:
        assert opens(path, hashed) == ALL
        with LatentIndex.open(path) as index:
            assert index.search(latents[:20], 5) == expected
            assert len(index.search(latents[0], 5, where={"label": "label-1"})[0]) == 5
            if os.geteuid():
                with pytest.raises(ConfigurationError, match="Permission denied"):
                    index.remove(["key-1"])
        assert sorted(path.rglob("*")) == before
    finally:
        for entry, mode in modes:
            entry.chmod(mode)


@pytest.fixture
def published(templates):
    """An index where every user may read and nobody but root may write; folders of pytest are private."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    path = Path(shutil.copytree(templates["angular"], folder / "index"))
    yield path
    allow_writing(path, True)
    shutil.rmtree(folder)


def allow_writing(path, allowed):
    for entry in (path, *path.rglob("*")):
        entry.chmod((0o755 if entry.is_dir() else 0o644) & (0o777 if allowed else ~0o222))


def test_who_may_only_read_searches_and_follows(published, latents):
    """Without a lock, a proof or a journal of its own."""
    before = sorted(published.rglob("*"))
    allow_writing(published, False)
    with child("read", published, "unprivileged") as reader:
        assert ask(reader, latents[3])["nearest"][0] == "key-3"
        assert sorted(published.rglob("*")) == before
        allow_writing(published, True)
        with LatentIndex.open(published) as index:
            index.remove(["key-3"])
            assert ask(reader, latents[3])["nearest"] == [n.key for n in index.search(latents[3], 3, exact=True)[0]]
            index.compact()
            assert "key-3" not in ask(reader, latents[3])["keys"]


def test_who_may_only_read_cannot_take_back_what_a_killed_writer_left(published, latents):
    killed_writer(published, "spilled")
    allow_writing(published, False)
    with pytest.raises(RuntimeError, match="ConfigurationError: .*changes.sqlite was cut off.*as a user who may"):
        with child("read", published, "unprivileged"):
            pass
    # Who may write takes it back, and then everybody reads again.
    allow_writing(published, True)
    with LatentIndex.open(published) as index:
        assert len(index) == 600
    allow_writing(published, False)
    with child("read", published, "unprivileged") as reader:
        assert ask(reader, latents[3])["nearest"][0] == "key-3"
