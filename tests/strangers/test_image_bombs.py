"""Files of a few kilobytes that ask for gigabytes or hours: refused by every way in before they are decoded."""

import json
import os
import shutil
from pathlib import Path

import pytest
from bombs import bombs, encoded, frame, gif, picture
from bounded import run_bounded
from image_child import WAYS

CHILD = Path(__file__).with_name("image_child.py")
MAX_RISE_MIB = 100


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder of ordinary images, and one of bombs below the same parent."""
    root = tmp_path_factory.mktemp("files")
    for name, files in (("ordinary", ordinary()), ("hostile", bombs())):
        (root / name).mkdir()
        for file, data in files.items():
            (root / name / file).write_bytes(data)
    shared = Path(os.environ.get("AE_SEARCH_DATA", "/nowhere"), "cases", "bomb_144_megapixels.png")
    if shared.is_file():
        shutil.copy(shared, root / "hostile" / "another of 144 megapixels.png")
    return root / "ordinary", root / "hostile"


def ordinary():
    files = {f"{form.lower()}.{form.lower()}": encoded(picture((300, 200)), form) for form in ("JPEG", "PNG")}
    return {
        **files,
        "large.png": encoded(picture((1500, 1200)), "PNG"),
        "large.jpg": encoded(picture((2000, 1500)), "JPEG"),
    }


@pytest.mark.parametrize(
    "way", [pytest.param(way, marks=pytest.mark.slow) if way == "training" else way for way in WAYS]
)
def test_a_bomb_is_refused_before_it_is_decoded(way, folders, tiny_export, tmp_path):
    ended = run_bounded(["python", CHILD, way, tiny_export, *folders], folder=tmp_path, timeout_s=600)
    assert ended.code == 0, ended.stderr[-3000:]
    answer = json.loads(ended.stdout.splitlines()[-1])
    names = {file.name for file in folders[1].iterdir()}
    assert answer["found"].keys() == names
    for name, reason in answer["found"].items():
        assert reason, name
        assert len(reason.splitlines()) == 1
        assert len(reason) < 600
        assert "Traceback" not in reason
    assert answer["rise_mib"] < MAX_RISE_MIB


@pytest.mark.slow
def test_ordinary_files_still_pass(folders, tiny_export, tmp_path):
    """The same run with ordinary files in the place of bombs refuses none: it is not refusing all."""
    others = tmp_path / "others"
    others.mkdir()
    for name, data in {**ordinary(), "moving.gif": gif((99, 99), 20 * [frame((99, 99))])}.items():
        (others / name).write_bytes(data)
    ended = run_bounded(["python", CHILD, "server", tiny_export, folders[0], others], folder=tmp_path, timeout_s=600)
    assert ended.code == 0, ended.stderr[-3000:]
    assert set(json.loads(ended.stdout.splitlines()[-1])["found"].values()) == {None}
