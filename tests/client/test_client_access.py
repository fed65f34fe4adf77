"""Tokens and metadata, and where plain text may go."""

import os

import numpy as np
import pytest

from ae_search.client import Access, LatentClient
from ae_search.client.access import is_loopback
from ae_search.errors import AeSearchError, ConfigurationError

SECRET = "s3cret-t0ken"


def test_token_and_metadata_reach_the_server(serve, connect, script):
    client = connect(serve(script), access=Access(token=SECRET, metadata={"x-team": "search", "x-a.b_c": " ~ "}))
    client.encode(np.zeros((600, 4, 4, 1), np.uint8))
    assert len(script.metadata) == 1 + 3
    for sent in script.metadata:
        assert (sent["authorization"], sent["x-team"]) == (f"Bearer {SECRET}", "search")


def test_nothing_is_sent_that_nobody_gave(client, script):
    client.describe()
    assert set(script.metadata[0]) == {"user-agent"}


def test_a_token_file_is_read_again_when_it_changes(serve, connect, script, tmp_path):
    file = tmp_path / "token"
    file.write_text("first\n")
    file.chmod(0o600)
    client = connect(serve(script), access=Access(token_file=file))
    client.describe()
    file.write_text("a longer one")
    client.describe()
    (tmp_path / "next").write_text("another one!")  # of the same size, and put in its place as Kubernetes does
    (tmp_path / "next").chmod(0o600)
    changed = file.stat()
    os.utime(tmp_path / "next", ns=(changed.st_atime_ns, changed.st_mtime_ns))
    (tmp_path / "next").replace(file)
    client.describe()
    assert [sent["authorization"] for sent in script.metadata] == [
        "Bearer first",
        "Bearer a longer one",
        "Bearer another one!",
    ]
    file.unlink()
    with pytest.raises(ConfigurationError, match="token-file"):
        client.describe()
    assert len(script.metadata) == 3


@pytest.mark.parametrize(
    "content", [b"", b"\n\n", f"{SECRET}\n{SECRET}\n".encode(), SECRET.encode() + b"\xc3\xbc", None]
)
def test_token_files_that_hold_no_token(serve, connect, script, tmp_path, content):
    file = tmp_path / "token"
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
        file.chmod(0o600)
    client = connect(serve(script), access=Access(token_file=file))
    for call in (client.describe, client.status, lambda: client.encode(np.zeros((600, 4, 4, 1), np.uint8))):
        with pytest.raises(ConfigurationError, match="token-file") as caught:
            call()
        assert SECRET not in str(caught.value)
    assert script.metadata == []


@pytest.mark.parametrize("token", ["", "\n", f"{SECRET}\n", f"{SECRET}\r\nx-admin: 1", f"{SECRET}ü", f"{SECRET}\0"])
def test_tokens_that_no_header_can_carry(connect, token):
    with pytest.raises(ConfigurationError, match="token") as caught:
        connect(1, access=Access(token=token))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("X-Team", "a"),
        ("grpc-timeout", "1"),
        ("a-bin", "a"),
        ("a b", "c"),
        ("", "a"),
        ("a", ""),
        ("a", "b\nc"),
        ("a", "ü"),
    ],
)
def test_metadata_that_grpc_cannot_carry(connect, key, value):
    with pytest.raises(ConfigurationError, match="Metadata"):
        connect(1, access=Access(metadata={key: value}))


def test_secrets_are_never_shown(connect, script, serve, tmp_path):
    (tmp_path / "token").write_text(SECRET)
    (tmp_path / "token").chmod(0o600)
    for access in (
        Access(token=SECRET, metadata={"x-key": SECRET}),
        Access(token_file=tmp_path / "token", metadata={"x-key": SECRET}),
    ):
        client = connect(serve(script), access=access)
        assert SECRET not in repr(access) + str(access) + repr(client) + repr(vars(client))
        script.served = []
        with pytest.raises(AeSearchError) as caught:
            client.describe()
        assert SECRET not in str(caught.value) + repr(caught.value) + repr(caught.value.__cause__)
    with pytest.raises(ConfigurationError, match="one of them") as told:
        connect(1, access=Access(token=SECRET, token_file=tmp_path / "token"))
    assert SECRET not in str(told.value)


