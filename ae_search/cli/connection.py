"""The options of every command that fetches latents: which server, or which model in this process, and how."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from ae_search.cli.options import load_tensorflow
from ae_search.contract import DEFAULT_MODEL_NAME, Encoder
from ae_search.errors import ConfigurationError
from ae_search.files import read_private

if TYPE_CHECKING:
    from ae_search.client import Access, LatentClient

PANEL = "Model server"


def _option(*names: str, env: str | None = None, **details: Any) -> Any:
    variable = f"AE_SEARCH_{env}" if env else None
    return typer.Option(*names, envvar=variable, rich_help_panel=PANEL, **details)


@dataclass(frozen=True)
class Connection:
    """Where latents come from, as the command line and the environment say."""

    server: Annotated[
        str | None,
        _option("--server", env="SERVER", metavar="HOST:PORT", help="gRPC address, or a target such as dns:///a:8500."),
    ] = None
    model: Annotated[
        Path | None,
        _option("--model", metavar="EXPORT", help="Exported model to run in this process, in place of --server."),
    ] = None
    trust: Annotated[
        bool,
        _option("--trust", help="With --model: load it whatever its program may do, as you know who made it."),
    ] = False
    model_name: Annotated[
        str | None, _option("--model-name", env="MODEL_NAME", help="Name that the server serves the model under.")
    ] = None
    model_version: Annotated[
        int | None, _option("--model-version", min=1, help="Version of the model; unless given, the newest.")
    ] = None
    model_label: Annotated[
        str | None, _option("--model-label", help="Label of the version, such as stable, in place of its number.")
    ] = None
    timeout: Annotated[
        float,
        _option("--timeout", env="TIMEOUT", min=0.001, help="Seconds allowed for each request, repetitions included."),
    ] = 30.0
    total_timeout: Annotated[
        float | None,
        _option("--total-timeout", env="TOTAL_TIMEOUT", min=0.001, help="Seconds for a call of many requests."),
    ] = None
    tls: Annotated[bool, _option("--tls", env="TLS", help="Speak TLS, trusting the system's authorities.")] = False
    tls_ca: Annotated[
        Path | None, _option("--tls-ca", env="TLS_CA", metavar="PEM", help="Speak TLS, trusting these authorities.")
    ] = None
    tls_cert: Annotated[
        Path | None, _option("--tls-cert", env="TLS_CERT", metavar="PEM", help="Own certificate, for mutual TLS.")
    ] = None
    tls_key: Annotated[Path | None, _option("--tls-key", env="TLS_KEY", metavar="PEM", help="Its private key.")] = None
    tls_server_name: Annotated[
        str | None,
        _option("--tls-server-name", env="TLS_SERVER_NAME", help="Name in the server's certificate, if it differs."),
    ] = None
    token_file: Annotated[
        Path | None,
        _option(
            "--token-file",
            env="TOKEN_FILE",
            help="File with a token, sent as 'authorization: Bearer'; AE_SEARCH_TOKEN holds the token itself.",
        ),
    ] = None
    header: Annotated[
        list[str] | None,
        _option("--header", metavar="KEY=VALUE", help="Metadata to send; KEY=@FILE takes the value from a file."),
    ] = None
    insecure: Annotated[
        bool, _option("--insecure", env="INSECURE", help="Allow plain text to servers that are not on this machine.")
    ] = False

    def encoder(self, default_name: str = DEFAULT_MODEL_NAME) -> Encoder:
        """Return the encoder that the options name.

        Args:
            default_name: Name to ask the server for, where --model-name gives none.

        Raises:
            ConfigurationError: Neither or both of server and model are given, or the options do not go together.
        """
        if (self.server is None) == (self.model is None):
            raise ConfigurationError("Give either --server HOST:PORT or --model EXPORT, one of them.")
        if self.server is not None:
            if self.trust:
                raise ConfigurationError("--trust goes with --model, whose program runs in this process.")
            return self.client(default_name)
        if self.model_label is not None:
            raise ConfigurationError("--model runs a folder, which has no labels; name the version by --model-version.")
        load_tensorflow()
        from ae_search.model_server import LocalEncoder

        assert self.model is not None
        encoder = LocalEncoder(self.model, trust=self.trust)
        return encoder if self.model_version is None else encoder.at_version(self.model_version)

    def client(self, default_name: str = DEFAULT_MODEL_NAME) -> "LatentClient":
        """Return the client of the server.

        Raises:
            ConfigurationError: There is no server, or the options do not go together.
        """
        if self.server is None:
            raise ConfigurationError("Give --server HOST:PORT.")
        # gRPC takes a while to load, and an indexed item is searched for without it.
        from ae_search.client import LatentClient

        return LatentClient(
            self.server,
            self.model_name or default_name,
            version=self.model_version,
            label=self.model_label,
            access=self.access(),
            timeout_s=self.timeout,
            total_timeout_s=self.total_timeout,
        )

    def access(self) -> "Access":
        """Return TLS and credentials.

        Raises:
            ConfigurationError: A header is not KEY=VALUE, or its file cannot be read.
        """
        from ae_search.client import Access

        return Access(
            tls=self.tls,
            ca_file=self.tls_ca,
            certificate_file=self.tls_cert,
            key_file=self.tls_key,
            server_name=self.tls_server_name,
            token=None if self.token_file else Access.from_environment().token,
            token_file=self.token_file,
            metadata=dict(map(_header, self.header or [])),
            insecure=self.insecure,
        )


def with_connection(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `Connection`, in place of its parameter `connection`."""
    own = inspect.signature(command).parameters.values()
    hints = get_type_hints(Connection, include_extras=True)
    shared = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in fields(Connection)
    ]
    parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own if one.name != "connection"]

    takes_context = any(one.name == "context" for one in parameters)
    if not takes_context:
        kind = inspect.Parameter.KEYWORD_ONLY
        parameters.insert(0, inspect.Parameter("context", kind, annotation=typer.Context))

    @functools.wraps(command)
    def expanded(**given: Any) -> None:
        context = given["context"] if takes_context else given.pop("context")
        chosen = {field.name: given.pop(field.name) for field in fields(Connection)}
        command(connection=Connection(**_give_way(context, chosen)), **given)

    expanded.__signature__ = inspect.Signature([*parameters, *shared])  # type: ignore[attr-defined]
    expanded.__annotations__ = {one.name: one.annotation for one in [*parameters, *shared]}
    return expanded


