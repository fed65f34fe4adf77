"""Writes that are all there or not at all."""

import pytest

from ae_search.errors import ConfigurationError
from ae_search.files import make_folder, new_folder, write_atomically


def test_a_write_that_fails_leaves_the_file_before(tmp_path):
    path = tmp_path / "figures.json"
    write_atomically(path, "old")

    def fail(temporary):
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    with new_folder(tmp_path / "a" / "7") as folder:
        (folder / "file").write_text("x")
        assert not (tmp_path / "a" / "7").exists()
    assert (tmp_path / "a" / "7" / "file").read_text() == "x"
    assert (tmp_path / "a" / "7").stat().st_mode & 0o700 == 0o700
    with pytest.raises(RuntimeError), new_folder(tmp_path / "a" / "8"):
        raise RuntimeError
    with pytest.raises(FileExistsError), new_folder(tmp_path / "a" / "7"):
        pass
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["7"]


def test_a_file_in_the_way_of_a_folder(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigurationError, match="Cannot make the run folder"):
        make_folder(tmp_path / "file" / "run", "run")