def test_the_environment_gives_the_access(monkeypatch, tmp_path):
    names = ("TLS", "TLS_CA", "TLS_CERT", "TLS_KEY", "TLS_SERVER_NAME", "TOKEN", "TOKEN_FILE", "INSECURE")
    for name in names:
        monkeypatch.delenv(f"AE_SEARCH_{name}", raising=False)
    assert Access.from_environment() == Access()
    for name in names:
        monkeypatch.setenv(f"AE_SEARCH_{name}", "")
    assert Access.from_environment() == Access()
    monkeypatch.setenv("AE_SEARCH_TOKEN", f"{SECRET}\n")  # as a mounted secret has it
    monkeypatch.setenv("AE_SEARCH_TLS", "Yes")
    for name in ("TLS_CA", "TLS_CERT", "TLS_KEY", "TLS_SERVER_NAME", "TOKEN_FILE"):
        monkeypatch.setenv(f"AE_SEARCH_{name}", name)
    monkeypatch.setenv("AE_SEARCH_INSECURE", "0")
    assert Access.from_environment() == Access(
        tls=True,
        ca_file="TLS_CA",
        certificate_file="TLS_CERT",
        key_file="TLS_KEY",
        server_name="TLS_SERVER_NAME",
        token=SECRET,
        token_file="TOKEN_FILE",
    )


HERE = [
    "127.0.0.1:1", "127.8.9.10:1", "localhost:1", "LOCALHOST:1", "[::1]:1", "unix:/x", "unix:///x", "unix-abstract:x",
    "dns:///127.0.0.1:1", "dns:///localhost:1", "dns:localhost:1", "dns:///[::1]:1", "ipv4:127.0.0.1:1",
    "ipv4:127.0.0.1:1,127.0.0.2:2", "ipv6:[::1]:1",
    "ip6-localhost:1", "IP6-Loopback:1", "dns:///ip6-localhost:1",
]  # fmt: skip
ELSEWHERE = [
    "127.0.0.1.evil.com:80", "localhost.evil.com:1", "evil.com:1", "dns://8.8.8.8/localhost:1", "0.0.0.0:1", "[::]:1",
    "ipv4:127.0.0.1:1,10.0.0.1:1", "ipv4:10.0.0.1:1,127.0.0.1:1", "dns:///evil.com:1", "dns:evil.com:1", "dns:1",
    "ipv4:127.0.0.1:1%2C10.0.0.1:1", "ipv4:127.0.0.1%2C10.0.0.1:1", "dns:[::1].evil.com:80", "dns:localhost:1@evil.com",
    "ipv6:[::1%2C2001:db8::1]:1", "xds:///localhost:1", "10.127.0.1:1", "128.0.0.1:1", "localhost.:1", "ipv4:", "dns:",
    "[2001:db8::1]:1", "127.0.0.1@evil.com:1", "unix.evil.com:1", "ipv4:127.0.0.1:1,", "dns:////evil.com:1", "ipv4:1",
    "ip6-localhost.evil.com:1", "ip6-localhost,evil.com:1",
]  # fmt: skip


@pytest.mark.parametrize("target", HERE)
def test_plain_text_goes_to_this_machine(connect, target):
    assert is_loopback(target)
    connect(target)


@pytest.mark.parametrize("target", ELSEWHERE)
def test_plain_text_goes_nowhere_else_unless_that_is_asked_for(connect, target):
    assert not is_loopback(target)
    with pytest.raises(ConfigurationError, match="--tls.*--insecure|HOST:PORT"):
        connect(target)


def test_plain_text_elsewhere_when_it_is_asked_for(connect):
    connect("example.org:8500", access=Access(insecure=True))
    connect("example.org:8500", access=Access(tls=True))


def test_a_target_that_is_here_by_its_name_only_is_not_resolved_by_a_proxy(serve, script, monkeypatch):
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with LatentClient(f"127.0.0.1:{serve(script)}", "pixels", timeout_s=20) as client:
        assert client.describe().version == 3


@pytest.mark.parametrize(
    "timeouts", [{"timeout_s": seconds} for seconds in (0, -1, float("nan"))] + [{"total_timeout_s": 0}]
)
def test_no_time_is_no_configuration(connect, timeouts):
    with pytest.raises(ConfigurationError, match="above 0 seconds"):
        connect(1, **timeouts)
