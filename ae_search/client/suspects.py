"""Requests that were refused for what may be another's fault: asked again by themselves, then looked at here.

A server that joins requests refuses all of a run for one undecodable image, whoever sent it; see
docs/decisions/0017-refused-together.md.
"""

from ae_search.client.call import Call, Suspect
from ae_search.client.chunks import Chunk
from ae_search.client.requests import Outcome
from ae_search.client.retrying import jitter_s
from ae_search.client.rpc_errors import BatchTooLargeError
from ae_search.client.steps import Ask, Conversation, Pause, Work
from ae_search.errors import ImageError

# Rounds in which a suspect is asked for again: what cannot be decoded here either is given up soon.
ROUNDS_DAMAGED = 2
ROUNDS = 20
# Requests in a round for all files at once that can be decoded here.
TOGETHER = 8
# The server has answered such a request before: somebody sends it damaged images, and each round may be the lucky one.
ROUNDS_JOINED = 40
# So many requests in a row were refused: the server does not take what is decoded here.
MOST_IN_VAIN = 160


def ask_again(call: Call) -> Conversation:
    """Ask again for the suspects of a call, one request at a time; nothing else of the call may be under way.

    End with the parts to send in place of what turned out to be too large.
    """
    parts: list[Chunk] = []
    suspects, call.suspects = sorted(call.suspects, key=lambda suspect: suspect.chunk), []
    for suspect in suspects:
        suspect.decodes = yield Work(suspect.decoded)
    number = 0
    while suspects:
        number += 1
        if number > 1:
            yield Pause(jitter_s(number))
        rescued = yield from _ask_together(call, [suspect for suspect in suspects if suspect.decodes])
        left: list[Suspect] = []
        for suspect in suspects:
            if suspect.chunk.positions[0] in rescued:
                continue
            outcome = yield Ask(call.request(suspect.chunk))
            if not _is_refusal(outcome):
                call.limits.note_rescue()
                parts += call.settle(suspect.chunk, outcome)
                continue
            call.limits.in_vain += suspect.decodes
            if number < _rounds(call, suspect):
                left.append(suspect)
            else:
                call.give_up(suspect, outcome)
        suspects = left
    return parts


def _ask_together(call: Call, suspects: list[Suspect]) -> Conversation:
    """Ask for all that can be decoded here, in as few requests as possible; end with the positions that were answered.

    Where other clients send damaged images all the time, hardly a request is left alone; one that is saves many files.
    """
    rescued: set[int] = set()
    for group in call.joined(suspects):
        for _ in range(TOGETHER):
            outcome = yield Ask(call.request(group))
            if not isinstance(outcome, ImageError):
                call.keep_each(group, outcome)
                call.limits.note_rescue()
                rescued.update(group.positions)
                break
            if not _is_refusal(outcome) or call.limits.in_vain >= MOST_IN_VAIN:
                break
            call.limits.in_vain += 1
            yield Pause(jitter_s(1))
    return rescued


def _is_refusal(outcome: Outcome) -> bool:
    return isinstance(outcome, ImageError) and not isinstance(outcome, BatchTooLargeError)


def _rounds(call: Call, suspect: Suspect) -> int:
    if not suspect.decodes or call.limits.in_vain >= MOST_IN_VAIN:
        return ROUNDS_DAMAGED
    return ROUNDS_JOINED if call.limits.rescued else ROUNDS
