"""`ae_search.testing`, as its users meet it: over real sockets."""

import doctest
import subprocess
import sys
import threading
import time

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import get_model_status_pb2

import ae_search.testing
from ae_search.client import LatentClient
from ae_search.contract import SIGNATURE_BYTES
from ae_search.errors import ServerAnswerError
from ae_search.model_server import LocalEncoder
from ae_search.testing import Faults, When, serving, write_tiny_model

pytest_plugins = ["pytester"]

LOADED_ALREADY = "ignore::pytest.PytestAssertRewriteWarning"
PIXELS = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)


def test_the_tiny_model_answers_every_signature(model_server, tiny_model):
    local = LocalEncoder(tiny_model)
    with LatentClient(model_server.address, model_server.model_name) as client:
        np.testing.assert_allclose(client.encode(PIXELS), local.encode(PIXELS), rtol=1e-5, atol=1e-6)
        assert client.describe().fingerprint == local.describe().fingerprint
        latents = local.encode(PIXELS)
        np.testing.assert_allclose(client.decode(latents), local.decode(latents), atol=1e-5)
    assert SIGNATURE_BYTES in local._servable.signature_defs


@pytest.mark.slow
def test_a_seed_is_a_model(tiny_model, tmp_path):
    same, other = write_tiny_model(tmp_path / "tiny"), write_tiny_model(tmp_path / "tiny", seed=2)
    assert (same.name, other.name) == ("1", "2")
    fingerprints = [LocalEncoder(path).describe().fingerprint for path in (tiny_model, same, other)]
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]


def test_no_faults_and_the_count_of_requests(model_server, outcome):
    assert [outcome() for _ in range(3)] == ["OK"] * 3
    assert model_server.faults.requests() == 3


def test_fail_a_number_of_times(model_server, predict, outcome):
    model_server.faults.fail("RESOURCE_EXHAUSTED", "Server Threadpool Exhausted", when=When(times=2))
    with pytest.raises(grpc.RpcError) as caught:
        predict()
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert caught.value.details() == "Server Threadpool Exhausted"
    assert [outcome() for _ in range(2)] == ["RESOURCE_EXHAUSTED", "OK"]


def test_fail_every_third_and_clear(model_server, outcome):
    model_server.faults.fail(grpc.StatusCode.INTERNAL, when=When(every=3))
    assert [outcome() for _ in range(6)] == ["OK", "OK", "INTERNAL"] * 2
    model_server.faults.clear()
    assert [outcome() for _ in range(3)] == ["OK"] * 3


def test_a_share_is_drawn_with_a_seed(model_server, outcome):
    drawn = []
    for seed in (5, 5, 6):
        model_server.faults.clear()
        model_server.faults.fail("ABORTED", when=When(share=0.5, seed=seed))
        drawn.append([outcome() for _ in range(20)])
    assert drawn[0] == drawn[1] != drawn[2]
    assert set(drawn[0]) == {"OK", "ABORTED"}


def test_delay(model_server, predict, outcome):
    model_server.faults.delay(0.3)
    started = time.monotonic()
    assert predict().outputs["latents"].float_val
    assert time.monotonic() - started >= 0.3
    model_server.faults.delay(60)
    assert outcome(timeout_s=0.5) == "DEADLINE_EXCEEDED"


def test_a_delay_holds_no_thread(tiny_model):
    """One worker, and many requests held up at once: all are answered, none is refused."""
    with serving(tiny_model, workers=1) as server, LatentClient(server.address, "tiny", timeout_s=30) as client:
        server.faults.delay(0.2)
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(client.encode(PIXELS))) for _ in range(4)]
        started = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == 4
        assert time.monotonic() - started < 4


def test_drop(model_server, outcome):
    model_server.faults.drop(when=When(times=1))
    assert [outcome(timeout_s=0.5), outcome()] == ["DEADLINE_EXCEEDED", "OK"]


@pytest.mark.parametrize("spoil", [lambda faults: faults.garbage(), lambda faults: faults.truncate(20)])
def test_garbage_and_truncated_answers(model_server, outcome, spoil):
    spoil(model_server.faults)
    with LatentClient(model_server.address, "tiny") as client, pytest.raises(ServerAnswerError):
        client.encode(PIXELS)
    model_server.faults.clear()
    assert outcome() == "OK"


def test_one_method_only(model_server, stubs, outcome):
    model_server.faults.fail("PERMISSION_DENIED", when=When(method="GetModelStatus"))
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "tiny"
    with pytest.raises(grpc.RpcError) as caught:
        stubs[1].GetModelStatus(request, timeout=30)
    assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED
    assert outcome() == "OK"


