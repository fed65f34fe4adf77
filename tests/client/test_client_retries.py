"""How many times a request is sent: by the client's own rule, and by that one only."""

import itertools
import time

import grpc
import numpy as np
import pytest
from scripted_server import latents_of

from ae_search.client.retrying import STRANGER_ATTEMPTS
from ae_search.errors import AeSearchError, ServerUnavailableError

Code = grpc.StatusCode
# gRPC puts it into what it sends again by itself (github.com/grpc/proposal, A6).
GRPC_RETRY = "grpc-previous-rpc-attempts"
SENT_AGAIN = (Code.UNAVAILABLE,)
SENT_AGAIN_IF_KNOWN = (Code.UNAVAILABLE, Code.CANCELLED)


def fail_first(times, code, text="as the test said"):
    counter = itertools.count()

    def refuse(request, context):
        if next(counter) < times:
            context.abort(code, text)

    return refuse


@pytest.mark.parametrize("times", range(STRANGER_ATTEMPTS))
def test_a_server_that_never_answered_is_asked_a_few_times(client, script, times):
    script.refuse = fail_first(times, Code.UNAVAILABLE)
    assert client.describe().version == 3
    assert len(script.requests) == times + 1
    assert not any(GRPC_RETRY in metadata for metadata in script.metadata)


def test_and_no_more_often(client, script):
    script.refuse = fail_first(10**9, Code.UNAVAILABLE)
    began = time.monotonic()
    with pytest.raises(ServerUnavailableError, match="UNAVAILABLE: as the test said"):
        client.describe()
    assert time.monotonic() - began > 1.5  # a server that starts anew gets some time
    assert len(script.requests) == STRANGER_ATTEMPTS
    assert not any(GRPC_RETRY in metadata for metadata in script.metadata)


@pytest.mark.parametrize("rows", [3, 600])
def test_a_server_that_answered_before_is_asked_until_the_time_is_up(client, script, pixels, rows):
    client.describe()
    script.refuse = fail_first(20, Code.UNAVAILABLE)
    np.testing.assert_array_equal(client.encode(pixels[:rows]), latents_of(pixels[:rows]))
    assert len(script.requests) == 1 + 20 + -(-rows // 256)
    assert not any(GRPC_RETRY in metadata for metadata in script.metadata)


def test_the_time_that_is_up_ends_it(client, script, connect):
    hurried = connect(client.target, timeout_s=1.0)
    hurried.describe()
    script.refuse = fail_first(10**9, Code.UNAVAILABLE)
    began = time.monotonic()
    with pytest.raises(ServerUnavailableError, match="UNAVAILABLE: as the test said"):
        hurried.describe()
    assert time.monotonic() - began < 5
    assert len(script.requests) > 1 + STRANGER_ATTEMPTS


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK])
def test_what_else_a_server_answers_is_not_sent_again(client, script, known, code):
    if known:
        client.status()  # not counted among the requests
    script.refuse = fail_first(1, code)
    if code in (SENT_AGAIN_IF_KNOWN if known else SENT_AGAIN):
        assert client.describe().version == 3
        assert len(script.requests) == 2
        return
    if code is Code.INVALID_ARGUMENT:  # perhaps it does not know that the input has a default
        assert client.describe().version == 3
        assert "rows" in script.requests[1].inputs
        return
    if code is Code.OUT_OF_RANGE:
        assert client.describe().version == 3
        return
    with pytest.raises(AeSearchError, match=code.name):
        client.describe()
    assert len(script.requests) == 1
