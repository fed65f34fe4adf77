"""All checks, in the order in which they depend on each other."""

from collections.abc import Iterator
from pathlib import Path

from ae_search.client import Access, LatentClient
from ae_search.contract import DEFAULT_MODEL_NAME, ModelCard
from ae_search.diagnosis.finding import Finding, Verdict, ok, wrong
from ae_search.diagnosis.latency import measure_latency
from ae_search.diagnosis.model import check_card, check_signatures, check_sizes, check_versions
from ae_search.diagnosis.network import check_network
from ae_search.errors import AeSearchError, ModelMismatchError
from ae_search.handshake import matching
from ae_search.index import LatentIndex

INDEX, LATENCY = "index", "latency"


def diagnose(
    target: str,
    model: str | None = None,
    *,
    access: Access | None = None,
    version: int | None = None,
    label: str | None = None,
    index: Path | None = None,
    timeout_s: float = 30.0,
) -> Iterator[Finding]:
    """Yield what is found about a model server, and about an index that is to be used with it.

    It ends at the first thing that is wrong and that the rest depends on.

    Args:
        target: "HOST:PORT" or a gRPC target.
        model: Name that the server serves the model under; the index's own, or "default", unless given.
        access: TLS and credentials.
        version: Version to pin.
        label: Label to pin.
        index: Folder of an index.
        timeout_s: Seconds allowed for each request.

    Raises:
        ConfigurationError: The target is none, or the options do not go together.
    """
    access = access or Access()
    access.check(target)
    opened, trouble = _open(index)
    name = model or (opened.model.name if opened else DEFAULT_MODEL_NAME)
    try:
        with LatentClient(target, name, version=version, label=label, access=access, timeout_s=timeout_s) as client:
            findings = _reach(client, target, access)
            card: ModelCard | None = None
            for finding in findings:
                yield finding
                if finding.verdict is Verdict.WRONG:
                    return
            finding, card = check_card(client)
            yield finding
            if card is None:
                return
            yield check_signatures(client, card)
            yield from check_sizes(client, card)
            if trouble is not None:
                yield trouble
            elif opened is not None:
                yield _match(client, opened)
            yield _latency(client, card, opened)
    finally:
        if opened is not None:
            opened.close()


def _reach(client: LatentClient, target: str, access: Access) -> Iterator[Finding]:
    yield from check_network(target, access)
    yield check_versions(client)


def _open(index: Path | None) -> tuple[LatentIndex | None, Finding | None]:
    if index is None:
        return None, None
    try:
        return LatentIndex.open(index), None
    except AeSearchError as error:
        return None, wrong(INDEX, str(error), "Name the folder of an index, or build one: `ae-search index build`.")


def _match(client: LatentClient, index: LatentIndex) -> Finding:
    try:
        encoder = matching(client, index.model, index.path)
    except ModelMismatchError as error:
        advice = "Serve the version that the index was built with, or `ae-search index rebuild`."
        return wrong(INDEX, str(error), advice)
    except AeSearchError as error:
        return wrong(INDEX, str(error), "Look at the server's log.")
    version = encoder.describe().version
    return ok(INDEX, f"{index.path} holds {len(index)} latents of the same model, version {version} on the server")


def _latency(client: LatentClient, card: ModelCard, index: LatentIndex | None) -> Finding:
    fits = index is not None and index.model.fingerprint == card.fingerprint
    try:
        return ok(LATENCY, str(measure_latency(client, card, index if fits else None)))
    except AeSearchError as error:
        return wrong(LATENCY, str(error), "The server stopped answering; look at its log and load.")
