"""The manifests of serving/ are valid, and fit together."""

import shutil
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

SERVING = Path(__file__).parents[1] / "serving"
KUSTOMIZATION = yaml.safe_load((SERVING / "kustomization.yaml").read_text(encoding="utf-8"))
MANIFESTS = {
    manifest["kind"]: manifest
    for resource in KUSTOMIZATION["resources"]
    for manifest in yaml.safe_load_all((SERVING / resource).read_text(encoding="utf-8"))
}
KUBERNETES = ("1.27", "1.31", "1.34")
POD = MANIFESTS["Deployment"]["spec"]["template"]
(CONTAINER,) = POD["spec"]["containers"]
FLAGS = dict(flag.removeprefix("--").split("=", 1) for flag in CONTAINER["args"])
PORTS = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("kind", MANIFESTS)
def test_each_manifest_is_valid(kind, version):
    kubernetes_validate.validate(MANIFESTS[kind], version, strict=True)


def test_the_check_finds_a_mistyped_field():
    wrong = yaml.safe_load(yaml.safe_dump(MANIFESTS["Service"]).replace("clusterIP", "clusterIp"))
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES[0], strict=True)


def test_kustomization_names_every_manifest_and_files_that_are_there():
    assert {SERVING / resource for resource in KUSTOMIZATION["resources"]} == set((SERVING / "k8s").glob("*.yaml"))
    (config,) = KUSTOMIZATION["configMapGenerator"]
    assert all((SERVING / file).is_file() for file in config["files"])


