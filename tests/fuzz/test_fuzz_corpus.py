"""The kept corpus of the fuzz targets goes through the same functions on every run of the tests, without atheris."""

import random
from pathlib import Path

import pytest
from fuzzed_parsers import TARGETS

CORPUS = Path(__file__).parent / "corpus"
MUTANTS = 50


def test_every_target_has_a_corpus_and_no_corpus_lacks_a_target():
    assert {folder.name for folder in CORPUS.iterdir()} == set(TARGETS)
    assert all(any((CORPUS / name).iterdir()) for name in TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_the_kept_corpus_finds_no_fault(name):
    for file in sorted((CORPUS / name).iterdir()):
        TARGETS[name](file.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_near_to_the_corpus_finds_no_fault(name):
    rng = random.Random(name)
    seeds = [file.read_bytes() for file in sorted((CORPUS / name).iterdir())]
    for _ in range(MUTANTS):
        content = bytearray(rng.choice(seeds))
        for _ in range(rng.choice((0, 1, 1, 3))):
            content[rng.randrange(len(content))] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        del content[rng.choice((len(content), rng.randrange(len(content)))) :]
        TARGETS[name](bytes(content))


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_at_all_finds_no_fault(name):
    TARGETS[name](b"")
