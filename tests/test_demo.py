"""The demo on scikit-learn's digits, which need no network, twice."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ae_search.cli import demo as demo_command
from ae_search.errors import ServerUnavailableError

TOOL = Path(sys.executable).with_name("ae-search")


def demo(folder, *options):
    command = [TOOL, "demo", "--dir", folder, "--training-s", "1", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=280)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "a demo"
    result = demo(folder, "--source", "digits")
    assert result.returncode == 0, result.stderr
    return folder, result


def test_it_ends_with_a_table_and_its_figures(first):
    folder, result = first
    summary = json.loads((folder / "summary.json").read_text())
    assert set(summary["seconds"]) == {"training", "export", "server start", "indexing", "queries"}
    assert summary["queries"] == 360
    assert len(summary["precision_at_10_by_label"]) == 10
    assert 0.5 < summary["precision_at_10"] <= 1.0
    assert 0 < summary["median_ms"] <= summary["p99_ms"]
    assert f"{summary['precision_at_10']:.3f}" in result.stdout
    for name in ("reconstructions.png", "neighbours.png", "export/digits/1/saved_model.pb", "index/CURRENT"):
        assert (folder / name).is_file()
    assert result.stdout.count("ae-search ") == 4
    words = shlex.split(result.stdout.splitlines()[-1])
    assert words[1:] == ["web", "--index", str(folder / "index"), "--model", str(folder / "export" / "digits")]


@pytest.mark.slow
def test_a_second_time_it_reuses_what_is_there(first):
    folder, _ = first
    before = json.loads((folder / "summary.json").read_text())
    result = demo(folder, "--source", "digits")
    assert result.returncode == 0, result.stderr
    after = json.loads((folder / "summary.json").read_text())
    assert result.stderr.count("reusing") == 3
    for figure in ("version", "precision_at_10", "images_per_s", "epochs"):
        assert after[figure] == before[figure]


def test_another_source_is_not_mixed_in(first):
    folder, _ = first
    result = demo(folder, "--source", "fashion_mnist")
    assert result.returncode == 1
    assert "holds a demo of digits/train" in result.stderr


def test_a_server_that_says_nothing_is_not_waited_for_for_ever(tiny_export, monkeypatch):
    monkeypatch.setattr(demo_command, "SERVER_START_S", 0.05)
    with pytest.raises(ServerUnavailableError, match="nothing within 0.05 s"):
        demo_command._start_server(tiny_export)
