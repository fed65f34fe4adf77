"""A model server for the tests of your own services, with faults to inject, and without a container.

In your outermost `conftest.py`:

    pytest_plugins = ["ae_search.testing.fixtures"]

and in a test, with the fixture `model_server`, which serves a tiny seeded model on a free port of this machine:

    def test_my_service_survives_a_busy_server(model_server):
        model_server.faults.fail("UNAVAILABLE", when=When(times=2))
        assert my_service(model_server.address).find("cat.jpg")

Without pytest, or for a model of your own:

    >>> from ae_search import LatentClient
    >>> from ae_search.testing import serving, write_tiny_model
    >>> _ = write_tiny_model("export/tiny", image_shape=(16, 16, 3))
    >>> with serving("export/tiny") as server, LatentClient(server.address, server.model_name) as client:
    ...     server.faults.delay(0.05)
    ...     card = client.describe()
    ...     server.restart()
    ...     (card.image_shape, client.describe() == card, server.faults.requests())
    ((16, 16, 3), True, 2)

Needs `ae-search[tensorflow]`; TensorFlow is loaded when the first model is written or served.
"""

from ae_search.testing.faults import ALWAYS, Faults, When
from ae_search.testing.running import RunningServer, serving
from ae_search.testing.tiny_model import write_tiny_model

__all__ = ["ALWAYS", "Faults", "RunningServer", "When", "serving", "write_tiny_model"]
