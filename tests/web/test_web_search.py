"""The service finds what Python finds, whichever way it is asked."""

import io
import json
import shutil
from urllib.parse import quote

import numpy as np
import pytest
from live import Own, options_of, running
from pictures import encoded
from PIL import Image
from pixel_encoder import CARD
from shapes_encoder import BASIS, Shapes
from web_items import COUNT, PNG, key, told

from ae_search.calibration import Calibration, stored
from ae_search.index import IndexBuilder, LatentIndex
from ae_search.web import AccessKeys, Doors, InProcess
from ae_search.web.folding import folded


def search(http, **parameters):
    answer = http.get("/v1/search", params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


OPTIONS = [
    {},
    {"k": 3},
    {"exact": "true"},
    {"where": '{"price": {"gte": 20}}', "k": 200},
    {"label": ["bag", "boot"], "k": 30},
    {"views": "true", "k": 5},
    {"effort": 400, "k": 7},
]


def in_python(options):
    given = dict(options)
    if "where" in given:
        given["where"] = json.loads(given["where"])
    if "label" in given:
        given["where"] = {"label": {"in": given.pop("label")}}
    for name in ("exact", "views"):
        if name in given:
            given[name] = True
    return given


@pytest.mark.parametrize("options", OPTIONS, ids=range(len(OPTIONS)))
def test_an_image_in_the_body(http, oracle, strange, options):
    expected = told(oracle.search(strange, **in_python(options)))
    raw = http.post("/v1/search", params=options, content=strange, headers=PNG)
    assert raw.status_code == 200, raw.text
    assert raw.json()["neighbours"] == expected
    assert raw.json()["query"]["image"] is None  # it was not kept
    octets = http.post(
        "/v1/search", params=options, content=strange, headers={"content-type": "application/octet-stream"}
    )
    form = http.post("/v1/search", data=options, files={"image": ("one.png", strange, "image/png")})
    assert octets.json()["neighbours"] == form.json()["neighbours"] == expected


@pytest.mark.parametrize("options", OPTIONS[:5], ids=range(5))
def test_an_item(http, oracle, options):
    expected = told(oracle.index.search_by_key(key(7), **in_python({"k": 10} | options)))
    assert search(http, key=key(7), **options)["neighbours"] == expected
    in_body = {"key": key(7)} | in_python(options)
    if "where" in in_body and "label" in options:
        in_body |= {"label": in_body.pop("where")["label"]["in"]}
    assert http.post("/v1/search", json=in_body).json()["neighbours"] == expected
    assert http.post("/v1/search", params={"key": key(7), **options}).json()["neighbours"] == expected


def test_a_latent(http, oracle):
    latent = oracle.index.latents([key(3)])[0]
    expected = told(oracle.index.search(latent, 4)[0])
    model = oracle.index.model
    for fingerprint in ({}, {"fingerprint": model.fingerprint}):
        answer = http.post("/v1/search?k=4", json={"latent": latent.tolist(), **fingerprint})
        assert answer.json()["neighbours"] == expected
        assert answer.json()["model"] == {"name": "tiny", "version": 1, "fingerprint": model.fingerprint}
    other = http.post("/v1/search", json={"latent": latent.tolist(), "fingerprint": "another"})
    assert (other.status_code, other.json()["code"]) == (409, "ModelMismatchError")
    for wrong in ([1.0], [1e300] * 8, [0.5] * 9):
        assert http.post("/v1/search", json={"latent": wrong}).json()["code"] == "BadRequest"


def test_examples(http, oracle, strange):
    like, unlike = [key(3), key(4)], [key(11)]
    expected = told(oracle.search(None, 6, like=like, unlike=unlike, exact=True))
    assert search(http, like=like, unlike=unlike, k=6, exact=True)["neighbours"] == expected
    assert search(http, key=like[0], like=like[1:], unlike=unlike, k=6, exact=True)["neighbours"] == expected
    with_image = http.post("/v1/search", params={"like": like, "k": 6}, content=strange, headers=PNG)
    assert with_image.json()["neighbours"] == told(oracle.search(strange, 6, like=like))


def test_originals(http, oracle, pictures):
    with Image.open(io.BytesIO(pictures[9])) as opened:
        turned = encoded(opened.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    expected = oracle.originals(turned, 4)
    answer = http.post("/v1/search?originals=true&k=4", content=turned, headers=PNG).json()
    assert [(one["key"], one["verdict"], one["score"]) for one in answer["neighbours"]] == [
        (one.neighbour.key, one.verdict, one.score) for one in expected
    ]
    assert answer["verdict"] == expected[0].verdict


def test_an_image_that_is_kept_can_be_searched_with_by_its_digest(http, oracle, strange):
    kept = http.post("/v1/search?keep=true&k=3", content=strange, headers=PNG).json()
    digest = kept["query"]["image"]
    answer = search(http, image=digest, k=3)
    assert answer["neighbours"] == kept["neighbours"] == told(oracle.search(strange, 3))
    assert answer["query"]["image"] == digest
    assert http.post("/v1/search", json={"image": digest, "k": 3}).json()["neighbours"] == kept["neighbours"]
    gone = http.get("/v1/search", params={"image": "0" * 64})
    assert (gone.status_code, gone.json()["code"]) == (404, "NotFound")


def test_thumbnails_are_addresses_that_answer(http, oracle):
    found = search(http, key=key(1), k=COUNT, thumbnails=True)["neighbours"]
    addresses = {one["key"]: one["thumbnail"] for one in found}
    assert addresses[key(5)] is None
    answer = http.get(addresses[key(7)])
    assert answer.content == oracle.index.thumbnail(key(7))
    assert "immutable" in answer.headers["cache-control"]
    again = http.get(addresses[key(7)], headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert "immutable" not in http.get("/v1/thumbnail", params={"key": key(7), "v": "old"}).headers["cache-control"]
    assert http.get("/v1/thumbnail", params={"key": key(5)}).status_code == 404


def test_an_index_with_regions_is_searched_by_wholes(tmp_path):
    rows = np.random.default_rng(3).standard_normal((20, 3, len(BASIS))).astype(np.float32)
    with IndexBuilder(tmp_path / "index", Shapes().describe()) as builder:
        builder.add(rows, [key(at) for at in range(20)])
    with LatentIndex.open(tmp_path / "index") as index:
        every, first = index.search(rows[0, 1], 5)[0], index.search(rows[0, 1], 5, first_latents=True)[0]
        by_key = index.search_by_key(key(3), 5, first_latents=True)
        assert (by_key, first) != (index.search_by_key(key(3), 5), every)
        for found, like in ((told(every), told(index.search_by_key(key(3), 5))), (told(first), told(by_key))):
            with running(options_of(tmp_path / "index", Own(Shapes()), tmp_path / "uploads")) as http:
                answer = http.post("/v1/search?k=5", json={"latent": rows[0, 1].tolist()}).json()
                assert answer["neighbours"] == found
                assert search(http, key=key(3), k=5)["neighbours"] == like
            index.calibrate("regions", {"format": 3})


def test_near_duplicates_are_folded_under_the_first(http, oracle):
    rows = search(http, key=key(1), k=40, fold=True)["neighbours"]
    keys = [one["key"] for one in rows]
    assert [one["folded_under"] for one in rows] == folded(oracle.index, keys, stored(oracle.index))


def test_which_are_folded(tmp_path):
    latents = {"a": [1, 0, 0, 0], "b": [0, 1, 0, 0], "a2": [1, 0.01, 0, 0], "b2": [0.01, 1, 0, 0], "c": [1, 1, 0, 0]}
    with IndexBuilder(tmp_path / "index", CARD) as builder:
        builder.add(np.array([*latents.values()], np.float32), list(latents))
    with LatentIndex.open(tmp_path / "index") as index:
        assert folded(index, ["a", "gone", "b", "a2", "c", "b2"], None) == [None, None, None, "a", None, "b"]
        assert folded(index, ["a"], None) == [None]
        # Only c2 has something in the last float, which tells copies here.
        copies = Calibration(np.eye(4, dtype=np.float32), 0.5, 0.9, copies_from=3)
        index.add(np.array([[1, 1, 0, 0.1]], np.float32), ["c2"])
        assert folded(index, ["c", "c2"], None) == [None, "c"]
        assert folded(index, ["c", "a", "a2", "c2"], copies) == [None, None, "a", None]


def test_whether_an_image_is_of_one_colour(http, strange):
    plain = encoded(Image.new("RGB", (20, 20), "navy"))
    assert http.post("/v1/search?plain=true", content=plain, headers=PNG).json()["plain"] is True
    assert http.post("/v1/search?plain=true", content=strange, headers=PNG).json()["plain"] is False
    assert http.post("/v1/search", content=plain, headers=PNG).json()["plain"] is None


WRONG = [
    ({}, 400, "BadRequest"),
    ({"unlike": "photos/1.png"}, 400, "BadRequest"),
    ({"key": "none"}, 404, "NotFound"),
    ({"like": ["photos/1.png", "none"]}, 404, "NotFound"),
    ({"key": "photos/1.png", "image": "0" * 64}, 400, "BadRequest"),
    ({"key": "photos/1.png", "k": 0}, 400, "BadRequest"),
    ({"key": "photos/1.png", "k": 1001}, 400, "BadRequest"),
    ({"key": "photos/1.png", "neighbours": 3}, 400, "BadRequest"),
    ({"key": "photos/1.png", "views": True}, 400, "BadRequest"),
    ({"key": "photos/1.png", "originals": True}, 400, "BadRequest"),
    ({"key": "photos/1.png", "where": "{"}, 400, "BadRequest"),
    ({"key": "photos/1.png", "where": "{}"}, 400, "BadRequest"),
    ({"key": "photos/1.png", "where": '{"a": {"like": 1}}'}, 400, "BadRequest"),
    ({"key": "photos/1.png", "where": '{"label": "bag"}', "label": "bag"}, 400, "BadRequest"),
    ({"key": "photos/1.png", "cursor": "nonsense"}, 400, "BadRequest"),
    ({"key": "photos/1.png", "keep": True}, 400, "BadRequest"),
    ({"image": "../../etc/passwd"}, 400, "BadRequest"),
]


@pytest.mark.parametrize(("parameters", "status", "code"), WRONG, ids=range(len(WRONG)))
def test_what_cannot_be_answered_is_told(http, parameters, status, code):
    answer = http.get("/v1/search", params=parameters)
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, answer.json()["code"], answer.json()["status"]) == (status, code, status)
    assert answer.json()["detail"]


BODIES = [
    (b"no image", "image/png", 422, "ImageError"),
    (b"", "image/png", 400, "BadRequest"),
    (b"text", "text/plain", 415, "UnsupportedMediaType"),
    (b"[1]", "application/json", 400, "BadRequest"),
    (b'{"latent": [NaN]}', "application/json", 400, "BadRequest"),
    (b'{"key": "a", "key": "b"}', "application/json", 400, "BadRequest"),
    (b"[" * 100_000, "application/json", 400, "BadRequest"),
    (b"--x\r\n", "multipart/form-data; boundary=x", 400, "BadRequest"),
    (b"anything", "multipart/form-data", 400, "BadRequest"),
]


@pytest.mark.parametrize(("body", "kind", "status", "code"), BODIES, ids=range(len(BODIES)))
def test_bodies_that_are_none(http, body, kind, status, code):
    answer = http.post("/v1/search", content=body, headers={"content-type": kind})
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


def test_keys_like_paths_are_only_keys(http):
    for path in ("/etc/passwd", "../../etc/passwd", "file:///etc/passwd", "http://127.0.0.1/", "a\0b", "%2e%2e%2f"):
        for address in ("/v1/item", "/v1/thumbnail", "/v1/search"):
            assert http.get(f"{address}?key={quote(path, safe='')}").status_code == 404


def test_a_model_in_this_process(web_index, tiny_export, oracle, strange, tmp_path):
    """The same answers without a model server; and what is added is encoded by the same model."""
    place = shutil.copytree(web_index, tmp_path / "index")
    doors = Doors(keys=AccessKeys(open_writes=True))
    with running(options_of(place, InProcess(tiny_export), tmp_path / "uploads", doors=doors)) as client:
        assert client.get("/readyz").json()["model"]["name"] == "tiny"
        found = client.post("/v1/search?exact=true", content=strange, headers=PNG).json()["neighbours"]
        expected = told(oracle.search(strange, exact=True))
        assert [one["key"] for one in found] == [one["key"] for one in expected]
        assert np.allclose([one["similarity"] for one in found], [one["similarity"] for one in expected], atol=1e-5)
        assert client.post("/v1/items?key=new", content=strange, headers=PNG).status_code == 201
        assert client.post("/v1/search", content=strange, headers=PNG).json()["neighbours"][0]["key"] == "new"
