"""All checks, in the order in which they depend on each other."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol, runtime_checkable

from ae_search.client import Access, LatentClient
from ae_search.contract import DEFAULT_MODEL_NAME, Index, ModelCard
from ae_search.diagnosis.finding import Finding, Verdict, ok, warning, wrong
from ae_search.diagnosis.latency import measure_latency
from ae_search.diagnosis.model import advice_for, check_card, check_signatures, check_sizes, check_versions
from ae_search.diagnosis.network import check_network
from ae_search.diagnosis.servers import compare_versions, versions_held
from ae_search.errors import AeSearchError, ConfigurationError, ModelMismatchError
from ae_search.handshake import matching
from ae_search.index.engine import engine_of
from ae_search.index.options import ENGINE_OPTIONS, AnnoyOptions, engine_options
from ae_search.open_index import open_index
from ae_search.remote_index.health import Health

ENGINE, INDEX, DATABASE, LATENCY = "search engine", "index", "database", "latency"
# More than enough to say which versions there are.
SERVER_TIMEOUT_S = 5.0


def diagnose(
    target: str,
    model: str | None = None,
    *,
    access: Access | None = None,
    version: int | None = None,
    label: str | None = None,
    index: str | Path | None = None,
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
        index: Place of an index; see `open_index`.
        timeout_s: Seconds allowed for each check.

    Raises:
        ConfigurationError: The target is none, a file cannot be read, or the options do not go together.
    """
    access = access or Access()
    access.check(target)
    # What is wrong with the files is told before anything is tried.
    access.tls_files()
    access.call_metadata()
    opened, trouble = _open(index)
    name = model or (opened.model.name if opened else DEFAULT_MODEL_NAME)
    engine = opened.info().engine if opened else AnnoyOptions.engine
    if engine in ENGINE_OPTIONS:
        yield _engine(engine)
    if opened is not None:
        yield from _database(opened)
    # A check is one call, so that no server can stretch it by refusals.
    connect = partial(LatentClient, target, name, access=access, timeout_s=timeout_s, total_timeout_s=timeout_s)
    try:
        with connect() as client:
            yield from _reach(client, access, version)
            with connect(version=version, label=label) as pinned:
                yield from _ask(pinned, label, opened, trouble)
    except _StopError:
        return
    finally:
        if opened is not None:
            opened.close()


def _engine(name: str) -> Finding:
    """Tell whether the engine of an index runs on this machine."""
    try:
        engine_of(engine_options(name)).probe()
    except ConfigurationError as error:
        return wrong(ENGINE, str(error), "Nothing can be searched on this machine before that.")
    return ok(ENGINE, f"{name} runs on this processor")


def _database(index: Index) -> Iterator[Finding]:
    """Tell whether the database of an index is fit for it."""
    if not isinstance(index, WithHealth):
        return
    try:
        for one in index.health():
            yield ok(DATABASE, one.told) if one.advice is None else warning(DATABASE, one.told, one.advice)
    except AeSearchError as error:
        yield wrong(DATABASE, str(error), "Look at the database's log.")


@runtime_checkable
class WithHealth(Protocol):
    """An index on another machine."""

    def health(self) -> Sequence[Health]:
        """Look at the server."""


class _StopError(Exception):
    """What follows depends on what was found wrong."""


def _reach(client: LatentClient, access: Access, version: int | None) -> Iterator[Finding]:
    for finding in check_network(client.target, access, client.timeout_s):
        yield finding
        if finding.verdict is Verdict.WRONG:
            raise _StopError
    held = versions_held(client, access, min(client.timeout_s, SERVER_TIMEOUT_S))
    if held:
        yield compare_versions(held, client.model)
    finding = check_versions(client, version, elsewhere=frozenset().union(*held.values()))
    yield finding
    if finding.verdict is Verdict.WRONG:
        raise _StopError


def _ask(client: LatentClient, label: str | None, index: Index | None, trouble: Finding | None) -> Iterator[Finding]:
    finding, card = check_card(client, label)
    yield finding
    if card is None:
        return
    yield check_signatures(client, card)
    yield from check_sizes(client, card)
    encoder: LatentClient | None = client
    if trouble is not None:
        yield trouble
    elif index is not None:
        finding, encoder = _match(client, card, index)
        yield finding
    fits = index is not None and encoder is not None
    yield _latency(encoder or client, card, index if fits else None)


def _open(index: str | Path | None) -> tuple[Index | None, Finding | None]:
    if index is None:
        return None, None
    try:
        return open_index(index), None
    except AeSearchError as error:
        return None, wrong(INDEX, str(error), "Name the place of an index, or build one: `ae-search index build`.")


def _match(client: LatentClient, card: ModelCard, index: Index) -> tuple[Finding, LatentClient | None]:
    """Return whether queries can be answered, and the client of the version that they use."""
    try:
        encoder = matching(client, index.model, index.place)
    except ModelMismatchError as error:
        advice = "Serve the version that the index was built with, or `ae-search index rebuild`."
        return wrong(INDEX, str(error), advice), None
    except AeSearchError as error:
        return wrong(INDEX, str(error), advice_for(error, "Look at the server's log.")), None
    assert isinstance(encoder, LatentClient)
    version = encoder.describe().version
    told = f"{index.place} holds {len(index)} latents of version {version}"
    if version != card.version and encoder.describe().fingerprint == card.fingerprint:
        return ok(INDEX, f"{told}, whose latents are those of version {card.version}"), encoder
    if version != card.version:
        advice = "Queries use the version that the index was built with; `ae-search index rebuild` moves it on."
        return warning(INDEX, f"{told}, while {client.talk.asked} is version {card.version}", advice), encoder
    return ok(INDEX, f"{told}, the same model"), encoder


def _latency(client: LatentClient, card: ModelCard, index: Index | None) -> Finding:
    try:
        return ok(LATENCY, str(measure_latency(client, card, index)))
    except AeSearchError as error:
        return wrong(LATENCY, str(error), advice_for(error, "Look at the server's log."))
