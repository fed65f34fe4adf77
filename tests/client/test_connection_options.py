"""The options and variables that name a server, from the command line to what the server receives."""

import subprocess
import sys
import time

import numpy as np
import pytest
import trustme
import typer
from build_options import build_options
from pictures import coloured_picture, encoded
from scripted_server import CARD
from test_client_tls import Certificates
from typer.testing import CliRunner

from ae_search import cli
from ae_search.cli.connection import Connection, with_connection
from ae_search.contract import SIGNATURE_DESCRIBE
from ae_search.index import IndexBuilder

SECRET = "s3cret-t0ken"
VARIABLES = (
    "SERVER MODEL_NAME TIMEOUT TLS TLS_CA TLS_CERT TLS_KEY TLS_SERVER_NAME TOKEN TOKEN_FILE INSECURE INDEX"
).split()
OPTIONS = (
    "--server --model --model-name --model-version --model-label --timeout --tls --tls-ca --tls-cert --tls-key "
    "--tls-server-name --token-file --header --insecure"
).split()


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(f"AE_SEARCH_{name}", raising=False)


@pytest.fixture
def ask():
    """Run a command that has these options and asks the server once; return what it printed."""

    @with_connection
    def describe(connection: Connection) -> None:
        with connection.client() as client:
            typer.echo(f"{client.describe().version} {client.timeout_s}")

    app = typer.Typer()
    app.command()(describe)

    def run(*arguments, **variables):
        result = CliRunner().invoke(
            app, [str(one) for one in arguments], env={f"AE_SEARCH_{name}": str(v) for name, v in variables.items()}
        )
        if result.exception is not None:
            raise result.exception
        return result.output.strip()

    return run


def test_server_name_and_timeout(ask, serve, script):
    server = f"127.0.0.1:{serve(script)}"
    assert ask("--server", server, "--model-name", "pixels", "--timeout", "12.5") == "3 12.5"
    assert ask(SERVER=server, MODEL_NAME="pixels", TIMEOUT="7") == "3 7.0"
    assert ask("--timeout", 3, SERVER=server, MODEL_NAME="pixels", TIMEOUT="7") == "3 3.0"  # the option goes first
    assert {request.model_spec.name for request in script.requests} == {"pixels"}


def test_the_timeout_is_kept(ask, serve, script):
    script.delay_s = 2.0
    began = time.monotonic()
    with pytest.raises(cli.AeSearchError, match=r"within 0.3 s.*--timeout"):
        ask("--server", f"127.0.0.1:{serve(script)}", "--model-name", "pixels", "--timeout", "0.3")
    assert time.monotonic() - began < 10


def test_version_and_label(ask, serve, script):
    script.served, script.labels = [3, 4], {"stable": 3}
    here = ("--server", f"127.0.0.1:{serve(script)}", "--model-name", "pixels")
    assert ask(*here) == "4 30.0"
    assert ask(*here, "--model-version", 3) == "3 30.0"
    assert ask(*here, "--model-label", "stable") == "3 30.0"
    specs = [request.model_spec for request in script.requests]
    assert [(spec.version.value, spec.version_label) for spec in specs] == [(0, ""), (3, ""), (0, "stable")]


def test_tokens_and_headers(ask, serve, script, tmp_path):
    here = {"SERVER": f"127.0.0.1:{serve(script)}", "MODEL_NAME": "pixels"}
    (tmp_path / "token").write_text("of-a-file\n")
    (tmp_path / "value").write_text("of a file\n")
    for name in ("token", "value"):
        (tmp_path / name).chmod(0o600)
    ask(**here, TOKEN=SECRET)
    ask(**here, TOKEN_FILE=tmp_path / "token")
    ask("--token-file", tmp_path / "token", **here, TOKEN=SECRET)
    ask("--header", "X-Team=a=b", "--header", f"x-file=@{tmp_path / 'value'}", **here)
    assert [sent.get("authorization") for sent in script.metadata] == [
        f"Bearer {SECRET}",
        "Bearer of-a-file",
        "Bearer of-a-file",
        None,
    ]
    assert (script.metadata[-1]["x-team"], script.metadata[-1]["x-file"]) == ("a=b", "of a file")


def test_tls(ask, serve, script, tmp_path):
    certificates = Certificates(tmp_path)
    own = certificates.client("own", certificates.authority)
    port = serve(script, credentials=certificates.server("models.example.org", mutual=True))
    here = {"SERVER": f"127.0.0.1:{port}", "MODEL_NAME": "pixels"}
    options = {
        "TLS_CA": certificates.ca,
        "TLS_CERT": own["certificate_file"],
        "TLS_KEY": own["key_file"],
        "TLS_SERVER_NAME": "models.example.org",
    }
    assert ask(**here, **options) == "3 30.0"
    flags = [part for name, value in options.items() for part in (f"--{name.lower().replace('_', '-')}", value)]
    assert ask(*flags, **here) == "3 30.0"
    with pytest.raises(cli.AeSearchError, match=r"another name.*--tls-server-name"):
        ask(**here, **{**options, "TLS_SERVER_NAME": ""})


