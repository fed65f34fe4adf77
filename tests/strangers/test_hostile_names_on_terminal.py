"""Names made to command a terminal, in everything that the command line prints: shown, never obeyed; exact as JSON."""

import json
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from bounded import run_bounded
from build_options import build_options
from hostile_text import FILE_NAMES, FORGED, HOSTILE, STORABLE, assert_shown, without_own_styles
from pictures import coloured_picture, encoded
from pseudo_terminal import run_on_terminal
from typer.testing import CliRunner

from ae_search.cli import app
from ae_search.contract import ModelCard
from ae_search.index import IndexBuilder, LatentIndex

EVERYTHING = " ".join(HOSTILE.values())
SOURCE = " ".join(STORABLE.values())
MODEL_NAME = f"tiny {HOSTILE['newline']} {HOSTILE['colour']}"
FORGED_INDEX = "\x1b[38;5;201mindex"


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """An index in which every name is hostile; each item has a twin."""
    path = tmp_path_factory.mktemp("hostile") / FORGED_INDEX
    texts = list(STORABLE.values())
    rows = np.random.default_rng(0).normal(size=(len(texts), 8)).astype(np.float32)
    card = ModelCard(EVERYTHING, 1, "\x1b[2J\nab" + EVERYTHING, (16, 16, 3), 8)
    with IndexBuilder(path, card, build_options(n_trees=3, jobs=1), sources=[SOURCE, FORGED]) as builder:
        small = [encoded(coloured_picture(1, (30, 20)), "JPEG")] * len(texts)
        builder.add(rows, texts, texts[::-1], metadata=[{text: text} for text in texts], thumbnails=small)
        builder.add(rows, [f"{text} twin" for text in texts], texts)
    return path


@pytest.fixture
def index(template, tmp_path):
    return shutil.copytree(template, tmp_path / FORGED_INDEX)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command in this process; return its result after a look at all that it printed."""
    monkeypatch.chdir(tmp_path)

    def run_command(*words, code=0):
        result = CliRunner().invoke(app, list(map(str, words)))
        assert result.exit_code == code, (result.output, result.exception)
        assert_shown(result.output)
        assert_shown(str(result.exception or ""))
        return result

    return run_command


def test_info(run, index):
    lines = run("index", "info", "--index", index).stdout.splitlines()
    assert len(lines) == 9
    assert r"\x1b[2J\x1b[H" in lines[2] and rf"h\n{FORGED}" in lines[2] and r"\udcff\udc9b" in lines[2]
    told = json.loads(run("index", "info", "--index", index, "--json").stdout)
    assert told["model"]["name"] == EVERYTHING
    assert told["sources"] == [SOURCE, FORGED]
    assert told["place"] == str(index)


@pytest.mark.parametrize("name", STORABLE)
def test_query(run, index, name):
    key = STORABLE[name]
    words = ("query", "--index", index, "--key", key, "-k", "100", "--exact")
    shown = run(*words).stdout
    assert "v[red]x[/red]" in shown.replace("\n", "") and "%(name)s {0}" in shown
    (told,) = json.loads(run(*words, "--json").stdout)
    assert told["query"] == key
    expected = {text: {text: text} for text in STORABLE.values()} | {f"{text} twin": {} for text in STORABLE.values()}
    assert {one["key"]: one["metadata"] for one in told["neighbours"]} | {key: {key: key}} == expected
    assert {one["label"] for one in told["neighbours"]} == set(STORABLE.values())


def test_query_with_pictures(run, index, tmp_path):
    keys = [word for key in STORABLE.values() for word in ("--key", key)]
    picture = tmp_path / "a\x1b[31m\u202e.png"
    result = run("query", "--index", index, *keys, "--plot", picture)
    assert r"wrote" in result.stderr and r"a\x1b[31m\u202e.png" in result.stderr
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_key_that_is_not_there(run, index, name):
    run("query", "--index", index, "--key", f"no {HOSTILE[name]}", code=1)
    run("index", "remove", "--index", index, f"no {HOSTILE[name]}", code=1)
    run("index", "info", "--index", HOSTILE[name], code=1)
    run("query", "--index", index, HOSTILE[name], code=1)
    run("query", "--index", index, "--key", "x", "--where", HOSTILE[name], code=1)
    run("index", "build", "--index", index, HOSTILE[name], code=1)
    run("index", "info", "--index", index, f"--{HOSTILE[name]}", code=2)
    run("index", "info", "--index", index, HOSTILE[name], code=2)
    run("query", "--index", index, "-k", HOSTILE[name], code=2)
    run(f"x{HOSTILE[name]}", code=2)
    run("index", f"x{HOSTILE[name]}", code=2)


def test_duplicates(run, index):
    shown = run("index", "duplicates", "--index", index).stdout
    assert len(shown.splitlines()) == 3 * len(STORABLE)
    told = json.loads(run("index", "duplicates", "--index", index, "--json").stdout)
    assert sorted(group["keys"][0] for group in told) == sorted(STORABLE.values())


def test_verify_tune_remove_and_compact(run, index, tmp_path):
    run("index", "verify", "--index", index)
    run("index", "verify", "--index", index, "--json")
    run("index", "tune", "--index", index)
    assert r"\x1b[38;5;201mindex: 22 items removed" in run(
        "index", "remove", "--index", index, *list(STORABLE.values())[1:]
    ).stdout.replace(str(tmp_path) + "/", "")
    run("index", "compact", "--index", index)
    forest = next(index.glob("generation-*/forest.ann"))
    forest.write_bytes(b"x" * forest.stat().st_size)
    run("index", "verify", "--index", index, code=1)


def test_exports_are_exact(run, index, tmp_path):
    expected = sorted([*STORABLE.values(), *(f"{text} twin" for text in STORABLE.values())])
    run("index", "export", "--index", index, tmp_path / "a\x1b.jsonl")
    lines = (tmp_path / "a\x1b.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    assert sorted(json.loads(line)["id"] for line in lines) == expected
    run("index", "export", "--index", index, tmp_path / "a\x1b.parquet")
    run("index", "import", tmp_path / "a\x1b.parquet", "--index", tmp_path / "b\x1b", "--trees", "2")
    with LatentIndex.open(tmp_path / "b\x1b") as imported:
        assert sorted(imported.keys()) == expected


@pytest.fixture
def folder(tmp_path):
    """Images in folders, both of hostile names, and one of each that is none."""
    root = tmp_path / "photos\x1b[31m\u202e"
    for seed, (name, text) in enumerate(FILE_NAMES.items()):
        (root / text).mkdir(parents=True)
        (root / text / f"{text}.png").write_bytes(encoded(coloured_picture(seed, (20, 20)), "PNG"))
        (root / text / f"bad {name} {text}.png").write_bytes(b"no image")
    return root


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The base path of a model."""
    from ae_search.testing import write_tiny_model

    base = tmp_path_factory.mktemp("models") / "tiny"
    write_tiny_model(base)
    return base