def test_everything_is_named_and_labelled_alike():
    labels = POD["metadata"]["labels"]
    selectors = [
        MANIFESTS["Deployment"]["spec"]["selector"]["matchLabels"],
        MANIFESTS["Service"]["spec"]["selector"],
        MANIFESTS["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        *(spread["labelSelector"]["matchLabels"] for spread in POD["spec"]["topologySpreadConstraints"]),
    ]
    assert all(selector and selector.items() <= labels.items() for selector in selectors)


def test_the_autoscaler_scales_the_deployment_which_sets_no_number():
    target = MANIFESTS["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    deployment = MANIFESTS["Deployment"]
    assert (target["apiVersion"], target["kind"]) == (deployment["apiVersion"], deployment["kind"])
    assert target["name"] == deployment["metadata"]["name"]
    assert "replicas" not in deployment["spec"]
    # A share of the request is what it looks at.
    assert CONTAINER["resources"]["requests"]["cpu"]
    # With one pod, a budget of one unavailable would protect nothing.
    assert MANIFESTS["HorizontalPodAutoscaler"]["spec"]["minReplicas"] > 1


def test_the_service_is_headless_and_its_ports_are_the_container_s():
    spec = MANIFESTS["Service"]["spec"]
    assert spec["clusterIP"] == "None"
    assert {port["port"]: PORTS[port["targetPort"]] for port in spec["ports"]} == {8500: 8500, 8501: 8501}


def test_the_flags_name_the_ports_and_the_mounted_files():
    assert (int(FLAGS["port"]), int(FLAGS["rest_api_port"])) == (PORTS["grpc"], PORTS["http"])
    assert POD["metadata"]["annotations"]["prometheus.io/port"] == FLAGS["rest_api_port"]
    (config,) = KUSTOMIZATION["configMapGenerator"]
    mounts = {mount["name"]: mount for mount in CONTAINER["volumeMounts"]}
    for flag, path in FLAGS.items():
        if flag.endswith("_file"):
            assert str(Path(path).parent) == mounts["config"]["mountPath"]
            assert Path(path).name in config["files"]
    assert mounts["models"]["mountPath"] == "/models"
    assert mounts["models"]["readOnly"] and mounts["config"]["readOnly"]


def test_every_mount_has_its_volume_and_every_volume_its_source():
    volumes = {volume["name"]: volume for volume in POD["spec"]["volumes"]}
    assert {mount["name"] for mount in CONTAINER["volumeMounts"]} == set(volumes)
    assert volumes["config"]["configMap"]["name"] == KUSTOMIZATION["configMapGenerator"][0]["name"]
    claim = volumes["models"]["persistentVolumeClaim"]["claimName"]
    assert claim == MANIFESTS["PersistentVolumeClaim"]["metadata"]["name"]


def test_the_probes_ask_the_health_service_that_the_flag_switches_on():
    assert [CONTAINER[probe]["grpc"]["port"] for probe in PROBES] == [PORTS["grpc"]] * 3
    assert FLAGS["enable_grpc_healthcheck_service"] == "true"


def test_a_pod_outlives_its_connections():
    (seconds,) = CONTAINER["lifecycle"]["preStop"]["exec"]["command"][1:]
    arguments = dict(argument.split("=") for argument in FLAGS["grpc_channel_arguments"].split(","))
    age = int(arguments["grpc.max_connection_age_ms"]) + int(arguments["grpc.max_connection_age_grace_ms"])
    assert age / 1000 < int(seconds) < POD["spec"]["terminationGracePeriodSeconds"]


def test_the_server_has_as_many_threads_as_it_asks_cores_for():
    cores = CONTAINER["resources"]["requests"]["cpu"]
    assert FLAGS["tensorflow_intra_op_parallelism"] == FLAGS["tensorflow_inter_op_parallelism"] == cores


def test_the_pod_is_confined():
    pod, container = POD["spec"]["securityContext"], CONTAINER["securityContext"]
    assert pod["runAsNonRoot"] and pod["runAsUser"] >= 1000
    assert pod["seccompProfile"]["type"] == "RuntimeDefault"
    assert container["readOnlyRootFilesystem"] and not container["allowPrivilegeEscalation"]
    assert container["capabilities"]["drop"] == ["ALL"]
    assert not POD["spec"]["automountServiceAccountToken"]


def test_the_probes_of_tls_are_plain_http():
    """kustomize applies the patches; what they say is looked at here."""
    patches = yaml.safe_load((SERVING / "k8s/tls/deployment.patch.yaml").read_text(encoding="utf-8"))
    replaced = {patch["path"].rsplit("/")[-1]: patch["value"] for patch in patches if patch["op"] == "replace"}
    assert set(replaced) == set(PROBES)
    assert all(probe["httpGet"]["port"] == "http" for probe in replaced.values())
    (flag,) = [patch["value"] for patch in patches if patch["path"].endswith("/args/-")]
    (mount,) = [patch["value"] for patch in patches if patch["path"].endswith("/volumeMounts/-")]
    (volume,) = [patch["value"] for patch in patches if patch["path"].endswith("/volumes/-")]
    assert flag == f"--ssl_config_file={mount['mountPath']}/ssl.config"
    assert mount["name"] == volume["name"]


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not on PATH")
@pytest.mark.parametrize("tls", [False, True])
def test_kustomize_puts_them_together(tmp_path, tls):
    serving = shutil.copytree(SERVING, tmp_path / "serving")
    if tls:
        text = (serving / "kustomization.yaml").read_text(encoding="utf-8")
        commented = "# components:\n#   - k8s/tls\n"
        assert commented in text
        (serving / "kustomization.yaml").write_text(text.replace(commented, "components:\n  - k8s/tls\n"))
    built = subprocess.run(["kubectl", "kustomize", serving], capture_output=True, text=True, check=True).stdout
    manifests = {manifest["kind"]: manifest for manifest in yaml.safe_load_all(built)}
    assert set(manifests) == {*MANIFESTS, "ConfigMap"}
    for manifest in manifests.values():
        kubernetes_validate.validate(manifest, KUBERNETES[-1], strict=True)
    assert manifests["ConfigMap"]["metadata"]["name"] == "ae-search-serving"
    (container,) = manifests["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert ("grpc" in container["readinessProbe"]) is not tls
