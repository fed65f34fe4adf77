"""The service: REST, and the page where people look. Needs `ae-search[web]`."""

from ae_search.extras import needs

with needs("The service needs fastapi and uvicorn", "web"):
    import fastapi as _fastapi  # noqa: F401
    import httptools as _httptools  # noqa: F401
    import prometheus_client as _prometheus_client  # noqa: F401
    import python_multipart as _python_multipart  # noqa: F401
    import uvicorn as _uvicorn  # noqa: F401

from ae_search.web.access_keys import AccessKeys
from ae_search.web.app import create_app
from ae_search.web.encoders import InProcess, Served
from ae_search.web.options import Doors, Limits, LogOptions, ServiceOptions, UploadOptions
from ae_search.web.running import serve

__all__ = [
    "AccessKeys",
    "Doors",
    "InProcess",
    "Limits",
    "LogOptions",
    "Served",
    "ServiceOptions",
    "UploadOptions",
    "create_app",
    "serve",
]
