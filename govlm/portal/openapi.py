"""The OpenAPI document, made complete: what the tags mean, how callers say who they are, and the answers that every route may give."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from govlm.portal.errors import SCHEMA, ErrorBody, responses
from govlm.portal.security.access import VISITOR
from govlm.portal.security.logins import COOKIE

__all__ = ["document"]

TAGS = {
    "chat": "Conversations and questions: messages, answers as JSON or as a stream, the form beside them, what was handed in.",
    "handoff": "Handing a conversation over to a person.",
    "catalogue": "Service items: lists, records, guides, search.",
    "policies": "Policy documents: texts, passages, summaries, interpretations, key terms.",
    "forms": "Forms: what they ask, filling from text, checking.",
    "account": "Login, logout, passwords, who one is here.",
    "me": "What is kept of the person who asks, recommendations, rights.",
    "language": "Language work for other systems: classify, embed, extract, summarise.",
    "openai": "The protocol of OpenAI's clients: chat, embeddings, models.",
    "administration": "Accounts, keys, the catalogue, questions, switches.",
    "audit": "What was done by whom, and whether the record of it is whole.",
    "operations": "Health and figures.",
}
_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, with its scopes."},
    "login": {"type": "apiKey", "in": "cookie", "name": COOKIE, "description": "A login; see POST /v1/login."},
    "visitor": {"type": "apiKey", "in": "cookie", "name": VISITOR, "description": "A visitor of a portal on this machine alone."},
}  # fmt: skip
_METHODS = ("get", "post", "put", "patch", "delete")
_INTRODUCTION = """网上办事大厅智能助手接口。

Every error is one JSON object, `{"error": {"code", "message", "request_id", "fields"}}`: code is for programs, message is Chinese for
people. Times are ISO, UTC. `x-access` of a route says who may call it. Who is known by a cookie sends with every change, in X-CSRF-Token, what
GET /v1/me gave. On a portal that only its own machine can reach neither a login nor
a key is asked for."""


def document(app: FastAPI) -> dict[str, Any]:
    """Of the routes that the application has."""
    found = get_openapi(title=app.title, version=app.version, description=_INTRODUCTION, routes=app.routes)
    found["info"]["license"] = {"name": "Apache-2.0", "identifier": "Apache-2.0"}
    used = {tag for path in found["paths"].values() for entry in path.values() for tag in entry.get("tags", ())}
    found["tags"] = [{"name": name, "description": TAGS.get(name, name)} for name in dict.fromkeys((*TAGS, *sorted(used)))]
    components = found.setdefault("components", {})
    components["securitySchemes"] = _SCHEMES
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    error = ErrorBody.model_json_schema(ref_template=SCHEMA + "{model}")
    schemas |= {**error.pop("$defs"), ErrorBody.__name__: error}
    for path, methods in found["paths"].items():
        for method in _METHODS:
            if method in methods:
                _complete(path, method, methods[method])
    return found


def _complete(path: str, method: str, entry: dict[str, Any]) -> None:
    open_ = not entry.get("x-access", {}).get("roles")
    entry["security"] = [] if open_ else [{"bearer": []}, {"login": []}, {"visitor": []}, {}]
    always = ["internal", "busy"]
    if "{" in path:
        always.append("not_found")
    if "requestBody" in entry:
        always += ["bad_request", "too_large", "unsupported_type"]
    for code in always:
        for status, answer in responses(code).items():
            entry["responses"].setdefault(str(status), answer)
    for status, answer in entry["responses"].items():
        answer.setdefault("headers", {})["X-Request-Id"] = {
            "description": "Names the request in the logs.", "schema": {"type": "string"},
        }  # fmt: skip
        if status in ("429", "503"):
            answer["headers"]["Retry-After"] = {"description": "Seconds to wait.", "schema": {"type": "string"}}
