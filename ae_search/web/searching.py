"""What is found for one question: an index is asked, and where there is an image, a model."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import numpy as np

from ae_search.contract import Index, Neighbour
from ae_search.errors import ModelMismatchError
from ae_search.trust import Trusted
from ae_search.web.asking import Asked
from ae_search.web.listings import Row
from ae_search.web.problems import Problem
from ae_search.web.service import Service


class Searching:
    """Finds the first rows of the answer to a question, as often as it is called.

    Attributes:
        trusted: What was found for an image alone, and whether to believe it; None for other questions, and where
            nobody asked and the index keeps nothing to compare with.
    """

    def __init__(self, service: Service, asked: Asked) -> None:
        """Take what answers, and what was asked."""
        self._service, self._asked = service, asked
        self.trusted: Trusted | None = None

    async def __call__(self, k: int, exact: bool) -> list[Row]:
        """Return the first `k` rows."""
        asked, search = self._asked, self._service.search
        given = asked.parameters
        options: dict[str, Any] = {"where": asked.where, "effort": given.effort, "exact": exact}
        if given.originals and asked.file is not None:
            judged = await search.originals(asked.file, k, **options)
            return [Row(one.neighbour, one.verdict, one.score) for one in judged]
        return list(map(Row, await self._neighbours(k, options)))

    async def _neighbours(self, k: int, options: dict[str, Any]) -> list[Neighbour]:
        service, asked = self._service, self._asked
        given, index = asked.parameters, service.index
        if asked.file is not None and not asked.is_by_example and await self._is_weighed():
            # Not again for what follows: only the first page says whether to believe it.
            errors = given.check_reconstruction and given.cursor is None
            found = await service.search.search_with_trust(
                asked.file, k, views=given.views, check_reconstruction=errors, **options
            )
            self.trusted = found
            return found.neighbours
        if asked.file is not None or asked.is_by_example:
            options |= {"like": asked.like, "unlike": given.unlike, "views": given.views}
            return await service.search.search(asked.file, k, **options)
        options["first_latents"] = await service.has_regions()
        if asked.latent is not None:
            return await service.in_thread(_by_latent, index, asked, k, options)
        return await service.in_thread(index.search_by_key, given.key, k, **options)

    async def _is_weighed(self) -> bool:
        service = self._service
        wanted = self._asked.parameters.check_reconstruction or service.query_log is not None
        return wanted or await service.usual() is not None


async def missing(service: Service, keys: Sequence[str]) -> Problem | None:
    """Return the problem that the index lacks one of some keys, None where it has all."""
    known = await service.in_thread(service.index.known, list(dict.fromkeys(keys)))
    lacking = [key for key in keys if key not in known]
    return Problem("NotFound", f"The index has no item {lacking[0]!r:.200}.") if lacking else None


def _by_latent(index: Index, asked: Asked, k: int, options: dict[str, Any]) -> list[Neighbour]:
    fingerprint = asked.fingerprint or index.model.fingerprint
    try:
        return index.search(np.asarray(asked.latent, np.float64), k, fingerprint=fingerprint, **options)[0]
    except ValueError as error:  # all else was checked
        raise Problem("BadRequest", f"latent: {error}") from error
    except ModelMismatchError as error:
        if asked.fingerprint is None:
            raise
        told = "The index holds latents of another model than the one that this latent comes from."
        raise Problem("ModelMismatchError", told, status=HTTPStatus.CONFLICT) from error
