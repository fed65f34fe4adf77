"""Fuzzes one parser: `run.py TARGET [CORPUS ...] [-OPTION=...]`, with the options of libFuzzer."""

import sys

import atheris

with atheris.instrument_imports(include=["ae_search", "fuzzed_parsers"]):
    from fuzzed_parsers import TARGETS

_target = TARGETS[sys.argv.pop(1)]


def one_input(data: bytes) -> None:
    """Run the target."""
    _target(data)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
