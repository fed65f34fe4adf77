"""Files with tokens and keys: who may read them besides the caller."""

import os
import subprocess
import sys

import pytest
import trustme

from ae_search.client import Access, LatentClient
from ae_search.errors import ConfigurationError
from ae_search.files import exposure
from ae_search.model_server.options import ServerTls

ROOT, OWN, OTHER = 0, 1000, 1001
SECRET = "s3cret"


def status(mode, owner):
    return os.stat_result((0o100000 | mode, 1, 1, 1, owner, 0, 10, 0, 0, 0))


@pytest.mark.parametrize(
    ("mode", "owner", "caller"),
    [
        (0o600, OWN, OWN),
        (0o400, OWN, OWN),
        (0o700, OWN, OWN),
        (0o400, ROOT, OWN),  # a secret of Kubernetes, defaultMode 0400
        (0o440, ROOT, OWN),  # the same with fsGroup
        (0o640, ROOT, OWN),  # Debian's keys for servers
        (0o440, ROOT, ROOT),
        (0o600, ROOT, ROOT),
        (0o600, OWN, ROOT),  # under sudo
    ],
)
def test_private_enough(mode, owner, caller):
    assert exposure(status(mode, owner), caller) is None


@pytest.mark.parametrize(
    ("mode", "owner", "caller", "told"),
    [
        (0o644, OWN, OWN, "0644"),
        (0o640, OWN, OWN, "0640"),
        (0o620, OWN, OWN, "0620"),
        (0o602, OWN, OWN, "0602"),
        (0o601, OWN, OWN, "0601"),
        (0o644, ROOT, OWN, "0644"),
        (0o644, ROOT, ROOT, "0644"),
        (0o444, ROOT, OWN, "0444"),
        (0o660, ROOT, OWN, "0660"),
        (0o640, OWN, ROOT, "0640"),
        (0o600, OTHER, OWN, "belongs to user 1001"),
        (0o440, OTHER, OWN, "belongs to user 1001"),
    ],
)
def test_not_private(mode, owner, caller, told):
    assert told in exposure(status(mode, owner), caller)


@pytest.fixture
def pair(tmp_path):
    """The options of a certificate and its key."""
    made = trustme.CA().issue_cert("localhost")
    made.private_key_pem.write_to_path(tmp_path / "own.key")
    made.cert_chain_pems[0].write_to_path(tmp_path / "own.pem")
    return {"certificate_file": tmp_path / "own.pem", "key_file": tmp_path / "own.key"}


def advised(error, path):
    """Follow the advice in an error, as a shell would."""
    assert f"chmod 600 {path}" in str(error.value) and SECRET not in str(error.value)
    path.chmod(0o600)


def test_a_token_for_all_to_read_is_not_sent(tmp_path):
    path = tmp_path / "token"
    path.write_text(SECRET)
    path.chmod(0o644)
    with LatentClient("127.0.0.1:1", access=Access(token_file=path), timeout_s=1) as client:
        with pytest.raises(ConfigurationError, match=r"--token-file \S+ has mode 0644") as caught:
            client.describe()
    advised(caught, path)
    assert Access(token_file=path).call_metadata() == (("authorization", f"Bearer {SECRET}"),)
    path.chmod(0o604)  # noticed although its content is known
    with pytest.raises(ConfigurationError, match="0604"):
        Access(token_file=path).call_metadata()


def test_a_link_is_as_private_as_what_it_leads_to(tmp_path):
    (tmp_path / "data").write_text(SECRET)
    (tmp_path / "data").chmod(0o644)
    (tmp_path / "token").symlink_to("data")
    with pytest.raises(ConfigurationError, match="0644"):
        Access(token_file=tmp_path / "token").call_metadata()
    (tmp_path / "data").chmod(0o400)
    assert Access(token_file=tmp_path / "token").call_metadata()


def test_a_clients_key(pair):
    pair["key_file"].chmod(0o640)
    os.chown(pair["key_file"], os.geteuid() or OWN, -1)
    with pytest.raises(ConfigurationError, match=r"--tls-key \S+ has mode 0640") as caught:
        LatentClient("127.0.0.1:1", access=Access(**pair))
    advised(caught, pair["key_file"])
    LatentClient("127.0.0.1:1", access=Access(**pair)).close()


def test_a_servers_key(pair):
    tls = ServerTls(pair["certificate_file"], pair["key_file"])
    pair["key_file"].chmod(0o644)
    with pytest.raises(ConfigurationError, match=r"The TLS key \S+ has mode 0644") as caught:
        tls.credentials()
    advised(caught, pair["key_file"])
    assert tls.credentials() is not None


def test_a_header_from_a_file(tmp_path):
    path = tmp_path / "value"
    path.write_text(SECRET)
    path.chmod(0o644)
    command = [sys.executable, "-m", "ae_search", "doctor", "--server", "127.0.0.1:1", "--header", f"x-key=@{path}"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 1 and "has mode 0644" in ended.stderr and SECRET not in ended.stderr
