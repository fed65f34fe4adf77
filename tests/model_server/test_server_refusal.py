"""What is left of TensorFlow's error messages."""

import pytest

from ae_search.model_server.refusal import short_text

TRACE = (
    "Graph execution error:\n\nDetected at node f/Decode defined at (most recent call last):\n"
    "<stack traces unavailable>\n"
)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("plain", "plain"),
        (TRACE + "bad image\n\t [[{{node f/Decode}}]] [Op:__inference_f_1]", "bad image"),
        ("{{function_node __inference_f_1}} bad image [Op:Decode] name: ", "bad image"),
        (
            TRACE
            + "2 root error(s) found.\n  (0) INVALID_ARGUMENT:  bad image\n\t [[{{node f}}]]\n  (1) CANCELLED:  late",
            "bad image",
        ),
        ("assertion failed: [no image] [Condition x > 0 did not hold:] [x = ] [0]", "no image"),
        ("{{function_node f}} {{function_node g}} assertion failed: [no image]\n\t [[{{node f}}]] [Op:f]", "no image"),
        ("Shape of tensor images [2,3] is not compatible", "Shape of tensor images [2,3] is not compatible"),
        ("", "the model could not be run"),
    ],
)
def test_short_text(message, text):
    assert short_text(message) == text
