"""What the sidecar's routes share: JSON that no sender can spoil, and the answer to a refused request."""

import json
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from monitor.ingest.refused import RequestRefused


class JsonResponse(Response):
    """JSON in ASCII: whatever a sender put into an id or a name arrives as escapes, not as control characters."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """As bytes."""
        return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()


def media_type(request: Request) -> str:
    """Its content type without parameters, in lower case."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def refusal(refused: RequestRefused) -> Response:
    """The answer to a request that is refused as a whole."""
    body = {"accepted": 0, "reason": str(refused.reason), "problem": refused.problem}
    return with_refusal_headers(JsonResponse(body, status_code=refused.status), refused)


def with_refusal_headers(response: Response, refused: RequestRefused) -> Response:
    """The same response, with the headers that go with a refusal."""
    if refused.retry_seconds is not None:
        response.headers["Retry-After"] = str(refused.retry_seconds)
    if refused.status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    if refused.status in (408, 413):
        # The rest of the body will not be read.
        response.headers["Connection"] = "close"
    return response
