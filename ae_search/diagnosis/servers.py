"""Several servers behind one target: which versions each of them has."""

from collections.abc import Mapping
from typing import Any

from ae_search.client import Access, LatentClient
from ae_search.client.addresses import each_address
from ae_search.client.asking_each import access_to
from ae_search.diagnosis.finding import Finding, ok, warning
from ae_search.errors import AeSearchError, ModelNotServedError

SERVERS = "servers"
AVAILABLE = "AVAILABLE"


def versions_held(client: LatentClient, access: Access, timeout_s: float) -> dict[str, frozenset[int]]:
    """Return the versions that are available at each address behind a target; nothing where there is only one.

    Args:
        client: A client of the target.
        access: TLS and credentials.
        timeout_s: Seconds allowed for each server.
    """
    held: dict[str, frozenset[int]] = {}
    for address, host in each_address(client.target):
        options: dict[str, Any] = {"timeout_s": timeout_s, "total_timeout_s": timeout_s}
        try:
            with LatentClient(address, client.model, access=access_to(host, access), **options) as one:
                held[address] = frozenset(status.version for status in one.status() if status.state == AVAILABLE)
        except ModelNotServedError:
            held[address] = frozenset()
        except AeSearchError:
            continue  # what was found about its port has told of it
    return held if len(held) > 1 else {}


def compare_versions(held: Mapping[str, frozenset[int]], model: str) -> Finding:
    """Return whether several servers have the same versions."""
    if len(set(held.values())) == 1:
        return ok(SERVERS, f"all {len(held)} servers have the same versions: {_listed(next(iter(held.values())))}")
    told = "; ".join(f"{address} has {_listed(versions)}" for address, versions in held.items())
    common = frozenset.intersection(*held.values())
    advice = "They have none in common, so that calls fail at some of them: let all serve the same version."
    if common:
        advice = (
            f"Pin a version that all have until the others have caught up: --model-version {max(common)}. A call "
            "without a version takes that one, too."
        )
    return warning(SERVERS, f"the servers have different versions of {model}: {told}", advice)


def _listed(versions: frozenset[int]) -> str:
    return ", ".join(map(str, sorted(versions))) or "none"
