"""The files of serving/search/ are valid, and name options, metrics and packages that there are."""

import json
import re
from pathlib import Path

import kubernetes_validate
import pytest
import typer
import yaml
from packaging.requirements import Requirement

from ae_search.cli import app
from ae_search.web.metrics import Metrics

ROOT = Path(__file__).parents[1]
SEARCH = ROOT / "serving" / "search"
DASHBOARD = json.loads((SEARCH / "grafana" / "dashboards" / "ae-search.json").read_text(encoding="utf-8"))
KUSTOMIZATION = yaml.safe_load((SEARCH / "kustomization.yaml").read_text(encoding="utf-8"))
MANIFESTS = [
    manifest
    for resource in KUSTOMIZATION["resources"]
    for manifest in yaml.safe_load_all((SEARCH / resource).read_text(encoding="utf-8"))
]
COMPOSE = yaml.safe_load((SEARCH / "compose.yaml").read_text(encoding="utf-8"))["services"]


def manifest(kind, name="ae-search-web"):
    (found,) = [one for one in MANIFESTS if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


POD = manifest("Deployment")["spec"]["template"]
(CONTAINER,) = POD["spec"]["containers"]


@pytest.mark.parametrize("version", ["1.27", "1.31", "1.34"])
@pytest.mark.parametrize("at", range(len(MANIFESTS)))
def test_each_manifest_is_valid(at, version):
    kubernetes_validate.validate(MANIFESTS[at], version, strict=True)


def test_kustomization_names_every_manifest():
    assert {SEARCH / resource for resource in KUSTOMIZATION["resources"]} == set((SEARCH / "k8s").glob("*.yaml"))


@pytest.mark.parametrize("words", [CONTAINER["args"], COMPOSE["search"]["command"]], ids=["kubernetes", "compose"])
def test_the_options_are_those_of_the_command(words):
    command = typer.main.get_command(app).commands["web"]
    known = {option for parameter in command.params for option in parameter.opts}
    given = {word.partition("=")[0] for word in words}
    assert given <= known
    assert {"--index", "--server"} <= given
    docker = (SEARCH / "Dockerfile").read_text(encoding="utf-8")
    for list_of_words in re.findall(r"^(?:ENTRYPOINT|CMD) (\[.*\])$", docker, re.M):
        assert {word for word in json.loads(list_of_words) if word.startswith("--")} <= known


def test_names_and_ports_fit_together():
    labels = POD["metadata"]["labels"]
    for kind in ("Deployment", "PodDisruptionBudget"):
        assert manifest(kind)["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert manifest("Service")["spec"]["selector"].items() <= labels.items()
    assert manifest("NetworkPolicy")["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    ports = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
    assert manifest("Service")["spec"]["ports"][0]["targetPort"] in ports
    assert manifest("NetworkPolicy")["spec"]["ingress"][0]["ports"] == [{"port": ports["http"]}]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert CONTAINER[probe]["httpGet"]["port"] in ports
    claimed = {v["persistentVolumeClaim"]["claimName"] for v in POD["spec"]["volumes"] if "persistentVolumeClaim" in v}
    assert claimed == {manifest("PersistentVolumeClaim", "ae-search-index")["metadata"]["name"]}
    assert {mount["name"] for mount in CONTAINER["volumeMounts"]} == {one["name"] for one in POD["spec"]["volumes"]}


def test_the_metrics_port_of_tensorflow_serving_is_for_prometheus_only():
    policy = manifest("NetworkPolicy", "ae-search-serving")["spec"]
    serving = yaml.safe_load((ROOT / "serving" / "k8s" / "deployment.yaml").read_text(encoding="utf-8"))
    labels = serving["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    by_port = {port["port"]: rule["from"] for rule in policy["ingress"] for port in rule["ports"]}
    assert set(by_port) == {8500, 8501}
    assert by_port[8501] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]


def test_it_is_not_root_and_writes_to_tmp_only():
    assert POD["spec"]["securityContext"]["runAsNonRoot"] and CONTAINER["securityContext"]["readOnlyRootFilesystem"]
    assert COMPOSE["search"]["read_only"] is True
    assert re.search(r"^USER 65532", (SEARCH / "Dockerfile").read_text(encoding="utf-8"), re.M)


def test_every_panel_asks_for_figures_that_there_are():
    metrics = Metrics(lambda: 1)
    metrics.begin()
    metrics.end("/v1/search", "GET", 200, 0.1)
    metrics.refused("busy")
    metrics.found("key", 0.5)
    metrics.plain()
    text = metrics.text()[0].decode()
    there = set(re.findall(r"^(ae_search_web_\w+)", text, re.M))
    labels = set(re.findall(r'[{,](\w+)="', text))
    queries = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    assert len(queries) > 10
    for query in queries:
        asked = set(re.findall(r"ae_search_web_\w+", query))
        assert asked and asked <= there, query
        named = set(re.findall(r"(\w+)=~?\"", query)) | set(re.findall(r"by \((\w+)\)", query))
        assert named <= labels, query
    told = {name for name in re.findall(r"`(ae_search_web_\w+)`", Metrics.__doc__)}
    assert told <= there | {name.removesuffix("_bucket") for name in there}
    asked = {name.removesuffix("_bucket") for query in queries for name in re.findall(r"ae_search_web_\w+", query)}
    assert told == asked, "each figure has a panel"


def test_panels_do_not_overlap():
    taken = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and at["x"] + at["w"] <= 24
        taken |= cells


def test_prometheus_and_grafana_look_where_the_services_are():
    jobs = yaml.safe_load((SEARCH / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    targets = {target for job in jobs for one in job["static_configs"] for target in one["targets"]}
    assert targets == {"search:8600", "tensorflow-serving:8501"}
    assert {target.partition(":")[0] for target in targets} <= set(COMPOSE)
    source = (SEARCH / "grafana" / "provisioning" / "datasources" / "prometheus.yaml").read_text(encoding="utf-8")
    (found,) = yaml.safe_load(source)["datasources"]
    assert found["uid"] == DASHBOARD["panels"][0]["datasource"]["uid"]
    assert "--allowed-host=search" in COMPOSE["search"]["command"]  # as Prometheus calls it


def test_the_image_installs_what_the_package_asks_for():
    """Packages are a layer of their own; one that is left out there is installed with the package, in another one."""
    docker = (SEARCH / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    (first,) = re.findall(r"--no-binary annoy -c constraints.txt\s+(.*)$", docker, re.M)
    import configparser

    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    texts = setup["options"]["install_requires"] + setup["options.extras_require"]["web"]
    wanted = {Requirement(line).name for line in texts.splitlines() if line and not line.startswith("#")}
    assert set(first.split()) == wanted
