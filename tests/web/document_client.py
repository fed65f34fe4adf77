"""A client that knows nothing but the OpenAPI document: what it sends and what comes back must be what that says."""

import json
from urllib.parse import quote

import jsonschema


class DocumentClient:
    """Calls operations by name, and checks parameters, bodies and answers by their schemas."""

    def __init__(self, http):
        self._http = http
        self.document = http.get("/openapi.json").json()
        self.operations = {
            operation["operationId"]: (method, path, operation)
            for path, operations in self.document["paths"].items()
            for method, operation in operations.items()
        }

    def call(self, name, *, body=None, media_type=None, **parameters):
        method, path, operation = self.operations[name]
        query = {}
        known = {one["name"]: one for one in operation.get("parameters", [])}
        for required in (one["name"] for one in known.values() if one.get("required")):
            assert required in parameters, required
        for parameter, value in parameters.items():
            self.check(value, known[parameter]["schema"])
            if known[parameter]["in"] == "path":
                path = path.replace(f"{{{parameter}}}", quote(value, safe=""))
            else:
                query[parameter] = value
        headers, content = {}, None
        if body is not None:
            content = self._body(operation, body, media_type)
            headers["content-type"] = media_type
        answer = self._http.request(method, path, params=query, content=content, headers=headers)
        return self.checked(operation, answer)

    def checked(self, operation, answer):
        told = operation["responses"].get(str(answer.status_code))
        assert told is not None, f"{operation['operationId']}: {answer.status_code} is not in the document"
        media_type = answer.headers.get("content-type", "").partition(";")[0]
        if not answer.content:
            return None
        assert media_type in told["content"], (operation["operationId"], media_type)
        if "json" not in media_type:
            return answer.content
        self.check(answer.json(), told["content"][media_type]["schema"])
        return answer.json()

    def check(self, value, schema):
        jsonschema.validate(value, schema | {"components": self.document["components"]})

    def _body(self, operation, body, media_type):
        content = operation["requestBody"]["content"]
        schema = content.get(media_type) or content[media_type.split("/")[0] + "/*"]
        if media_type == "application/json":
            self.check(body, schema["schema"])
            return json.dumps(body)
        return body
