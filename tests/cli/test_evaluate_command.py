"""`ae-search evaluate` as a user types it, with a server, and with a model in its own process."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from build_options import build_options
from pictures import coloured_picture
from typer.testing import CliRunner

from ae_search.cli import app
from ae_search.data import open_source
from ae_search.errors import ConfigurationError, IndexDamagedError, ModelMismatchError

TOOL = Path(sys.executable).with_name("ae-search")


@pytest.fixture(scope="module")
def folder(photos, tiny_export, tmp_path_factory):
    """A folder of photos and an index of it."""
    from ae_search.indexing import index_source
    from ae_search.model_server import LocalEncoder

    root = tmp_path_factory.mktemp("evaluate")
    shutil.copytree(photos, root / "photos")
    index_source(open_source(str(root / "photos")), LocalEncoder(tiny_export), root / "index", build_options(n_trees=5))
    (root / "bare").mkdir()
    for seed in (30, 31):
        coloured_picture(seed).save(root / "bare" / f"{seed}.png")
    return root


@pytest.fixture(scope="module")
def server(tiny_export):
    """A server, so that not every command loads the model anew."""
    from ae_search.model_server import ModelServer

    with ModelServer(tiny_export) as server:
        yield server


@pytest.fixture
def run(folder, server, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "160")

    def run_command(*words, error=None, model=True):
        where = ["--server", server.address] if model else []
        result = CliRunner().invoke(app, ["evaluate", *map(str, words), *where])
        if error is None:
            assert result.exit_code == 0, result.output
        else:
            assert isinstance(result.exception, error), result.output
        return result

    return run_command


SMALL = ("--index", "index", "--reverse", "5")


def test_tables_name_the_worst_label_and_show_ours_beside_the_baselines(run):
    out = run("photos", *SMALL).stdout
    for word in ("P@10", "mAP@1000", "pixels, PCA", "gradients, PCA", "untrained encoder", "recall@10"):
        assert word in out
    for label in ("cats", "dögs"):
        assert label in out
    assert out.count("<- worst") == 1
    assert out.count("<- used") == 1
    assert "tiny version 1" in out
    assert "20 of 20 queries are items of the index; none is counted as a neighbour of itself." in out
    assert "2 images cannot be read and were left out." in out
    assert "half resolution" in out


def test_json_is_all_of_stdout(run):
    told = json.loads(run("photos", *SMALL, "--no-baselines", "--json", "--seed", "7").stdout)
    assert [row["name"] for row in told["retrieval"]] == ["tiny version 1"]
    assert (told["items"], told["queries"], told["seed"], told["index"]) == (20, 20, 7, "index")
    assert told["reverse_search"][0]["queries"] == 5
    assert set(told["damaged"]) == {"cats/text.jpg", "cats/truncated.jpg"}


@pytest.mark.slow
def test_only_some_files_are_queries(run):
    words = ("photos", *SMALL, "--no-baselines", "--json")
    assert json.loads(run(*words, "--only", "image 0*").stdout)["queries"] == 10
    assert json.loads(run(*words, "--only", "*.PNG", "--only", "*.GIF").stdout)["queries"] == 8
    few = json.loads(run(*words, "--only", "image*", "--queries", "3").stdout)
    assert (few["queries"], few["source"]) == (3, "photos[image*]")


@pytest.mark.slow
def test_searching_with_views_is_one_more_row_with_its_own_cost(run):
    result = run("photos", *SMALL, "--no-baselines", "--json", "--views", "--report", "report.html")
    plain, viewed = json.loads(result.stdout)["reverse_search"]
    assert [plain["name"], viewed["name"]] == ["tiny version 1", "tiny version 1 with views"]
    # The mirror image is one of the views.
    assert viewed["found_first"]["mirror"] == 1.0
    assert viewed["ms"] > plain["ms"] > 0.0
    assert "tiny version 1 with views" in run("photos", *SMALL, "--no-baselines", "--views").stdout


@pytest.mark.slow
def test_harder_alterations_are_asked_for_by_name(run):
    words = ("photos", *SMALL, "--no-baselines")
    told = json.loads(run(*words, "--alterations", "hard", "--json").stdout)["reverse_search"]
    assert set(told[0]["found_first"]) >= {"white border", "quarter turn", "half cut out"}
    assert len(told[0]["found_first"]) == 11
    assert "quarter turn" in run(*words, "--alterations", "all").stdout
    assert "quarter turn" not in run(*words).stdout
    run(*words, "--alterations", "odd", error=SystemExit)


def test_a_database_is_named_where_the_images_have_moved(run, folder, tmp_path):
    shutil.copytree(folder / "index", tmp_path / "index")
    shutil.copytree(folder / "photos", tmp_path / "moved")
    shutil.copytree(folder / "photos", tmp_path / "queries")
    words = (tmp_path / "queries", "--index", tmp_path / "index", "--reverse", "5", "--no-baselines", "--json")
    (folder / "photos").rename(folder / "away")
    try:
        result = run(*words)
        assert json.loads(result.stdout)["reverse_search"] == []
        assert "Name the indexed images by --database" in result.stderr
        found = json.loads(run(*words, "--database", tmp_path / "moved").stdout)
        assert found["reverse_search"][0]["queries"] == 5
        run(*words, "--database", folder / "photos", error=ConfigurationError)
    finally:
        (folder / "away").rename(folder / "photos")


def test_images_without_labels(run):
    out = run("bare", *SMALL, "--no-baselines").stdout
    assert "No query has a label, so retrieval was not measured." in out
    assert "P@10" not in out
    assert "Strict reverse search" in out


@pytest.mark.parametrize(
    ("words", "error", "told"),
    [
        (("photos", "--only", "test_*"), ConfigurationError, "None of the 22 images of photos has a name like test_*"),
        (("digits/test", "--only", "test_*"), ConfigurationError, "--only chooses files of a folder"),
        (("nowhere",), ConfigurationError, "neither a built-in name nor a folder"),
        (("photos", "--report", "no/folder/report.html"), ConfigurationError, "there is no folder no/folder"),
        (("photos", "--report", "photos"), ConfigurationError, "it is a folder"),
        (("photos", "--run", "nowhere"), ConfigurationError, "is no training run"),
        (("photos", "--only", "t*.jpg"), ConfigurationError, "None of the 2 images of photos[t*.jpg] can be read"),
    ],
)
def test_wrong_words_are_told(run, words, error, told):
    assert told in str(run(*words, "--index", "index", error=error).exception)


def test_a_wrong_index_is_told(run, folder, tmp_path):
    error = run("photos", "--index", tmp_path, error=ConfigurationError).exception
    assert "is no index" in str(error)
    shutil.copytree(folder / "index", tmp_path / "damaged")
    forest = next((tmp_path / "damaged").rglob("forest.ann"))
    forest.chmod(0o644)
    forest.write_bytes(forest.read_bytes()[:-8])
    run("photos", "--index", tmp_path / "damaged", error=IndexDamagedError)


def test_another_model_is_refused(run, tmp_path):
    import keras

    from ae_search.export import export_encoder
    from ae_search.model import build_encoder

    keras.utils.set_random_seed(5)
    export_encoder(build_encoder((16, 16, 3), latent_dim=8), tmp_path / "other")
    words = ("photos", "--index", "index", "--model", tmp_path / "other")
    run(*words, error=ModelMismatchError, model=False)


def test_neither_server_nor_model_is_told(run):
    error = run("photos", "--index", "index", error=ConfigurationError, model=False).exception
    assert "--server" in str(error)


def test_a_trained_model_with_its_run_a_report_and_a_projection(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = {
        "train": "digits --run run --epochs 1 --latent-dim 4 --fit pad",
        "export": "run --to export",
        "index build": "digits --index index --model export --trees 2 --recall 0.5",
        "evaluate": "digits/test --index index --model export --run run --queries 20 --reverse 5 --json "
        "--report report.html --projector projector",
    }
    results = [CliRunner().invoke(app, f"{command} {options}".split()) for command, options in words.items()]
    assert [result.exit_code for result in results] == [0, 0, 0, 0], results[-1].output
    told = json.loads(results[-1].stdout)
    assert len(told["retrieval"]) == 5
    assert 0.0 < told["reconstruction_error"] < 0.5
    assert "wrote report.html" in results[-1].stderr
    assert "<html" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert any((tmp_path / "projector").iterdir())
    options = ("--index", folder / "index", "--run", "run", "--model", "export")
    other = CliRunner().invoke(app, ["evaluate", str(folder / "photos"), *map(str, options)])
    assert isinstance(other.exception, ModelMismatchError)
    assert "run trained a model with fingerprint" in str(other.exception)


def test_errors_are_one_line(folder, tiny_export):
    command = [TOOL, "evaluate", "photos", "--index", "index", "--only", "x*", "--model", tiny_export]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("error: None of the 22 images")
    assert "Traceback" not in result.stderr


def test_help_loads_no_tensorflow():
    code = (
        "import sys; sys.argv[1:] = ['evaluate', '--help']\n"
        "from ae_search.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'tensorflow', 'keras'} & sys.modules.keys()), file=sys.stderr)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert run.stderr.splitlines()[-1] == "[]"
    assert "--only" in run.stdout


def test_another_export_is_compared_with(run, tiny_export):
    found = json.loads(run("photos", *SMALL, "--no-baselines", "--json", "--against", tiny_export).stdout)["against"]
    # The same export, but for the rounding of pixels that the index's own latents did not go through.
    assert found["overlap"] > 0.9
    assert found["precision"]["10"] == pytest.approx(found["ours"]["10"], abs=0.05)
    out = run("photos", *SMALL, "--no-baselines", "--against", tiny_export).stdout
    assert f"{found['overlap']:.1%} of the first ten neighbours are the same" in " ".join(out.split())
