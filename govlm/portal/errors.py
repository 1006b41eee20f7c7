"""One shape for every error: {"error": {"code", "message", "request_id"}}. code is for programs, message is Chinese for people."""

from __future__ import annotations

import logging
import re
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from govlm.hall.catalogue.report import CatalogueError

__all__ = ["MESSAGES", "SCHEMA", "ErrorBody", "PortalError", "answer", "detail", "install", "responses"]

_LOG = logging.getLogger(__name__)
# code -> (status, what a person reads)
MESSAGES = {
    "bad_request": (400, "请求无法理解，请检查后重试。"),
    "context_length_exceeded": (400, "对话太长，超过了模型的上限。"),
    "unauthenticated": (401, "请先登录，或提供有效的接口密钥。"),
    "forbidden": (403, "您没有权限进行这项操作。"),
    "must_change": (403, "请先修改初始密码。"),
    "not_found": (404, "没有找到您要的内容。"),
    "method_not_allowed": (405, "不支持这种请求方式。"),
    "conflict": (409, "内容已被更新，请刷新后重试。"),
    "too_large": (413, "提交的内容过大。"),
    "unsupported_type": (415, "不支持这种文件类型。"),
    "invalid": (422, "有填写不符合要求的内容，请检查后重试。"),
    "locked": (423, "尝试次数过多，账号已暂时锁定，请稍后再试。"),
    "too_many_requests": (429, "操作过于频繁，请稍后再试。"),
    "gone": (499, "请求已取消。"),
    "internal": (500, "系统出错了，请稍后再试，或拨打12345。"),
    "busy": (503, "当前咨询人数较多，请稍后再试。"),
    "switched_off": (503, "智能服务已暂停，请拨打12345或前往窗口办理。"),
}
SCHEMA = "#/components/schemas/"  # of the document
_MOST = 20  # places that are named
_NAME = re.compile(r"[A-Za-z_-][A-Za-z0-9_-]{0,40}")
OPENAI = ("/v1/chat/", "/v1/embeddings", "/v1/models")
_BY_STATUS = {status: code for code, (status, _) in reversed(MESSAGES.items())}


class ErrorDetail(BaseModel):
    """type: as OpenAI's clients expect it, on the routes that are made for them."""

    code: str = Field(examples=["invalid"])
    message: str = Field(examples=["有填写不符合要求的内容，请检查后重试。"])
    request_id: str = Field(examples=["9f1c2e4a6b8d0f13"])
    fields: list[str] = []
    type: str | None = None


class ErrorBody(BaseModel):
    """fields: what of the request is wrong, like text or items.0.name; values are never repeated."""

    error: ErrorDetail


class PortalError(Exception):
    """An error for the client. code: a key of MESSAGES; message: in the place of its own."""

    def __init__(self, code: str, message: str = "", *, fields: list[str] | None = None, retry_after: int = 0) -> None:
        super().__init__(code)
        self.code, self.status = code, MESSAGES[code][0]
        self.message, self.fields, self.retry_after = message or MESSAGES[code][1], fields or [], retry_after


def responses(*codes: str) -> dict[int | str, dict[str, Any]]:
    """For a route's OpenAPI entry: the errors that it may give beside those that every route may. By reference: a model would be
    taken apart anew for every error of every route, which took a fifth of a start; `openapi.document` says what it is, once."""
    found: dict[int | str, dict[str, Any]] = {}
    for code in codes:
        status, message = MESSAGES[code]
        found[status] = {
            "description": message,
            "content": {"application/json": {"schema": {"$ref": SCHEMA + ErrorBody.__name__}}},
        }
    return found


def install(app: FastAPI) -> None:
    """Makes every error of the application one of these."""

    @app.exception_handler(PortalError)
    async def portal(request: Request, error: PortalError) -> JSONResponse:
        return answer(request, error)

    @app.exception_handler(RequestValidationError)
    async def validation(request: Request, error: RequestValidationError) -> JSONResponse:
        places = [_place(entry["loc"][1:]) for entry in error.errors()[:_MOST]]
        return answer(request, PortalError("invalid", fields=places))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        found = PortalError(_BY_STATUS.get(error.status_code, "bad_request"))
        found.status = error.status_code
        return answer(request, found, dict(error.headers or {}))

    @app.exception_handler(CatalogueError)
    async def catalogue(request: Request, error: CatalogueError) -> JSONResponse:
        _LOG.error("the hall cannot answer", exc_info=error)
        return answer(request, PortalError("busy", "系统暂时无法读写数据，请稍后再试。", retry_after=5))

    @app.exception_handler(Exception)
    async def other(request: Request, error: Exception) -> JSONResponse:
        return answer(request, PortalError("internal"))


def _place(parts: Any) -> str:
    """Where in the request it is wrong. Names that the client made up may be anything, and personal: they are not repeated."""
    return ".".join(str(part) if isinstance(part, int) or _NAME.fullmatch(str(part)) else "?" for part in parts)


def detail(request: Request, error: PortalError) -> ErrorDetail:
    """The error as the client of this request reads it."""
    number = getattr(request.state, "request_id", "")
    kind = ("invalid_request_error" if error.status < 500 else "server_error") if request.url.path.startswith(OPENAI) else None
    return ErrorDetail(code=error.code, message=error.message, request_id=number, fields=error.fields, type=kind)


def answer(request: Request, error: PortalError, headers: dict[str, str] | None = None) -> JSONResponse:
    """The error as a response."""
    request.state.code = error.code
    more = {"Retry-After": str(error.retry_after)} if error.retry_after else {}
    if error.status == 401:
        more["WWW-Authenticate"] = "Bearer"
    return JSONResponse(
        ErrorBody(error=detail(request, error)).model_dump(exclude_none=True), error.status, {**(headers or {}), **more}
    )
