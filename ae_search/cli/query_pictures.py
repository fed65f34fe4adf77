"""The pictures of a query: its neighbours, and why the first of them is similar."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ae_search.cli.answers import Answer
from ae_search.cli.terminal import say
from ae_search.contract import Index
from ae_search.errors import ConfigurationError
from ae_search.image_file import read_image_file
from ae_search.search import ImageSearch

if TYPE_CHECKING:
    from ae_search.plots import Picture


def draw_neighbours(path: Path, answers: Sequence[Answer], index: Index) -> None:
    """Draw each query beside its neighbours."""
    from ae_search.plots import picture_of, plot_neighbours

    shown = [answer for answer in answers if answer.error is None]
    rows = [
        [picture_of(index.thumbnail(n.key), n.label or n.key, f"{n.similarity:.4f}") for n in answer.neighbours]
        for answer in shown
    ]
    plot_neighbours([_asked(answer, index) for answer in shown], rows, path)
    say(f"wrote {path}", err=True)


def explain(answers: Sequence[Answer], search: ImageSearch) -> None:
    """Find out why each query and its first neighbour are similar.

    Raises:
        ConfigurationError: The model has no decoder.
    """
    for answer in answers:
        if answer.error is None and answer.neighbours:
            found = answer.trusted
            latent = search.index.latents([answer.query])[0] if found is None else found.latent
            answer.why = search.explain_latent(latent, answer.neighbours[0].key)


def draw_why(path: Path, answers: Sequence[Answer], index: Index) -> None:
    """Draw why each query and its first neighbour are similar.

    Raises:
        ConfigurationError: Nothing was found for any of them.
    """
    from ae_search.plots import picture_of, plot_explanations

    explained = [(answer, answer.why) for answer in answers if answer.why is not None]
    if not explained:
        raise ConfigurationError(f"There is nothing to draw in {path}: nothing was found.")
    plot_explanations(
        [(_asked(answer, index), why, picture_of(index.thumbnail(why.key), why.key)) for answer, why in explained], path
    )
    say(f"wrote {path}", err=True)


def _asked(answer: Answer, index: Index) -> "Picture":
    from ae_search.plots import picture_of, picture_of_file

    name = Path(answer.query).name
    if answer.file is None:
        return picture_of(index.thumbnail(answer.query), name)
    return picture_of_file(read_image_file(answer.file), name)
