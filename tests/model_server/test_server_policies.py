"""Several versions at once, and the labels that name them."""

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2

from ae_search.errors import ConfigurationError
from ae_search.model_server import Labels, ModelServer, VersionPolicy

IMAGES = np.random.default_rng(4).random((2, 2, 2, 3), np.float32)
POLL_S = 0.1
DEADLINE_S = 30


@pytest.fixture
def base(tmp_path):
    path = tmp_path / "m"
    path.mkdir()
    return path


@pytest.fixture
def ask(connect, predict_request):
    """Return a function of server, version and label that returns the version that answered."""

    def ask(server, version=None, label=""):
        request = predict_request(version=version, images=IMAGES)
        if label:
            request.model_spec.version_label = label
        return connect(server).prediction.Predict(request, timeout=DEADLINE_S)

    return ask


def served(server):
    return server._versions.available()


def break_version(folder):
    for part in (folder / "variables").iterdir():
        part.unlink()


@pytest.mark.parametrize(
    ("text", "versions", "wanted"),
    [
        ("latest", {1, 2, 3}, {3}),
        ("latest:2", {1, 2, 3}, {2, 3}),
        ("latest:9", {1, 2}, {1, 2}),
        ("all", {1, 2, 3}, {1, 2, 3}),
        ("specific:1,3", {1, 2, 3}, {1, 3}),
        ("specific:007", {7, 8}, {7}),
        ("specific:9223372036854775807", {7, 2**63 - 1}, {2**63 - 1}),
        ("specific:5", {1}, set()),
        ("latest:1", set(), set()),
    ],
)
def test_policies(text, versions, wanted):
    policy = VersionPolicy.parse(text)
    assert policy.wanted(versions) == wanted
    assert VersionPolicy.parse(str(policy)) == policy


@pytest.mark.parametrize(
    "text",
    [
        "",
        "latest:0",
        "latest:",
        "latest:-1",
        "latest:x",
        "all:1",
        "specific",
        "specific:",
        "specific:1,",
        "specific:9223372036854775808",
        "new",
    ],
)
def test_wrong_policies(text):
    with pytest.raises(ConfigurationError, match="latest:N, all or specific:V"):
        VersionPolicy.parse(text)


def test_the_default_is_the_newest():
    assert VersionPolicy() == VersionPolicy.parse("latest:1")


def test_latest_two_roll_on(base, publish, ask, oracle, eventually):
    publish(base / "1")
    publish(base / "2", seed=2)
    with ModelServer(base, version_policy=VersionPolicy.parse("latest:2"), poll_interval_s=POLL_S) as server:
        assert served(server) == [2, 1]
        for version in (1, 2):
            answer = ask(server, version)
            assert answer.model_spec.version.value == version
            latents = tf.make_ndarray(answer.outputs["latents"])
            np.testing.assert_allclose(latents, oracle(IMAGES, seed=version), rtol=1e-5, atol=1e-5)
        assert ask(server).model_spec.version.value == 2
        publish(base / "3")
        eventually(lambda: served(server) == [3, 2])
        with pytest.raises(grpc.RpcError) as caught:
            ask(server, 1)
        assert caught.value.details() == "Servable not found for request: Specific(m, 1)"


def test_a_broken_newest_leaves_room_for_the_next_older(base, publish, eventually, tmp_path):
    for number in (1, 2):
        publish(base / str(number))
    with ModelServer(base, version_policy=VersionPolicy.parse("latest:2"), poll_interval_s=POLL_S) as server:
        broken = publish(tmp_path / "3")
        break_version(broken)
        broken.rename(base / "3")
        eventually(lambda: any(s.version == 3 and s.error for s in server._versions.statuses()))
        assert served(server) == [2, 1]
        publish(base / "4")
        eventually(lambda: served(server) == [4, 2])


def test_all_and_specific(base, publish, eventually):
    for number in (1, 2, 5):
        publish(base / str(number))
    with ModelServer(base, version_policy=VersionPolicy.parse("all"), poll_interval_s=POLL_S) as server:
        assert served(server) == [5, 2, 1]
        publish(base / "3")
        eventually(lambda: served(server) == [5, 3, 2, 1])
    with ModelServer(base, version_policy=VersionPolicy.parse("specific:1,4"), poll_interval_s=POLL_S) as server:
        assert served(server) == [1]
        publish(base / "6")
        publish(base / "4")
        eventually(lambda: served(server) == [4, 1])
        assert {status.version for status in server._versions.statuses()} == {1, 4}
    with pytest.raises(ConfigurationError, match=r"none of specific:9; there: 1, 2, 3, 4, 5, 6"):
        ModelServer(base, version_policy=VersionPolicy.parse("specific:9")).start()


def test_labels(base, publish, connect, ask):
    publish(base / "1")
    publish(base / "2", seed=2)
    labels = Labels.parse(["stable=1", "canary=2"])
    with ModelServer(base, version_policy=VersionPolicy.parse("all"), labels=labels) as server:
        assert ask(server, label="stable").model_spec.version.value == 1
        assert ask(server, label="canary").model_spec.version.value == 2
        with pytest.raises(grpc.RpcError) as caught:
            ask(server, label="beta")
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert caught.value.details() == "Unrecognized servable version label: beta"
        status = get_model_status_pb2.GetModelStatusRequest()
        metadata = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        for request in (status, metadata):
            request.model_spec.name, request.model_spec.version_label = "m", "stable"
        stubs = connect(server)
        answer = stubs.model.GetModelStatus(status, timeout=DEADLINE_S)
        assert [s.version for s in answer.model_version_status] == [1]
        assert stubs.prediction.GetModelMetadata(metadata, timeout=DEADLINE_S).model_spec.version.value == 1


def test_a_label_on_a_version_that_is_not_there(base, publish, ask, eventually):
    publish(base / "1")
    with pytest.raises(ConfigurationError, match=r"'canary' names version 2, which is not available; available: 1\."):
        ModelServer(base, labels=Labels({"stable": 1, "canary": 2})).start()
    labels = Labels({"canary": 2}, allow_unavailable=True)
    policy = VersionPolicy.parse("latest:2")
    with ModelServer(base, labels=labels, version_policy=policy, poll_interval_s=POLL_S) as server:
        with pytest.raises(grpc.RpcError) as caught:
            ask(server, label="canary")
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        assert caught.value.details() == "Servable not found for request: Specific(m, 2)"
        publish(base / "2", seed=2)
        eventually(lambda: served(server) == [2, 1])
        assert ask(server, label="canary").model_spec.version.value == 2


@pytest.mark.parametrize(
    ("texts", "named"),
    [(["stable"], "'stable'"), (["=1"], "'=1'"), (["stable=x"], "'stable=x'"), (["a=1", "a=2"], "given twice")],
)
def test_wrong_labels(texts, named):
    with pytest.raises(ConfigurationError, match=named):
        Labels.parse(texts)
