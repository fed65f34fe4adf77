"""Which versions of a model are there: what a server says of them, and what several servers of one target have."""

from dataclasses import dataclass, replace

from ae_search.client import wire
from ae_search.client.requests import Request, fill_spec, good
from ae_search.client.rpc_errors import Asked
from ae_search.client.steps import Ask, AskEach, Conversation
from ae_search.errors import AeSearchError, ModelNotServedError, ServerAnswerError

AVAILABLE = "AVAILABLE"
COMING = ("START", "LOADING")
# Versions whose states a server may tell, and how much of an error is kept.
MAX_STATUSES = 4096
MAX_STATUS_ERROR = 1000


@dataclass(frozen=True)
class VersionState:
    """One version of a model on the server: its number, its state (AVAILABLE, LOADING, …) and its error, if any."""

    version: int
    state: str
    error: str = ""


@dataclass(frozen=True)
class Holdings:
    """Which of the versions that are asked for the servers of one target have available.

    Attributes:
        everywhere: Those that all of them have.
        somewhere: Those that at least one has.
    """

    everywhere: frozenset[int]
    somewhere: frozenset[int]


def status(asked: Asked) -> Conversation:
    """Ask for the state of a model's versions, or of the one that is pinned; end with a list of `VersionState`."""
    return _statuses(good((yield Ask(_request(asked)))), asked)


def holdings(asked: Asked) -> Conversation:
    """Ask each server of the target what it has; end with `Holdings`, None where there is one or none can be asked."""
    found = yield from _available_each(replace(asked, version=None, label=None))
    if not found:
        return None
    everywhere, somewhere = frozenset.intersection(*found), frozenset.union(*found)
    wanted = somewhere
    if asked.version is not None:
        wanted = frozenset({asked.version})
    elif asked.label is not None:
        labelled: list[frozenset[int]] = yield from _available_each(asked)
        wanted = frozenset().union(*labelled)
    return Holdings(everywhere & wanted, somewhere & wanted)


def with_states(missed: ModelNotServedError, asked: Asked) -> Conversation:
    """End with an error that says, too, which version is being loaded, if what is asked for may be there soon."""
    outcome = yield Ask(_request(replace(asked, version=None, label=None)))
    try:
        found = [one for one in _statuses(good(outcome), asked) if asked.version in (None, one.version)]
    except AeSearchError:
        return missed
    coming = [one for one in found if one.state in COMING]
    if not coming or (asked.version is None and any(one.state == AVAILABLE for one in found)):
        return missed
    told = type(missed)(f"Version {coming[0].version} of {asked.model} is being loaded; wait for it. {missed}")
    told.__cause__ = missed
    return told


def _available_each(asked: Asked) -> Conversation:
    """Ask each server; end with the available versions of each that answers."""
    outcomes = yield AskEach(_request(asked))
    found = []
    for outcome in outcomes:
        try:
            told = _statuses(good(outcome), asked)
        except ModelNotServedError:  # it answers, and has none
            told = []
        except AeSearchError:
            continue
        found.append(frozenset(one.version for one in told if one.state == AVAILABLE))
    return found


def _request(asked: Asked) -> Request:
    request = wire.GetModelStatusRequest()
    fill_spec(request.model_spec, asked)
    return Request(wire.GET_MODEL_STATUS, asked, request.SerializeToString())


def _statuses(data: bytes, asked: Asked) -> list[VersionState]:
    response = wire.parsed(wire.GetModelStatusResponse, data, asked.target)
    names, statuses = wire.ModelState.values_by_number, response.model_version_status
    if len(statuses) > MAX_STATUSES:
        raise ServerAnswerError(
            f"{asked.target} told the states of {len(statuses)} versions; expected at most {MAX_STATUSES}."
        )
    return [
        VersionState(
            one.version,
            names[one.state].name if one.state in names else "",
            one.status.error_message[:MAX_STATUS_ERROR],
        )
        for one in statuses
    ]
