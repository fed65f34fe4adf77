"""The commands and the Python of README and guides run as they stand there, on a tiny folder of photographs."""

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from ae_search.cli import main
from ae_search.index import Manifest

ROOT = Path(__file__).resolve().parents[1]
GUIDES = [ROOT / "docs" / "start.md", *sorted((ROOT / "docs" / "guide").glob("*.md"))]
PAGES = [ROOT / "README.md", *GUIDES]
TOOL = Path(sys.executable).with_name("ae-search")


def blocks(language, pages=PAGES):
    """Return the blocks of code in a language: those of the README first, then those of the guides."""
    texts = [page.read_text(encoding="utf-8") for page in pages]
    return [block for text in texts for block in re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)]


def walk(pages):
    """Return the five commands from a folder to a query, and what else stands in their blocks."""
    verbs = ("train photos", "export runs", "serve export", "index build", "query my-photo")
    lines = [line for block in blocks("sh", pages) for line in block.splitlines()]
    return [line for line in lines if line.startswith(tuple(f"ae-search {verb}" for verb in verbs))]


def run(command, cwd):
    return subprocess.run([TOOL, *command], cwd=cwd, capture_output=True, text=True, timeout=240)


@pytest.fixture
def run_here(monkeypatch, capsys):
    """Run a command as `run` does, but in this process, which need not load TensorFlow anew."""
    for module, hook in ((sys, "excepthook"), (threading, "excepthook"), (warnings, "showwarning")):
        monkeypatch.setattr(module, hook, getattr(module, hook))  # so that what `main` sets is taken back

    def run_command(command, cwd):
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", ["ae-search", *command])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return subprocess.CompletedProcess(command, ended.value.code, out, err)

    return run_command


@pytest.fixture(scope="module")
def place(photos, tmp_path_factory):
    """A working folder in which the five commands of the README were run; the server runs on."""
    place = tmp_path_factory.mktemp("readme")
    shutil.copytree(photos, place / "photos")
    shutil.copy(place / "photos" / "cats" / "image 01.PNG", place / "my-photo.jpg")
    trustme.CA().cert_pem.write_to_path(place / "ca.pem")
    server = None
    address = None
    results = {}
    try:
        for line in walk([ROOT / "README.md"]):
            words = shlex.split(line.removesuffix("&"))
            command = [word.replace("127.0.0.1:8500", address or "") for word in words[1:]]
            if command[0] == "train":
                command += ["--epochs", "1", "--image-size", "16x16"]
            if command[0] == "serve":
                command[command.index("8500")] = "0"
                server = subprocess.Popen([TOOL, *command], cwd=place, stdout=subprocess.PIPE, text=True)
                said = server.stdout.readline()
                address = said.split()[-1]
                continue
            results[command[0]] = run(command, place)
            assert results[command[0]].returncode == 0, results[command[0]].stderr
        yield place, address, results
    finally:
        if server is not None:
            server.send_signal(signal.SIGTERM)
            assert server.wait(timeout=30) == 0
            server.stdout.close()


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_the_walk_of_the_start_page_is_that_of_the_readme():
    assert len(walk([ROOT / "README.md"])) == 5
    assert walk([ROOT / "docs" / "start.md"]) == walk([ROOT / "README.md"])


def test_the_walk_from_photographs_to_a_query(place):
    folder, _, results = place
    assert "cats/image 01.PNG" in results["query"].stdout
    assert "2 damaged images left out" in results["index"].stdout
    assert "left out cats/text.jpg" in results["index"].stderr
    for picture in ("neighbours.png", "runs/photos/samples.png", "runs/photos/reconstructions.png"):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")


def test_the_python_code(place, monkeypatch, capsys):
    folder, address, _ = place
    monkeypatch.chdir(folder)
    namespace = {}
    for block in blocks("python"):
        exec(compile(block.replace("127.0.0.1:8500", address), "a block of code", "exec"), namespace)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    start, similarity = lines[0].rsplit(" ", 1)
    assert start == "1 cats/image 01.PNG cats"
    assert float(similarity) == pytest.approx(1.0, abs=1e-6)
    assert namespace["in_process"].search("my-photo.jpg", k=1)[0].key == "cats/image 01.PNG"
    namespace["client"].close()
    namespace["secure"].close()


