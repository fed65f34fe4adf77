"""The addresses behind a target, and what stands in front of them."""

import ipaddress
import os
import socket

from ae_search.client.access import is_loopback

Address = tuple[str, int]

# In the order in which gRPC looks at them (github.com/grpc/grpc, doc/environment_variables.md).
PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")
NO_PROXY = ("no_grpc_proxy", "no_proxy")


def addresses_of(target: str) -> list[Address] | None:
    """Return host and port of each address that a target names, None where only gRPC can tell."""
    scheme, _, rest = target.partition(":")
    if scheme in ("unix", "unix-abstract", "xds"):
        return None
    if scheme in ("dns", "ipv4", "ipv6") and not rest.isdigit():
        if rest.startswith("//") and not rest.startswith("///"):
            return None
        target = rest.removeprefix("///")
    found = []
    for address in target.split(","):
        host, _, port = address.rpartition(":")
        if not port.isdigit() or not 0 < int(port) < 65536:
            return None
        found.append((host.strip("[]"), int(port)))
    return found


def proxy_of(target: str) -> str | None:
    """Return the environment variable by which gRPC sends the calls to a target through a proxy, if there is one."""
    addresses = addresses_of(target)
    name = next((name for name in PROXIES if os.environ.get(name)), None)
    if name is None or addresses is None or is_loopback(target):
        return None
    excluded = next((os.environ[name] for name in NO_PROXY if os.environ.get(name)), "")
    entries = [entry.strip() for entry in excluded.split(",") if entry.strip()]
    return None if any(_matches(addresses[0][0], entry) for entry in entries) else name


def _matches(host: str, entry: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return host.lower().endswith(entry.lower())


def each_address(target: str) -> list[tuple[str, str]]:
    """Return each address behind a target as a gRPC target of its own, with the host that it was found by.

    None are returned where only gRPC can tell, or a proxy, which resolves names itself.
    """
    found: dict[str, str] = {}
    for host, port in addresses_of(target) or [] if proxy_of(target) is None else []:
        try:
            entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError:
            continue
        for family, _, _, _, (number, *_) in entries:
            address = f"ipv6:[{number}]:{port}" if family == socket.AF_INET6 else f"ipv4:{number}:{port}"
            found.setdefault(address, host)
    return list(found.items())
