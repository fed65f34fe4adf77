"""Where the server listens, and whether that is this machine only."""

import socket

import pytest

from ae_search.model_server import ModelServer


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
        return True
    except OSError:
        return False


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this machine")
@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_the_loopback_of_ipv6_is_this_machine(publish, tmp_path, caplog, host):
    (tmp_path / "m").mkdir()
    publish(tmp_path / "m" / "1")
    with ModelServer(tmp_path / "m", host=host) as server:
        assert server.address == f"[::1]:{server.port}"
    assert "without TLS" not in caplog.text
