"""One request to each address behind a target, where a channel would choose one of them."""

from dataclasses import replace
from typing import Any

import grpc

from ae_search.client.access import Access
from ae_search.client.addresses import each_address
from ae_search.client.channels import open_channel
from ae_search.client.requests import Outcome, Request
from ae_search.client.rpc_errors import from_rpc

# More than enough for a server to say which versions it has.
EACH_TIMEOUT_S = 2.0


def ask_each(request: Request, access: Access, timeout_s: float) -> list[Outcome]:
    """Send a request to each address of its target, all at once; return what became of each.

    Args:
        request: The request.
        access: TLS and credentials.
        timeout_s: Seconds allowed; no more than `EACH_TIMEOUT_S` are used.

    Returns:
        Answers or errors; none where the target has one address, or is resolved by gRPC only.
    """
    addresses = each_address(request.asked.target)
    if len(addresses) < 2:
        return []
    timeout_s, metadata = min(timeout_s, EACH_TIMEOUT_S), access.call_metadata()
    channels: list[Any] = []
    try:
        for address, host in addresses:
            channels.append(open_channel(address, access_to(host, access)))
        calls = [
            channel.unary_unary(request.method).future(request.message, timeout=timeout_s, metadata=metadata)
            for channel in channels
        ]
        return [_outcome(call, request, timeout_s) for call in calls]
    finally:
        for channel in channels:
            channel.close()


def access_to(host: str, access: Access) -> Access:
    """Return how a numeric address of a host is reached, where the host itself may be reached in a way.

    The target as a whole has been checked already: its parts may be named otherwise, but are no others.
    """
    if access.uses_tls:
        return replace(access, server_name=access.server_name or host)
    return replace(access, insecure=True)


def _outcome(call: Any, request: Request, timeout_s: float) -> Outcome:
    try:
        answer: bytes = call.result()
        return answer
    except grpc.RpcError as error:
        return from_rpc(error, request.asked, timeout_s)
