"""The notebook runs in a real kernel, on a small slice, and shows what it promises."""

import base64
import io
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

NOTEBOOK = Path(__file__).parents[1] / "examples" / "fashion_mnist.ipynb"
PICTURES = {"data", "loss", "reconstructions", "neighbours", "compare"}
CELL_TIMEOUT_S = 200

# Without the data set the same story is told with scikit-learn's digits.
DATA = Path(os.environ.get("AE_SEARCH_DATA", "missing")) / "fashion-mnist"
SMALL = f"""
SOURCE = {"fashion_mnist" if DATA.is_dir() else "digits"!r}
IMAGES = 2_000
EPOCHS = 1
QUERIES = [0, 1, 18]
JUDGED = 100
"""

# Runs after the last cell and prints what the notebook's variables hold.
REPORT = """
import json

print(json.dumps({
    "indexed": report.info.items,
    "recall": report.info.recall,
    "epochs": len(history),
    "loss": float(history["loss"][-1]),
    "reconstructed": reconstructions.shape == originals.shape,
    "pixels": [float(reconstructions.min()), float(reconstructions.max())],
    "found": found,
    "served": served,
    "address": server.address,
    "kernel": os.getpid(),
    "precision": {name: [len(of), float(of.mean())] for name, of in precision.items()},
    "folder": str(folder),
}))
"""


def committed():
    return nbformat.read(NOTEBOOK, as_version=4)


def parts(book, kind):
    return [cell for cell in book.cells if cell.cell_type == kind]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where the kernel works: its temporary files, and all that Jupyter and IPython would put into the home folder."""
    place = tmp_path_factory.mktemp("notebook")
    for name in ("tmp", "home", "kernels/here"):
        (place / name).mkdir(parents=True)
    # A kernel of our own: the one called python3 may be that of another Python.
    arguments = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": arguments, "display_name": "here", "language": "python"}
    (place / "kernels/here/kernel.json").write_text(json.dumps(spec))
    return place


@pytest.fixture(scope="module")
def executed(place):
    """The notebook after its run, by the ids of its cells."""
    book = committed()
    (at,) = [at for at, cell in enumerate(book.cells) if "parameters" in cell.metadata.get("tags", ())]
    book.cells.insert(at + 1, nbformat.v4.new_code_cell(SMALL, id="injected-parameters"))
    book.cells.append(nbformat.v4.new_code_cell(REPORT, id="report"))
    with pytest.MonkeyPatch.context() as patch:
        for variable, name in {
            "JUPYTER_PATH": ".",
            "JUPYTER_RUNTIME_DIR": "home",
            "JUPYTER_CONFIG_DIR": "home",
            "IPYTHONDIR": "home",
            "TMPDIR": "tmp",
        }.items():
            patch.setenv(variable, str(place / name))
        NotebookClient(book, kernel_name="here", timeout=CELL_TIMEOUT_S).execute(cwd=str(place))
    return {cell.id: cell for cell in parts(book, "code")}


@pytest.fixture(scope="module")
def told(executed):
    return json.loads(printed(executed["report"]))


def printed(cell):
    return "".join(output.text for output in cell.outputs if output.get("name") == "stdout")


def pictures(cell):
    found = [output.data["image/png"] for output in cell.outputs if "image/png" in output.get("data", {})]
    return [Image.open(io.BytesIO(base64.b64decode(data))).convert("L") for data in found]


@pytest.mark.slow
def test_every_cell_ran_without_an_error(executed):
    assert all(cell.execution_count for cell in executed.values())
    kinds = {output.output_type for cell in executed.values() for output in cell.outputs}
    assert kinds <= {"stream", "display_data", "execute_result"}


@pytest.mark.slow
def test_each_picture_is_shown(executed):
    assert {name for name, cell in executed.items() if pictures(cell)} == PICTURES
    for name in PICTURES:
        (picture,) = pictures(executed[name])
        assert picture.width >= 500 and picture.height >= 150
        assert np.std(picture) > 10, f"{name} is blank"


@pytest.mark.slow
def test_training_and_index(told):
    assert told["indexed"] == (2_000 if DATA.is_dir() else 1_437)
    assert told["epochs"] == 1 and 0 < told["loss"] < 14
    assert told["reconstructed"] and 0 <= told["pixels"][0] < told["pixels"][1] <= 1
    assert 0.9 <= told["recall"] <= 1


@pytest.mark.slow
def test_ten_neighbours_a_query_nearest_first(told, executed):
    assert [len(row) for row in told["found"]] == [10, 10, 10]
    for row in told["found"]:
        assert [rank for rank, *_ in row] == list(range(1, 11))
        similarities = [similarity for _, _, _, similarity, *_ in row]
        assert similarities == sorted(similarities, reverse=True)
        assert len({key for _, key, *_ in row}) == 10 and all("/train/" in key for _, key, *_ in row)
    assert [line.split()[1] for line in printed(executed["answer"]).splitlines()] == [
        row[1] for row in told["found"][0]
    ]


@pytest.mark.slow
def test_the_server_answers_the_same_on_this_machine_only(told, executed):
    assert told["address"].startswith("127.0.0.1:")
    assert [[item[1] for item in row] for row in told["served"]] == [[item[1] for item in row] for row in told["found"]]
    assert "the same neighbours as before" in printed(executed["server"])


@pytest.mark.slow
def test_precision_of_both_recipes_is_better_than_chance(told):
    assert told["precision"].keys() == {"default", "tutorial"}
    for queries, precision in told["precision"].values():
        assert queries == 100
        assert 0.15 < precision <= 1


@pytest.mark.slow
def test_nothing_is_left_behind(told, place):
    assert told["folder"].startswith(str(place / "tmp"))
    # The cache of what AutoGraph generates is TensorFlow's own.
    assert [path for path in (place / "tmp").iterdir() if path.name != "__pycache__"] == []
    with pytest.raises(ProcessLookupError):
        os.kill(told["kernel"], 0)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(tuple(told["address"].split(":")), timeout=5).close()


def test_it_is_committed_without_outputs():
    book = committed()
    nbformat.validate(book)
    assert [cell.id for cell in parts(book, "code") if cell.outputs or cell.execution_count] == []
    assert book.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    assert {cell.id: cell.metadata for cell in book.cells if cell.metadata} == {"parameters": {"tags": ["parameters"]}}


def test_each_cell_is_short_and_explained_by_the_one_before():
    book = committed()
    for text, code in zip(book.cells[1::2], book.cells[2::2], strict=True):
        assert (text.cell_type, code.cell_type) == ("markdown", "code")
        assert len(code.source.splitlines()) <= 25, code.id
        assert len(text.source.split()) >= 25, text.id


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=["check", "format"])
def test_its_code_passes_ruff(command):
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "--no-cache", NOTEBOOK], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