def _give_way(context: typer.Context, chosen: dict[str, Any]) -> dict[str, Any]:
    """Drop what the environment says where the command line says the opposite."""

    def typed(*names: str) -> bool:
        sources = [context.get_parameter_source(name) for name in names]
        return any(source is not None and source.name == "COMMANDLINE" for source in sources)

    tls = ("tls", "tls_ca", "tls_cert", "tls_key", "tls_server_name")
    dropped: tuple[str, ...] = ()
    if typed("model") and not typed("server"):
        dropped += ("server",)
    if typed("server") and not typed("model"):
        dropped += ("model",)
    if typed("insecure") and not typed(*tls):
        dropped += tls
    if typed(*tls) and not typed("insecure"):
        dropped += ("insecure",)
    defaults = {field.name: field.default for field in fields(Connection)}
    return {name: defaults[name] if name in dropped else value for name, value in chosen.items()}


def _header(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigurationError("--header must be KEY=VALUE or KEY=@FILE; one of them has no '='.")  # it may be secret
    if value.startswith("@"):
        try:
            value = read_private(value[1:], f"--header {key}:").decode("ascii").strip()
        except UnicodeDecodeError as error:
            raise ConfigurationError(f"--header {key}: {value[1:]} cannot be read: {error}.") from error
    return key.lower(), value