@pytest.fixture(scope="module")
def nasty_model(tmp_path_factory):
    """The base path of a model whose card has a hostile name, written into the graph afterwards."""
    from ae_search.testing import write_tiny_model

    hostile = json.dumps(MODEL_NAME)[1:-1].encode()
    base = tmp_path_factory.mktemp("models") / ("m" * len(hostile))
    graph = write_tiny_model(base) / "saved_model.pb"
    content = graph.read_bytes()
    assert base.name.encode() in content
    graph.write_bytes(content.replace(base.name.encode(), hostile))
    return base


def test_a_card_with_a_hostile_name_is_refused(run, nasty_model, folder):
    ended = run("index", "build", folder, "--index", "new", "--model", nasty_model, code=1)
    assert "name is not printable text" in str(ended.exception)


@pytest.mark.slow
def test_build_embed_evaluate_and_what_they_log(run, folder, model, tmp_path):
    keys = sorted(f"{text}/{text}.png" for text in FILE_NAMES.values())
    details = tmp_path / "details\x1b[31m.jsonl"
    lines = [json.dumps({"key": key, "label": STORABLE["clipboard"]}) for key in (*keys, STORABLE["newline"])]
    details.write_text("\n".join(lines) + "\n")
    where = ("--index", FORGED_INDEX, "--model", model)
    # In a process of its own, whose log goes where a user's goes.
    words = ("index", "build", folder, "--metadata", details, "--trees", "2", *where)
    built = run_bounded(["ae-search", *words], folder=tmp_path)
    assert built.code == 0, built.stderr
    assert_shown(built.stdout)
    assert_shown(built.stderr)
    assert len([line for line in built.stderr.splitlines() if "WARNING left out" in line]) == len(keys)
    assert "belong to no image" in built.stderr and "damaged images left out" in built.stdout
    with LatentIndex.open(tmp_path / FORGED_INDEX) as opened:
        assert sorted(opened.keys()) == keys
    run("index", "add", folder, *where)
    run("index", "update", folder, *where)
    assert "nothing to do" in run("index", "rebuild", *where).stdout
    run("embed", folder, "--out", "out\x1b[31m", "--model", model, code=3)
    run("evaluate", folder, "--reverse", "5", "--report", "report\x9b.html", *where)
    told = json.loads(run("evaluate", folder, "--reverse", "0", "--no-baselines", "--json", *where).stdout)
    assert told["model"]["name"] == "tiny"


