"""Whether to believe what is found, and what is noted of queries: the service says what Python says."""

import shutil
import signal

import numpy as np
import pyarrow.parquet
import pytest
from command import command, until_ready
from live import options_of, running
from pictures import encoded
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner
from web_items import COUNT, PNG, key, picture, told

from ae_search import ImageSearch
from ae_search.calibration import calibrate
from ae_search.cli import app
from ae_search.client import LatentClient
from ae_search.drift import read_log
from ae_search.index import LatentIndex
from ae_search.trust import remember
from ae_search.web import LogOptions

NOISE = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 2, (16, 16, 3), np.uint8) * 255))


@pytest.fixture(scope="module")
def place(web_index, served, tmp_path_factory):
    """The index of the pictures, which keeps what is usual: of the errors, that all are small."""
    copy = shutil.copytree(web_index, tmp_path_factory.mktemp("believing") / "index")
    with LatentIndex.open(copy) as index:
        calibrate(index)
        remember(index, np.linspace(0.001, 0.01, COUNT).astype(np.float32))
    return copy


@pytest.fixture(scope="module")
def search(place, served):
    with LatentClient(served.target, "tiny") as client, LatentIndex.open(place) as index:
        yield ImageSearch(client, index)


@pytest.fixture(scope="module")
def http(place, served, tmp_path_factory):
    with running(options_of(place, served, tmp_path_factory.mktemp("uploads"))) as client:
        yield client


def post(http, image, **parameters):
    answer = http.post("/v1/search", params=parameters, content=image, headers=PNG)
    assert answer.status_code == 200, answer.text
    return answer.json()


ASKED = [
    {},
    {"k": 3},
    {"check_reconstruction": True},
    {"views": True, "k": 5},
    {"where": {"label": "bag"}, "k": 4},
    {"exact": True, "k": 20, "check_reconstruction": True},
]


@pytest.mark.parametrize("at", range(len(ASKED)))
def test_an_answer_says_whether_to_believe_it(http, search, strange, at):
    options = ASKED[at]
    written = {name: '{"label": "bag"}' if name == "where" else value for name, value in options.items()}
    for image in (strange, NOISE):
        expected = search.search_with_trust(image, **options)
        found = post(http, image, **written)
        assert found["neighbours"] == told(expected.neighbours)
        assert found["trust"] == expected.trust.to_json()
        assert (found["trust"]["error"] is None) == ("check_reconstruction" not in options)


def test_what_is_strange_is_marked(http):
    assert post(http, picture(3))["trust"]["familiar"] is True
    assert post(http, NOISE, check_reconstruction=True)["trust"]["familiar"] is False
    assert http.get("/v1/index").json()["features"]["distrust"] is True


def test_only_the_first_page_of_an_image_alone_has_trust(http, strange):
    first = post(http, strange, k=5, keep=True)
    digest = first["query"]["image"]
    later = {"image": digest, "k": 5, "cursor": first["next"], "check_reconstruction": True}
    listed = [one["key"] for one in first["neighbours"]]
    while later["cursor"]:
        page = http.get("/v1/search", params=later).json()
        assert page["trust"] is None
        listed += [one["key"] for one in page["neighbours"]]
        later["cursor"] = page["next"]
    assert sorted(listed) == sorted(key(at) for at in range(COUNT))
    for parameters in ({"key": key(1)}, {"like": key(1)}, {"image": digest, "like": key(1)}):
        assert http.get("/v1/search", params=parameters).json()["trust"] is None
    by_key = http.get("/v1/search", params={"key": key(1), "check_reconstruction": True})
    assert by_key.json()["code"] == "BadRequest"


def test_an_index_that_keeps_nothing_has_no_trust(plain_http, strange):
    """Its searches stay as they were, unless somebody asks."""
    features = plain_http.get("/v1/index").json()["features"]
    assert features["distrust"] is features["explain"] is False
    assert post(plain_http, strange)["trust"] is None
    unknown = post(plain_http, strange, check_reconstruction=True)["trust"]
    assert unknown["familiar"] is unknown["error"] is unknown["distance_share"] is None
    assert unknown["distance"] > 0


def figures(http):
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(http.get("/metrics").text)
        for sample in family.samples
        if not set(sample.labels) - {"by"}
    }


def test_figures_count_what_is_distrusted(place, served, tmp_path):
    with running(options_of(place, served, tmp_path)) as http:
        for _ in range(3):
            post(http, picture(3))
        post(http, NOISE, check_reconstruction=True)
        found = figures(http)
    assert found["ae_search_web_distrusted_total"] == 1
    assert found["ae_search_web_reconstruction_error_count"] == 1
    assert found["ae_search_web_reconstruction_error_sum"] > 0.1
    assert found["ae_search_web_first_similarity_count"] == 4


def test_a_log_of_queries_is_written_at_the_end_and_read_by_drift(place, served, search, tmp_path):
    folder = tmp_path / "queries"
    options = "--index", place, "--server", served.target, "--model-name", "tiny", "--query-log", folder
    with command(*options, "--query-log-latents") as (process, address):
        until_ready(address)
        for at in range(60):
            post_to(address, picture(at))
        assert folder.stat().st_mode & 0o777 == 0o700
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    logged = read_log(folder, search.index.model.fingerprint)
    assert len(logged) == 60
    assert logged.similarity.min() > 0.99  # each is indexed
    (file,) = folder.iterdir()
    latents = np.array(pyarrow.parquet.read_table(file)["latent"].to_pylist(), np.float32)
    expected = search.search_with_trust_batch([picture(at) for at in range(60)])
    np.testing.assert_allclose(latents, [one.latent for one in expected], atol=1e-5)
    drift = CliRunner().invoke(app, ["drift", str(folder), "--index", str(place), "--json"])
    assert drift.exit_code == 0 and '"queries": 60' in drift.stdout


def test_latents_are_not_noted_unless_asked_for(place, served, strange, tmp_path):
    log = LogOptions(tmp_path / "queries")
    with running(options_of(place, served, tmp_path / "uploads", query_log=log)) as http:
        first = post(http, strange, k=5, keep=True)
        http.get("/v1/search", params={"image": first["query"]["image"], "k": 5, "cursor": first["next"]})
        http.get("/v1/search", params={"key": key(1)})
    (file,) = log.folder.iterdir()
    assert "latent" not in pyarrow.parquet.read_schema(file).names
    (row,) = pyarrow.parquet.read_table(file).to_pylist()  # neither keys nor later pages
    assert row["distance"] == pytest.approx(first["trust"]["distance"])
    assert row["similarity"] == pytest.approx(first["neighbours"][0]["similarity"])


def post_to(address, image):
    import httpx

    return httpx.post(f"{address}/v1/search", content=image, headers=PNG, timeout=60).raise_for_status()