def test_restart_on_the_same_port_cuts_what_is_under_way(model_server, predict, outcome):
    address = model_server.address
    model_server.faults.delay(60, when=When(times=1))
    failed = []

    def ask():
        try:
            predict(timeout_s=60)
        except grpc.RpcError as error:
            failed.append(error.code())

    caller = threading.Thread(target=ask)
    caller.start()
    while not model_server.faults.requests():
        time.sleep(0.01)
    model_server.restart()
    caller.join(timeout=30)
    assert failed in ([grpc.StatusCode.UNAVAILABLE], [grpc.StatusCode.CANCELLED])
    assert model_server.address == address
    assert predict(wait_for_ready=True).model_spec.version.value == 1
    model_server.stop()
    assert outcome() == "UNAVAILABLE"


def test_a_server_of_ones_own(serve_model, tiny_model, tmp_path):
    (tmp_path / "own").symlink_to(tiny_model)
    server = serve_model(tmp_path / "own")
    assert (server.model_name, server.version) == ("own", 1)


@pytest.mark.parametrize("wrong", [{"every": 0}, {"times": 0}, {"share": 0.0}, {"share": 1.5}])
def test_wrong_when(wrong):
    with pytest.raises(ValueError, match="at least 1"):
        When(**wrong)


def test_faults_are_counted_rightly_from_many_threads():
    faults = Faults()
    faults.fail("ABORTED", when=When(times=50))
    met = []
    threads = [
        threading.Thread(target=lambda: met.extend(len(faults._meeting("Predict")) for _ in range(100)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(met) == 50
    assert faults.requests() == 800


@pytest.mark.usefixtures("tiny_model")
def test_the_fixtures_in_a_project_of_a_user(pytester):
    """One server for the session, which each test finds healthy; also where the one before has stopped it."""
    pytester.makeconftest('pytest_plugins = ["ae_search.testing.fixtures"]')
    pytester.makepyfile(
        """
        import numpy as np
        import pytest
        from ae_search.client import LatentClient
        from ae_search.testing import When

        addresses = set()

        @pytest.fixture
        def my_service(model_server):
            addresses.add(model_server.address)
            with LatentClient(model_server.address, model_server.model_name, timeout_s=20) as client:
                yield client

        def test_survives_a_busy_server(model_server, my_service):
            model_server.faults.fail("UNAVAILABLE", when=When(times=2))
            assert my_service.encode(np.zeros((16, 16, 3), np.uint8)).shape == (1, 8)
            assert model_server.faults.requests() > 2
            model_server.faults.fail("INTERNAL", when=When(method=""))

        def test_finds_no_fault_of_the_test_before(model_server, my_service):
            assert model_server.faults.requests() == 0
            assert my_service.describe().latent_dim == 8
            model_server.stop()

        def test_finds_it_running(my_service):
            assert my_service.describe().latent_dim == 8
            assert len(addresses) == 1
        """
    )
    # In this process, where TensorFlow is loaded, and `ae_search` too early to be rewritten.
    run = pytester.runpytest_inprocess("-W", "error::pytest.PytestWarning", "-W", LOADED_ALREADY)
    run.assert_outcomes(passed=3)


def test_the_examples_of_the_docstring(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert doctest.testmod(ae_search.testing) == doctest.TestResults(failed=0, attempted=4)


@pytest.mark.slow
def test_shape_and_length_of_the_tiny_model(tmp_path):
    card = LocalEncoder(write_tiny_model(tmp_path / "grey", image_shape=(6, 4, 1), latent_dim=3)).describe()
    assert (card.image_shape, card.latent_dim) == ((6, 4, 1), 3)


def test_faults_from_the_first_request_on(tiny_model, outcome_of):
    faults = Faults()
    faults.fail("UNAUTHENTICATED", when=When(times=1))
    with serving(tiny_model, faults=faults) as server:
        assert server.faults is faults
        assert [outcome_of(server) for _ in range(2)] == ["UNAUTHENTICATED", "OK"]


def test_a_server_ends_with_its_block(tiny_model, outcome_of):
    with serving(tiny_model) as server:
        assert outcome_of(server) == "OK"
        server.start()
        assert outcome_of(server) == "OK"
        server.stop()
        server.stop()
    assert outcome_of(server) == "UNAVAILABLE"


def test_importing_it_loads_no_tensorflow():
    code = "import sys, ae_search.testing; print({'tensorflow', 'keras'} & sys.modules.keys())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.strip() == "set()"