def test_the_index_that_lives(place, tmp_path):
    folder, address, _ = place
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (block,) = [block for block in blocks("sh") if "index add" in block]
    told = {}
    for line in block.splitlines():
        words = [word.replace("127.0.0.1:8500", address) for word in shlex.split(line, comments=True)]
        result = run(words[1:], tmp_path)
        assert result.returncode == 0, result.stderr
        told[words[2]] = result.stdout
    assert "0 images added, 20 were there already" in told["add"]
    assert "1 items removed; 19 in all" in told["remove"]
    assert "cats/" in told["--key"] and "dögs/" not in told["--key"] and "image 03" not in told["--key"]
    assert "worth it" in told["info"]
    assert "19 items in generation-000002" in told["compact"]
    assert told["verify"].count("ok ") == 6


@pytest.mark.slow
def test_the_evaluation(place, tmp_path):
    folder, _, _ = place
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "photos").rename(tmp_path / "queries")
    (block,) = [block for block in blocks("sh") if "ae-search evaluate" in block]
    result = run(
        [*shlex.split(block.replace("\\\n", " "), comments=True)[1:], "--database", "queries", "--reverse", "3"],
        tmp_path,
    )
    assert result.returncode == 0, result.stderr
    assert "P@10 by label" in result.stdout
    assert (tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert (tmp_path / "projector" / "projector_config.pbtxt").is_file()


@pytest.mark.slow
def test_the_same_with_the_model_in_process(place):
    folder, address, _ = place
    options = ["query", "my-photo.jpg", "--index", "indexes/photos", "--json", "-k", "3"]
    served = run([*options, "--server", address], folder)
    local = run([*options, "--model", "export/photos"], folder)
    assert served.returncode == local.returncode == 0
    assert [line for line in served.stdout.splitlines() if '"key"' in line] == [
        line for line in local.stdout.splitlines() if '"key"' in line
    ]


def test_a_query_loads_no_tensorflow(place):
    folder, address, _ = place
    code = (
        "import sys\nfrom ae_search.cli import app\n"
        f"sys.argv = ['ae-search', 'query', 'my-photo.jpg', '--index', 'indexes/photos', '--server', {address!r}]\n"
        "try:\n    app()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "heavy = {'tensorflow', 'keras', 'tensorflow_serving'} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_the_doctor_and_latents_in_bulk(place, tmp_path):
    folder, address, _ = place
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (block,) = [block for block in blocks("sh") if "doctor" in block]
    told = {}
    for line in block.splitlines():
        words = [word.replace("127.0.0.1:8500", address) for word in shlex.split(line, comments=True)]
        told[words[1]] = run(words[1:], tmp_path)
    assert told["doctor"].returncode == 0, told["doctor"].stdout
    assert ", the same model" in told["doctor"].stdout
    assert told["embed"].returncode == 3  # two of the photographs are damaged
    left_out = (tmp_path / "latents/photos/_left-out.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["key"] for line in left_out] == ["cats/text.jpg", "cats/truncated.jpg"]


WRONG = {
    "query missing.jpg --index indexes/photos --server {address}": "there is no such image file",
    "query photos/cats/text.jpg --index indexes/photos --server {address}": "not a JPEG, PNG, GIF, BMP, WebP",
    "query photos/cats/truncated.jpg --index indexes/photos --server {address}": "truncated.jpg",
    "query my-photo.jpg --index missing --server {address}": "is no index",
    "query my-photo.jpg --index indexes/photos --server 127.0.0.1:1": "cannot be reached",
    "query my-photo.jpg --index indexes/photos --server nonsense": "HOST:PORT",
    "query my-photo.jpg --index indexes/photos": "--server",
    "query my-photo.jpg --index indexes/photos --server {address} --model-name other": "does not serve",
    "query my-photo.jpg --index indexes/photos --server {address} -k 0": "at least 1",
    "query my-photo.jpg --index damaged --server {address}": "forest.ann",
    "query my-photo.jpg --index other --server {address}": "was built with",
    "query my-photo.jpg --index indexes/photos --server 192.0.2.1:8500": "--insecure",
    "query my-photo.jpg --index indexes/photos --server {address} --tls-ca missing.pem": "cannot be read",
    "query my-photo.jpg --index indexes/photos --server {address} --tls-cert ca.pem": "--tls-key",
    "query my-photo.jpg --index indexes/photos --server {address} --token-file missing": "cannot be read",
    "query my-photo.jpg --index indexes/photos --server {address} --header nonsense": "KEY=VALUE",
    "query my-photo.jpg --index indexes/photos --server {address} --model-version 9": "does not serve",
    "query my-photo.jpg --index indexes/photos --server {address} --model-version 1 --model-label x": "one of them",
    "embed photos --out new": "--server",
    "embed photos --out new --server 127.0.0.1:1": "cannot be reached",
    "embed missing --out new --server {address}": "SOURCE must be",
    "embed photos --out my-photo.jpg --server {address}": "Cannot make",
    "embed photos --out photos/cats/image\\ 01.PNG/x --server {address}": "lies among the images",
    "doctor": "--server",
    "doctor --server nonsense": "HOST:PORT",
    "index build missing --index new --server {address}": "SOURCE must be",
    "index build photos --index indexes/photos --server {address}": "--replace",
    "index build photos --index new --server 127.0.0.1:1": "cannot be reached",
    "index build photos --index new --server {address} --recall 2": "--recall",
    "train missing --run new": "SOURCE must be",
    "train digits --run photos": "not empty",
    "train rotten --run new": "None of the 1 images of rotten can be read",
    "train digits --run new --epochs 0": "epochs must be at least 1",
    "train digits --run new --image-size big": "--image-size",
    "train digits --run new --architecture vgg": "--architecture",
    "export missing --to new": "no training run",
    "export --to new": "RUN folder or --encoder",
    "export --encoder my-photo.jpg --to new": ".keras",
    "serve missing": "missing",
    "serve photos": "no version folder",
    "serve export/photos --max-batch-size 8": "--batching",
    "serve export/photos --version-policy newest": "latest:N",
    "serve export/photos --label stable": "NAME=VERSION",
    "serve export/photos --tls-cert ca.pem": "--tls-key",
}

# One that needs TensorFlow, and one that does not.
IN_A_PROCESS = {"query missing.jpg --index indexes/photos --server {address}", "train digits --run new --epochs 0"}


@pytest.fixture(scope="module")
def spoiled(place):
    """Two more indexes beside the good one, a damaged one and one whose model answers nowhere; a folder of no use."""
    folder, _, _ = place
    (folder / "rotten").mkdir()
    (folder / "rotten" / "cat.jpg").write_bytes(b"no image")
    for name in ("damaged", "other"):
        shutil.copytree(folder / "indexes/photos", folder / name)
    [forest] = (folder / "damaged").glob("generation-*/forest.ann")
    data = bytearray(forest.read_bytes())
    data[len(data) // 2] ^= 1
    forest.write_bytes(data)
    [generation] = (folder / "other").glob("generation-*")
    manifest = Manifest.read(generation)
    replace(manifest, model=replace(manifest.model, fingerprint="0" * 64)).write(generation)


def files(folder):
    """Return all paths but the note of a reader that it has proved an index's files."""
    return sorted(folder.rglob("*"))


@pytest.mark.parametrize("command", WRONG)
def test_what_is_wrong_is_told_in_one_sentence(place, spoiled, run_here, command):
    folder, address, _ = place
    before = files(folder)
    start = run if command in IN_A_PROCESS else run_here
    result = start(shlex.split(command.format(address=address)), folder)
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert result.returncode == 1, result.stderr
    assert len(errors) == 1, result.stderr
    assert WRONG[command] in errors[0]
    assert "Traceback" not in result.stderr
    assert files(folder) == before


@pytest.mark.parametrize("command", ["", "index", "train", "query", "train digits", "query x.jpg -k many"])
def test_wrong_usage_ends_with_exit_code_2(command, tmp_path, run_here):
    start = run if command == "train" else run_here
    assert start(command.split(), tmp_path).returncode == 2


def test_help_of_every_command(tmp_path, run_here):
    changes = [
        f"index {name}"
        for name in "add update remove compact rebuild tune info verify duplicates export import".split()
    ]
    for command in ("train", "export", "serve", "index", "index build", *changes, "query", "embed", "doctor", "demo"):
        start = run if command == "query" else run_here
        result = start([*command.split(), "--help"], tmp_path)
        assert result.returncode == 0
        assert "Usage" in result.stdout
