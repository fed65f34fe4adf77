"""Channels to a server: the options that gRPC takes, for blocking and for asynchronous calls alike."""

import json
from typing import Any

import grpc

from ae_search.client.access import Access, is_loopback
from ae_search.errors import ConfigurationError

MAX_ANSWER_BYTES = 64 * 2**20
KEEPALIVE_S = 60

# github.com/grpc/proposal, A6: gRPC tries again by itself what did not reach a server or met one that was stopping.
# What it cannot say is to try again by the text of an error; see `retrying`.
SERVICE_CONFIG = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 5,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "2s",
                    "backoffMultiplier": 2.5,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ],
    }
)


def open_channel(target: str, access: Access, *, asynchronous: bool = False) -> Any:
    """Return a `grpc.Channel`, or a `grpc.aio.Channel`.

    Raises:
        ConfigurationError: See `Access.check` and `Access.tls_files`.
    """
    access.check(target)
    api: Any = grpc.aio if asynchronous else grpc
    options = _options(target, access)
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
        ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
        ("grpc.max_send_message_length", -1),  # files are bounded when they are read, requests when they are cut
        ("grpc.service_config", SERVICE_CONFIG),
        ("grpc.service_config_disable_resolution", 1),
        # A request larger than this buffer would not be tried again.
        ("grpc.per_rpc_retry_buffer_size", MAX_ANSWER_BYTES + 2**20),
        # Its default of up to two minutes would outlast a server's restart.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2000),
        # In spite of its name the time that one attempt to connect, with its TLS handshake, may take.
        ("grpc.min_reconnect_backoff_ms", 10_000),
        # Pings only while a call waits: servers end connections that ping without one.
        ("grpc.keepalive_time_ms", KEEPALIVE_S * 1000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if access.server_name:
        options.append(("grpc.ssl_target_name_override", access.server_name))
    if is_loopback(target):
        options.append(("grpc.enable_http_proxy", 0))  # a company's proxy cannot reach our loopback
    return options
