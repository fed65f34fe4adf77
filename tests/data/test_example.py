"""`tf.train.Example` without TensorFlow, beside TensorFlow itself."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records import example

from ae_search.data.sources.example import feature_names, parse_example

NAMES = st.sampled_from(["image/encoded", "image/class/label", "é", "", "a"])
VALUES = st.one_of(
    st.lists(st.binary(max_size=20), max_size=3),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3),
    st.lists(st.floats(width=32), max_size=3),
)


def first_by_tensorflow(record):
    import tensorflow as tf

    found = {}
    for name, feature in tf.train.Example.FromString(record).features.feature.items():
        kind = feature.WhichOneof("kind")
        values = getattr(feature, kind).value if kind else []
        found[name] = values[0] if len(values) else None
    return found


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(NAMES, VALUES, max_size=5))
def test_the_first_values_are_those_of_tensorflow(features):
    record = example(**features)
    expected = first_by_tensorflow(record)
    found = parse_example(record, frozenset(expected))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_equal(found[name], value)
    assert feature_names(record) == sorted(expected)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_refused(data):
    try:
        parse_example(data, frozenset({"image"}))
        feature_names(data)
    except ValueError:
        pass


def test_later_lists_and_features_count_as_protobuf_has_it():
    one, two = example(a=[1, 2], b=[b"x"]), example(a=[7], c=[2.5])
    joined = one + two  # concatenated messages are merged
    assert parse_example(joined, frozenset("abc")) == first_by_tensorflow(joined) == {"a": 7, "b": b"x", "c": 2.5}


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_a_record_that_is_cut_short_is_refused_or_lacks_the_feature(cut):
    record = example(image=[b"0123456789" * 4])
    try:
        found = parse_example(record[:-cut], frozenset({"image"}))
    except ValueError:
        return
    assert not found.get("image")