@pytest.mark.slow
def test_train(folder, tmp_path):
    words = ["train", folder, "--run", "run\x1b[31m", "--epochs", "1", "--image-size", "16x16", "--latent-dim", "4"]
    ended = run_bounded(["ae-search", *words, "--architecture", "conv"], folder=tmp_path, timeout_s=300)
    assert ended.code == 0, ended.stderr
    assert_shown(ended.stderr)
    assert_shown(ended.stdout)
    assert r"run\x1b[31m: 1 of 1 epochs" in ended.stdout
    assert (tmp_path / "run\x1b[31m" / "samples.png").exists()


@pytest.mark.slow
def test_serve_and_doctor(run, index, model, tmp_path):
    from ae_search.testing import serving

    name = " ".join(STORABLE.values())
    with serving(model, model_name=name) as server:
        where = ("--server", server.address, "--timeout", "30")
        shown = run("doctor", *where, "--model-name", name, "--index", index, code=1).stdout
        assert r"a\x1b[38;5;201mpink" in shown
        json.loads(run("doctor", *where, "--model-name", name, "--index", index, "--json", code=1).stdout)
        run("doctor", *where, "--model-name", f"no {name}", code=1)
        run("index", "add", tmp_path, "--index", index, *where, code=1)
        run("query", "--index", index, *where, "--model-name", f"no {name}", _picture(tmp_path), code=1)
        run("query", "--index", index, *where, "--model-name", name, _picture(tmp_path), code=1)
    told, log = _served(model, name, tmp_path)
    assert told.startswith(r"serving a\x1b[38;5;201mpink") and told.count("\n") == 1
    assert_shown(told)
    assert_shown(log)


def _served(model, name, folder):
    """Start a server, end it when it serves, and return what it printed and logged."""
    with (folder / "log").open("w+") as log:
        command = [sys.executable, "-m", "ae_search", "serve", str(model), "--port", "0", "--name", name]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as server:
            line = server.stdout.readline()
            server.send_signal(signal.SIGINT)
            told = line + server.stdout.read()
        assert server.returncode == 0
        log.seek(0)
        return told, log.read()


def _picture(folder):
    path = folder / "query\x1b[31m.png"
    path.write_bytes(encoded(coloured_picture(0, (20, 20)), "PNG"))
    return path


def test_on_a_terminal(index, tmp_path):
    for words, code in (
        (["index", "info", "--index", index.name], 0),
        (["index", "duplicates", "--index", index.name], 0),
        (["query", "--index", index.name, "--key", STORABLE["newline"], "-k", "100", "--exact"], 0),
        (["query", "--index", index.name, "--key", HOSTILE["surrogate"]], 1),
        (["index", "info", "--index", HOSTILE["window title"]], 1),
        (["index", "info", "--index", HOSTILE["newline"]], 1),
        (["query", f"--{HOSTILE['colour']}"], 2),
        ([HOSTILE["colour"]], 2),
    ):
        ended, received = run_on_terminal(words, folder=tmp_path)
        assert ended == code, received
        shown = without_own_styles(received)
        if "duplicates" in words:  # the progress bar moves the cursor and hides it
            for own in (b"\x1b[?25l", b"\x1b[?25h", b"\x1b[2K", b"\x1b[1A", b"\r"):
                shown = shown.replace(own, b"")
        assert_shown(shown)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_lacks_letters(index, tmp_path, encoding):
    with LatentIndex.open(index) as opened:
        opened.add(np.ones((1, 8), np.float32), ["猫 é"])
    for words in (["query", "--index", index, "--key", "猫 é"], ["index", "duplicates", "--index", index]):
        ended = run_bounded(["ae-search", *words], folder=tmp_path, environment={"PYTHONIOENCODING": encoding})
        assert ended.code == 0, ended.stderr
        assert "Traceback" not in ended.stderr
