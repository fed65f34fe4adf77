"""Parts of the URL of an index on another machine."""

import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import unquote

from ae_search.errors import ConfigurationError

DEFAULT_TIMEOUT_S = 60.0

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})|%00")


def decoded(text: str, example: str) -> str:
    """Return a part of a URL as it is meant; the error repeats nothing of it, as it may be a secret.

    Raises:
        ConfigurationError: It has a % without two hexadecimal digits, or NUL in it.
    """
    if _BAD_ESCAPE.search(text):
        raise ConfigurationError(f"The URL has a % without two hexadecimal digits; write %25. An example: {example}.")
    return unquote(text)


def timeout_of(parameters: Mapping[str, str]) -> float:
    """Return `timeout_s`, how long one call may take, in s.

    Raises:
        ConfigurationError: It is no number of seconds.
    """
    text = parameters.get("timeout_s", str(DEFAULT_TIMEOUT_S))
    if not re.fullmatch(r"\d{1,6}(\.\d{1,3})?", text, re.ASCII) or float(text) < 0.001:
        raise ConfigurationError(f"timeout_s= takes seconds, from 0.001 to 999999. Received: {text!r}.")
    return float(text)


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine, by its name or address; "" and a Unix socket are."""
    if not host or host.startswith(("/", "@")) or host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