def test_plain_text_elsewhere(ask):
    for insecure in ({"INSECURE": "1"}, {"INSECURE": "true"}):
        with pytest.raises(cli.AeSearchError, match="cannot be reached|did not answer"):
            ask("--server", "0.0.0.0:1", "--timeout", "1", **insecure)
    with pytest.raises(cli.AeSearchError, match=r"--tls.*--insecure"):
        ask("--server", "0.0.0.0:1", INSECURE="0")


@pytest.fixture
def index(tmp_path, pixels):
    with IndexBuilder(tmp_path / "index", CARD, build_options(n_trees=2)) as builder:
        builder.add(np.eye(16, dtype=np.float32), [f"item {at}" for at in range(16)])
    return tmp_path / "index"


@pytest.fixture
def photo(tmp_path):
    (tmp_path / "photo.png").write_bytes(encoded(coloured_picture(1)))
    return tmp_path / "photo.png"


@pytest.fixture
def command(monkeypatch, capsys):
    """Run `ae-search` in this process; return its exit code, stdout and stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["ae-search", "--quiet", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        told = capsys.readouterr()
        return ended.value.code or 0, told.out, told.err

    return run


# What is wrong, and what the one line must advise. HERE stands for a target on this machine.
WRONG = {
    "": "Give either --server HOST:PORT or --model EXPORT",
    "--server HERE --model x": "one of them",
    "--server nowhere": "HOST:PORT",
    "--server example.org:8500": "--tls",
    "--server 127.0.0.1.evil.com:80": "--insecure",
    "--server example.org:8500 --tls --insecure": "--insecure",
    "--server HERE --tls-cert own.pem": "--tls-key",
    "--server HERE --tls-key own.pem": "--tls-cert",
    "--server HERE --tls-ca none.pem": "--tls-ca none.pem cannot be read",
    "--server HERE --token-file none": "--token-file none cannot be read",
    "--server HERE --header nonsense": "KEY=VALUE",
    "--server HERE --header a=@none": "none cannot be read",
    "--server HERE --header a=": "Metadata",
    "--server HERE --model-version 3 --model-label stable": "one of them",
    "--server HERE --model-version 99999999999999999999": "version",
    "--server 127.0.0.1:1 --timeout 5": "is the model server running there?",
}


@pytest.mark.parametrize("options", WRONG)
def test_what_is_wrong_is_told_in_one_line(command, index, photo, options, monkeypatch):
    monkeypatch.chdir(photo.parent)
    code, out, err = command("query", "--index", index, photo, *options.replace("HERE", "127.0.0.1:1").split())
    assert (code, out) == (1, "")
    assert err.startswith("error: ") and err.count("\n") == 1, err
    assert WRONG[options] in err


def test_a_token_in_the_environment_is_never_printed(command, index, photo, monkeypatch):
    for token in (SECRET, f"{SECRET}\nx", f"{SECRET}ü"):
        monkeypatch.setenv("AE_SEARCH_TOKEN", token)
        code, out, err = command("query", "--index", index, photo, "--server", "127.0.0.1:1", "--timeout", "1")
        assert code == 1 and err.count("\n") == 1
        assert SECRET not in out + err


@pytest.mark.parametrize(
    "options", ["--timeout 0", "--timeout soon", "--timeout nan", "--model-version 0", "--model-version x"]
)
def test_what_is_no_number_is_wrong_usage(command, index, photo, options):
    code, _, err = command("query", "--index", index, photo, "--server", "127.0.0.1:1", *options.split())
    assert code == 2 and options.split()[0] in err


@pytest.mark.parametrize("name", ["query", "embed", "doctor", "index build", "index add"])
def test_help_lists_every_option(name):
    result = CliRunner().invoke(cli.app, [*name.split(), "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert result.exit_code == 0
    assert [option for option in OPTIONS if f"{option} " not in result.output] == []
    for variable in ("SERVER", "TLS_CA", "TOKEN", "TOKEN_FILE", "INSECURE"):
        assert f"AE_SEARCH_{variable}" in result.output


def test_a_query_from_the_command_line_without_tensorflow(serve, script, index, photo):
    """The real command in a process of its own: TLS, a token, and one search."""
    certificates = Certificates(photo.parent, trustme.CA())
    port = serve(script, credentials=certificates.server())
    code = (
        "import sys\nfor blocked in ('tensorflow', 'tensorflow_serving', 'keras'):\n    sys.modules[blocked] = None\n"
        "from ae_search.cli import main\nmain()"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, "query", "--index", index, photo, "-k", "3", "--json"]
        + ["--server", f"127.0.0.1:{port}", "--tls-ca", certificates.ca, "--timeout", "20"],
        capture_output=True,
        text=True,
        env={"AE_SEARCH_TOKEN": SECRET},
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count('"key"') == 3
    assert {sent["authorization"] for sent in script.metadata} == {f"Bearer {SECRET}"}
    assert script.asked_for(SIGNATURE_DESCRIBE)[0].model_spec.name == "pixels"  # of the index
