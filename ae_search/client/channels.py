"""Channels to a server: the options that gRPC takes, for blocking and for asynchronous calls alike."""

from typing import Any

import grpc

from ae_search.client.access import Access, is_loopback
from ae_search.errors import ConfigurationError

MAX_ANSWER_BYTES = 64 * 2**20
# A connection that answers no ping is given up. Pings go out after a third of the time that a request may take, and
# again after the second: a server that answers its requests in time gets no third one without having sent anything in
# between, and it would end the connection at the fourth; pings that are 5 minutes apart it takes without end
# (github.com/grpc/grpc, doc/keepalive.md). Half of the time is left for another address.
PING_PART, PING_ANSWER_PART = 3, 6
LEAST_PING_S, MOST_PING_S = 1.0, 310.0
# A server that is short of CPU takes its time with the answer, too.
LEAST_PING_ANSWER_S, MOST_PING_ANSWER_S = 2.0, 10.0

SERVICE_CONFIG = '{"loadBalancingConfig": [{"round_robin": {}}]}'


def open_channel(
    target: str,
    access: Access,
    *,
    timeout_s: float = 30.0,
    max_answer_bytes: int = MAX_ANSWER_BYTES,
    asynchronous: bool = False,
) -> Any:
    """Return a `grpc.Channel`, or a `grpc.aio.Channel`; gRPC itself sends nothing again, see `retrying`.

    Args:
        target: The gRPC target.
        access: TLS and credentials.
        timeout_s: Seconds that a request may take; a connection that hangs is given up after half of it.
        max_answer_bytes: Bytes that an answer may have.
        asynchronous: Which kind of channel.

    Raises:
        ConfigurationError: See `Access.check` and `Access.tls_files`.
    """
    access.check(target)
    api: Any = grpc.aio if asynchronous else grpc
    options = [*_options(target, access), *_keepalive(timeout_s)]
    options.append(("grpc.max_receive_message_length", max_answer_bytes))
    if not access.uses_tls:
        return api.insecure_channel(target, options=options)
    authorities, key, certificate = access.tls_files()
    try:
        credentials = grpc.ssl_channel_credentials(authorities, key, certificate)
        return api.secure_channel(target, credentials, options=options)
    except ValueError as error:
        raise ConfigurationError(f"The TLS files do not make credentials: {error}.") from error


def _options(target: str, access: Access) -> list[tuple[str, Any]]:
    options: list[tuple[str, Any]] = [
        ("grpc.max_send_message_length", -1),  # files are bounded when they are read, requests when they are cut
        ("grpc.service_config", SERVICE_CONFIG),
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.enable_retries", 0),
        # Its default of up to two minutes would outlast a server's restart.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2000),
        # In spite of its name the time that one attempt to connect, with its TLS handshake, may take.
        ("grpc.min_reconnect_backoff_ms", 10_000),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if access.server_name:
        options.append(("grpc.ssl_target_name_override", access.server_name))
    if is_loopback(target):
        options.append(("grpc.enable_http_proxy", 0))  # a company's proxy cannot reach our loopback
    return options


def _keepalive(timeout_s: float) -> list[tuple[str, Any]]:
    """Ping only while a call waits: servers end connections that ping without one."""
    ping_s = min(max(timeout_s / PING_PART, LEAST_PING_S), MOST_PING_S)
    answer_s = min(max(timeout_s / PING_ANSWER_PART, LEAST_PING_ANSWER_S), MOST_PING_ANSWER_S)
    return [
        ("grpc.keepalive_time_ms", int(ping_s * 1000)),
        ("grpc.keepalive_timeout_ms", int(answer_s * 1000)),
        # For the pings that measure the bandwidth: while one of them is under way, no other is sent.
        ("grpc.http2.ping_timeout_ms", int(answer_s * 1000)),
    ]
