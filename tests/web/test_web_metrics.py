"""Figures for Prometheus."""

from live import options_of, running
from pictures import encoded
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from web_items import COUNT, PNG, key, picture


def figures(http):
    text = http.get("/metrics").text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_what_is_counted(web_index, served, tmp_path):
    with running(options_of(web_index, served, tmp_path)) as http:
        for _ in range(3):
            http.get("/v1/search", params={"key": key(1)})
        http.post("/v1/search", content=picture(4), headers=PNG)
        http.post("/v1/search?plain=true", content=encoded(Image.new("RGB", (9, 9))), headers=PNG)
        http.get("/v1/item", params={"key": "none"})
        http.get("/", headers={"host": "evil.example"})
        found = figures(http)
    searched = (("method", "GET"), ("route", "/v1/search"), ("status", "200"))
    assert found["ae_search_web_requests_total", searched] == 3
    missing = (("method", "GET"), ("route", "/v1/item"), ("status", "404"))
    assert found["ae_search_web_requests_total", missing] == 1
    assert found["ae_search_web_request_seconds_count", (("route", "/v1/search"),)] == 5
    assert found["ae_search_web_first_similarity_count", (("by", "key"),)] == 3
    assert found["ae_search_web_first_similarity_count", (("by", "image"),)] == 2
    # An item finds itself.
    assert found["ae_search_web_first_similarity_bucket", (("by", "image"), ("le", "0.999"))] < 2
    assert found["ae_search_web_plain_total", ()] == 1
    assert found["ae_search_web_refused_total", (("reason", "host"),)] == 1
    assert found["ae_search_web_items", ()] == COUNT
    assert found["ae_search_web_requests_in_flight", ()] == 1  # the one that asks


def test_strangers_make_no_figures_of_their_own(http):
    for at in range(20):
        http.get(f"/nothing/{at}")
        http.request(f"BREW{at}", "/v1/index")
    routes = {dict(labels).get("route") for _, labels in figures(http)}
    methods = {dict(labels).get("method") for _, labels in figures(http)}
    assert not any(route and "nothing" in route for route in routes)
    assert not any(method and method.startswith("BREW") for method in methods)
