"""Why similar: the service's pictures are those of Python."""

import base64
import io

import numpy as np
import pytest
from live import options_of, running
from PIL import Image
from web_items import PNG, key

from ae_search import ImageSearch
from ae_search.client import LatentClient
from ae_search.index import LatentIndex
from ae_search.web import AccessKeys, Doors
from ae_search.web.explaining import _check_size
from ae_search.web.parameters import ExplainBody
from ae_search.web.problems import Problem

READ_KEY = "r" * 16


@pytest.fixture(scope="module")
def http(web_index, served, tmp_path_factory):
    folder = tmp_path_factory.mktemp("explain")
    (folder / "read").write_text(READ_KEY)
    (folder / "read").chmod(0o600)
    doors = Doors(keys=AccessKeys.from_files(folder / "read", None))
    options = options_of(web_index, served, folder / "uploads", doors=doors)
    with running(options, headers={"authorization": f"Bearer {READ_KEY}"}) as client:
        yield client


@pytest.fixture(scope="module")
def search(web_index, served):
    with LatentClient(served.target, "tiny") as client, LatentIndex.open(web_index) as index:
        yield ImageSearch(client, index)


@pytest.fixture(scope="module")
def digest(http, strange):
    return http.post("/v1/uploads", content=strange, headers=PNG).json()["image"]


def shown(picture):
    """Return the pixels of a PNG file in base64, `[h, w, c]` or `[h, w]`."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture, validate=True))), np.int16)


def assert_same(picture, values):
    """Compare with values in [0, 1]; the server may compute in other batches."""
    assert np.abs(shown(picture) - np.rint(255 * values)).max() <= 1


LIKE, UNLIKE = [key(3), key(4)], [key(11)]
QUESTIONS = [
    {"image": True},
    {"image": True, "like": LIKE, "unlike": UNLIKE},
    {"key": key(7)},
    {"key": key(7), "unlike": UNLIKE},
    {"like": LIKE, "unlike": UNLIKE, "steps": 2, "parts": 0},
]


@pytest.mark.parametrize("at", range(len(QUESTIONS)))
def test_an_explanation_is_that_of_python(http, search, strange, digest, at):
    given = {"steps": 5, "parts": 3} | QUESTIONS[at]
    image = strange if given.get("image") else None
    like = [*([given["key"]] if "key" in given else []), *given.get("like", [])]
    counts = {"steps": given["steps"], "parts": given["parts"]}
    expected = search.explain(image, key(9), like=like, unlike=given.get("unlike", []), **counts)
    asked = given | {"with": key(9)} | ({"image": digest} if image else {})
    answer = http.post("/v1/explain", json=asked)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["key"] == key(9)
    assert found["similarity"] == pytest.approx(expected.similarity, abs=1e-5)
    assert found["rest"] == pytest.approx(expected.rest, abs=1e-5)
    assert_same(found["query"], expected.query)
    assert_same(found["item"], expected.item)
    assert_same(found["agreement"], (expected.agreement + 1) / 2)
    assert len(found["walk"]) == given["steps"] and len(found["parts"]) == given["parts"]
    for picture, values in zip(found["walk"], expected.walk, strict=True):
        assert_same(picture, values)
    for part, other in zip(found["parts"], expected.parts, strict=True):
        assert part["dimension"] == other.dimension
        assert part["contribution"] == pytest.approx(other.contribution, abs=1e-5)
        assert_same(part["where"], other.where)


def test_the_page_is_told_that_there_is_a_decoder(http):
    assert http.get("/v1/index").json()["features"]["explain"] is True


ITSELF = {"key": key(1), "with": key(2)}
WRONG = [
    (ITSELF | {"with": "none"}, 404, "NotFound"),
    (ITSELF | {"key": "none"}, 404, "NotFound"),
    (ITSELF | {"unlike": ["none"]}, 404, "NotFound"),
    ({"image": "0" * 64, "with": key(2)}, 404, "NotFound"),
    ({"with": key(2)}, 400, "BadRequest"),
    ({"key": key(1)}, 400, "BadRequest"),
    (ITSELF | {"image": "0" * 64}, 400, "BadRequest"),
    (ITSELF | {"like": [key(1)], "unlike": [key(1)], "more": 1}, 400, "BadRequest"),
    *((ITSELF | {name: number}, 400, "BadRequest") for name in ("steps", "parts") for number in (-1, 65, 1e9, "x")),
]


@pytest.mark.parametrize("at", range(len(WRONG)))
def test_what_cannot_be_explained(http, at):
    asked, status, code = WRONG[at]
    answer = http.post("/v1/explain", json=asked)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_it_needs_a_key_where_searches_do(http):
    stranger = http.post("/v1/explain", json=ITSELF, headers={"authorization": "Bearer none"})
    assert stranger.json()["code"] == "LoginNeeded"


def test_a_large_body_is_refused(http):
    answer = http.post("/v1/explain", content=b"[" * (5 * 2**20), headers={"content-type": "application/json"})
    assert answer.json()["code"] == "TooLarge"


def test_a_model_without_a_decoder_says_so(plain_http):
    answer = plain_http.post("/v1/explain", json=ITSELF)
    assert (answer.status_code, answer.json()["code"]) == (400, "ConfigurationError")
    assert "without a decoder" in answer.json()["detail"]


def test_pictures_of_a_large_model_are_bounded():
    page = ExplainBody.model_validate(ITSELF | {"steps": 17, "parts": 6})
    most = ExplainBody.model_validate(ITSELF | {"steps": 64, "parts": 32})
    _check_size((512, 512, 3), page)
    _check_size((224, 224, 3), most)
    for shape, asked in (((512, 512, 3), most), ((4096, 4096, 1), page)):
        with pytest.raises(Problem, match="pictures with this model"):
            _check_size(shape, asked)
