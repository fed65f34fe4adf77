"""What was measured about the latents: its name and its values."""

import re

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


def check_calibration(name: str, values: object) -> None:
    """Check what is to be stored about the latents; `metadata_json` checks the values further.

    Raises:
        ValueError: The name is none, or there are no values.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            f"Calibration is named by 1 to 64 letters, digits, dots, dashes and _. Received: {name!r:.80}."
        )
    if values is None:
        raise ValueError(f"The calibration {name!r} must be an object with texts as names. Received: None.")
