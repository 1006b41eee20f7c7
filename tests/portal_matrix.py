"""Every route of the portal's OpenAPI document, and how to call it: what stands in its path, what in its body."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ROLES = ("citizen", "clerk", "administrator", "auditor")
SCOPES = ("chat", "catalogue", "models", "push", "admin")
OWNERS = ("", "session")  # what of a path may belong to somebody; another kind needs a way to make one here and in the test
TEXTS = ("x", "1", "440100", "低保怎么办理", "2026-11-28", "govlm-small-zh")  # for texts of a pattern: the first that fits


class Unfilled(AssertionError):
    """The matrix does not know how to call a route."""


@dataclass(frozen=True)
class Route:
    method: str
    path: str
    roles: tuple[str, ...]
    scope: str
    owner: str
    operation: Mapping[str, Any]
    local: bool = False  # open to all on a portal on loopback

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"


def routes(document: Mapping[str, Any]) -> list[Route]:
    """AssertionError: a route does not say who may call it, or in words that are not known."""
    found = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            name = f"{method.upper()} {path}"
            access = operation.get("x-access")
            assert access is not None, f"{name}: has no x-access; give the route **allow(…)"
            assert set(access) - {"local"} == {"roles", "scope", "owner"}, f"{name}: {access}"
            assert set(access["roles"]) <= set(ROLES), f"{name}: {access['roles']}"
            assert access["scope"] in (*SCOPES, ""), f"{name}: {access['scope']}"
            if access["owner"] not in OWNERS:
                raise Unfilled(f"{name}: something of kind {access['owner']!r} cannot be made by the matrix")
            if "/sessions/{" in path:
                assert access["owner"] == "session", f"{name}: a conversation belongs to somebody"
            assert bool(access["roles"]) == bool(access["scope"]), f"{name}: {access}"
            found.append(
                Route(
                    method.upper(),
                    path,
                    tuple(access["roles"]),
                    access["scope"],
                    access["owner"],
                    operation,
                    bool(access.get("local")),
                )
            )
    return found


class Filler:
    """Makes the smallest request that a route's document asks for."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._schemas = document.get("components", {}).get("schemas", {})

    def request(self, route: Route, session: str) -> dict[str, Any]:
        """Arguments for a client. session: for the route's owner."""
        path, query, headers = route.path, {}, {}
        for parameter in route.operation.get("parameters", ()):
            name, where = parameter["name"], parameter["in"]
            if where == "path":
                text = (
                    session if route.owner == "session" and name == "id" else str(self.value(route, name, parameter["schema"]))
                )
                path = path.replace(f"{{{name}}}", text).replace(f"{{{name}:path}}", text)
            elif parameter.get("required"):
                target = query if where == "query" else headers
                target[name] = str(self.value(route, name, parameter["schema"]))
        if "{" in path:
            raise Unfilled(f"{route.name}: {path}")
        return {"url": path, "params": query, "headers": headers, **self._body(route)}

    def _body(self, route: Route) -> dict[str, Any]:
        body = route.operation.get("requestBody")
        if body is None:
            return {}
        content = body["content"]
        if "application/json" in content:
            return {"json": self.value(route, "body", content["application/json"]["schema"])}
        if "multipart/form-data" in content:
            schema = self._resolved(content["multipart/form-data"]["schema"])
            files: dict[str, Any] = {}
            data: dict[str, str] = {}
            for name in schema.get("required", ()):
                part = self._resolved(schema["properties"][name])
                if part.get("format") == "binary" or "contentMediaType" in part:
                    files[name] = ("items.jsonl", b"{}\n", "application/json")
                else:
                    data[name] = str(self.value(route, name, part))
            return {"files": files, "data": data}
        raise Unfilled(f"{route.name}: a body of {', '.join(content)}")

    def _resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        while "$ref" in schema:
            schema = self._schemas[schema["$ref"].rpartition("/")[2]]
        return schema

    def value(self, route: Route, name: str, schema: Mapping[str, Any]) -> Any:
        """The smallest value that the schema allows, as far as it says."""
        schema = self._resolved(schema)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return schema["enum"][0]
        for key in ("anyOf", "oneOf", "allOf"):
            if key in schema:
                choices = [self._resolved(choice) for choice in schema[key]]
                return self.value(route, name, next((c for c in choices if c.get("type") != "null"), choices[0]))
        kind = schema.get("type")
        if kind == "object" or "properties" in schema:
            fields = schema.get("properties", {})
            found = {key: self.value(route, f"{name}.{key}", fields[key]) for key in schema.get("required", ())}
            more = schema.get("additionalProperties")
            return found if fields or not isinstance(more, dict) else {"x": self.value(route, f"{name}.x", more)}
        if kind == "array":
            return [self.value(route, name, schema.get("items", {"type": "string"}))] * max(1, schema.get("minItems", 0))
        if kind in ("integer", "number"):
            least = schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1)
            return int(min(max(1, least), schema.get("maximum", 10**9)))
        if kind == "boolean":
            return True
        if kind == "string":
            shortest, longest = schema.get("minLength", 0), schema.get("maxLength", 10**9)
            for text in TEXTS:
                text = text * -(-shortest // len(text)) if shortest > len(text) else text
                if len(text) <= longest and re.search(schema.get("pattern", ""), text):
                    return text
        if not schema:
            return "x"
        raise Unfilled(f"{route.name}: no value for {name}: {dict(schema)}")
