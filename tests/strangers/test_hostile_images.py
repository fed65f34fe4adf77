"""Image files with wild bytes: the model answers or refuses in one line, and lives on."""

import json
from functools import cache
from pathlib import Path

import pytest
import tensorflow as tf
from bombs import encoded, patched, picture
from bounded import run_bounded

from ae_search.data.decode import decode_image
from ae_search.model_server.refusal import refused_by_tensorflow

CHILD = Path(__file__).with_name("mutation_child.py")


@pytest.mark.slow
def test_whatever_bytes_go_wild_it_is_an_invalid_argument(tiny_export, tmp_path):
    ended = run_bounded(["python", CHILD, tiny_export / "1", 64, 60], folder=tmp_path, timeout_s=900)
    assert ended.code == 0, ended.stderr[-3000:]
    answer = json.loads(ended.stdout.splitlines()[-1])
    assert answer["faults"] == []
    assert answer["outcomes"].keys() == {"taken", "INVALID_ARGUMENT"}
    assert answer["outcomes"]["taken"] > 100  # it does not refuse all


@cache
def graph():
    return tf.function(lambda data: decode_image(data, (8, 8, 3)), input_signature=[tf.TensorSpec((), tf.string)])


@pytest.mark.parametrize("at", [10, 11, 14, 15, 16, 17, 18, 22, 28, 29])
@pytest.mark.parametrize("mode", ["RGB", "P", "L"])
def test_a_bmp_with_a_wild_byte_is_refused_in_one_line_or_decoded(mode, at):
    data, decode = encoded(picture().convert(mode), "BMP"), graph()
    for value in (0x00, 0x7F, 0xFF):
        try:
            decode(tf.constant(patched(data, (at, bytes([value])))))
        except tf.errors.InvalidArgumentError as error:
            assert len(str(refused_by_tensorflow(error)).splitlines()) == 1


def test_a_bmp_with_a_wild_header_size_says_so():
    data = patched(encoded(picture().convert("P"), "BMP"), (15, b"\xf7"))
    with pytest.raises(tf.errors.InvalidArgumentError, match="a BMP of a kind that is not supported"):
        decode_image(tf.constant(data), (8, 8, 3))


def test_a_bmp_with_pixels_beyond_its_palette_is_refused():
    data = encoded(picture().convert("L"), "BMP")
    short = patched(data[: 54 + 4] + data[54 + 1024 :], (10, (58).to_bytes(4, "little")))
    with pytest.raises(tf.errors.InvalidArgumentError, match="beyond its palette"):
        decode_image(tf.constant(short), (8, 8, 3))


def test_an_error_that_quotes_bytes_is_an_invalid_argument_too():
    """A model of another maker may quote what it was sent; TensorFlow's Python then cannot decode its error."""
    cut = tf.function(lambda data: tf.strings.substr(data, 99, 1))
    with pytest.raises(UnicodeDecodeError) as quoted:
        cut(tf.constant(b"\xff\xfe wild \x80"))
    refused = refused_by_tensorflow(quoted.value)
    assert refused.code.name == "INVALID_ARGUMENT"
    assert "out of range" in refused.text
    assert len(refused.text.splitlines()) == 1
