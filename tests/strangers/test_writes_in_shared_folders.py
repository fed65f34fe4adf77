"""Writes beside what an enemy put there: no name is foreseen, no link is followed, nothing of the user changes."""

import os
import stat

import pytest
from bounded import run_bounded

from ae_search.errors import ConfigurationError
from ae_search.files import discard, locked, new_folder, open_regular, remove_leftovers, write_atomically


@pytest.mark.parametrize("content", ["text ü", b"bytes", lambda path: path.write_bytes(b"written")])
def test_a_target_that_is_a_link_is_replaced_and_not_followed(victim, tmp_path, content):
    target = tmp_path / "report.html"
    target.symlink_to(victim.path)
    write_atomically(target, content)
    assert not target.is_symlink()
    assert target.read_bytes() in ("text ü".encode(), b"bytes", b"written")


def test_a_hard_link_to_the_target_keeps_its_content(victim, tmp_path):
    os.link(victim.path, tmp_path / "report.html")
    write_atomically(tmp_path / "report.html", "new")
    assert (tmp_path / "report.html").read_text() == "new"


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o002])
def test_the_mode_follows_the_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_atomically(tmp_path / "text", "x")
        write_atomically(tmp_path / "written", lambda path: path.write_text("x"))
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o666 & ~mask}


def test_it_is_written_where_nobody_else_may_put_a_name(tmp_path):
    seen = []

    def write(path):
        seen.append((path.parent.name, stat.S_IMODE(path.parent.stat().st_mode), list(path.parent.iterdir())))
        path.write_text("x")

    for _ in range(2):
        write_atomically(tmp_path / "file.png", write)
    assert [mode for _, mode, _ in seen] == [0o700, 0o700]
    assert [names for _, _, names in seen] == [[], []]
    assert seen[0][0] != seen[1][0]
    assert [path.name for path in tmp_path.iterdir()] == ["file.png"]


def test_names_that_were_once_foreseeable_are_left_alone(victim, tmp_path):
    """Those of every process, as an enemy would lay them out."""
    folder = tmp_path / "shared"
    folder.mkdir()
    for number in range(1, 2000):
        (folder / f".tmp-{number}-summary.json").symlink_to(victim.path)
    (folder / f".tmp-{os.getpid()}-picture.png").symlink_to(victim.path)
    script = (
        "import os, sys, pathlib; from ae_search.files import write_atomically\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "link = folder / f'.tmp-{os.getpid()}-summary.json'\n"
        "link.is_symlink() or link.symlink_to(sys.argv[2])\n"
        "write_atomically(folder / 'summary.json', 'new')"
    )
    ended = run_bounded(["python", "-c", script, folder, victim.path], folder=tmp_path)
    assert ended.code == 0, ended.stderr
    write_atomically(folder / "picture.png", b"new")
    assert (folder / "summary.json").read_text() == "new"


def test_leftovers_are_removed_and_what_they_lead_to_is_not(victim, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / ".tmp-abcdefgh").symlink_to(victim.path.parent)
    (folder / ".tmp-abcdefg_").symlink_to(victim.path)
    (folder / ".tmp-01234567").mkdir()
    (folder / ".tmp-01234567" / "link").symlink_to(victim.path.parent)
    (folder / "kept").write_text("x")
    remove_leftovers(folder)
    assert [path.name for path in folder.iterdir()] == ["kept"]
    discard(folder / "not there")


def test_a_folder_does_not_take_the_place_of_a_link(victim, tmp_path):
    (tmp_path / "final").symlink_to(tmp_path / "nothing")
    with pytest.raises(FileExistsError), new_folder(tmp_path / "final"):
        pass
    assert (tmp_path / "final").is_symlink()


@pytest.fixture(params=["link", "dangling link", "hard link", "pipe", "folder", "device"])
def strange(request, victim, tmp_path):
    """Something that is no plain file of its own."""
    path = tmp_path / "strange"
    match request.param:
        case "link":
            path.symlink_to(victim.path)
        case "dangling link":
            path.symlink_to(tmp_path / "outside" / "not there")
        case "hard link":
            os.link(victim.path, path)
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "device":
            path.symlink_to("/dev/zero")
    return path


@pytest.mark.timeout(30)
def test_what_is_no_plain_file_is_neither_opened_nor_locked(strange):
    with pytest.raises(OSError, match=r"it is a|it has another name"):
        open_regular(strange, writable=True)
    with pytest.raises(OSError, match=r"it is a|it has another name"), locked(strange):
        pass
    if strange.is_file() and not strange.is_symlink():
        os.close(open_regular(strange))
    else:
        with pytest.raises(OSError, match="it is a"):
            open_regular(strange)


@pytest.mark.timeout(120)
def test_the_lock_of_an_embed_folder(strange, tmp_path):
    from ae_search.indexing.shards import only_writer

    strange.rename(tmp_path / ".lock")
    with pytest.raises(ConfigurationError, match="cannot be locked"), only_writer(tmp_path):
        pass


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["link", "hard link", "pipe"])
def test_the_lock_of_an_export(victim, tmp_path, tiny_encoder, kind):
    from ae_search.export import export_encoder

    base = tmp_path / "tiny"
    base.mkdir()
    if kind == "link":
        (base / ".lock").symlink_to(victim.path)
    elif kind == "hard link":
        os.link(victim.path, base / ".lock")
    else:
        os.mkfifo(base / ".lock")
    with pytest.raises(ConfigurationError, match="cannot be locked for an export"):
        export_encoder(tiny_encoder, base)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["history.csv", "backup/latest.weights.h5", "epochs/best.keras", "tensorboard"])
@pytest.mark.parametrize("kind", ["link", "hard link", "pipe"])
def test_a_run_folder_that_leads_elsewhere(victim, tmp_path, name, kind):
    from ae_search.training import TrainingConfig
    from ae_search.training.run_folder import prepare_run

    run = tmp_path / "run"
    config = TrainingConfig(source="digits", image_shape=(8, 8, 1))
    prepare_run(run, config)
    assert prepare_run(run, config) is None
    place = run / name
    place.parent.mkdir(exist_ok=True)
    if kind == "link":
        place.symlink_to(victim.path)
    elif kind == "hard link":
        os.link(victim.path, place)
    else:
        os.mkfifo(place)
    with pytest.raises(ConfigurationError, match=f"{name} cannot be written: it"):
        prepare_run(run, config)
