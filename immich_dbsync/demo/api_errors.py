"""How Immich answers what it refuses: the body has another shape in 2.x than in 3.x."""

from dataclasses import dataclass
from http import HTTPStatus
from uuid import uuid4

from aiohttp import web

from immich_dbsync.demo.tables import ImmichVersion


@dataclass(frozen=True, slots=True)
class Issue:
    """One field of a request that does not validate, and what is wrong with it."""

    field: str
    problem: str


class ApiError(Exception):
    """A request is refused with ``status`` and a message; ``issues`` are there where its fields did not validate."""

    def __init__(self, status: int, message: str, issues: tuple[Issue, ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.issues = issues

    def response(self, version: ImmichVersion) -> web.Response:
        """The answer: 3.x says ``message`` (and ``errors`` of a validation); 2.x adds three fields of its own.

        2.x gives the problems of a validation as a list under ``message``.
        """
        body: dict[str, object] = {"message": self.message}
        if version.startswith("2."):
            if self.issues:
                body["message"] = [f"{issue.field} {issue.problem}" for issue in self.issues]
            body |= {
                "error": HTTPStatus(self.status).phrase,
                "statusCode": self.status,
                "correlationId": uuid4().hex[:8],
            }
        elif self.issues:
            body["errors"] = [
                {"code": "custom", "path": [issue.field], "message": issue.problem} for issue in self.issues
            ]
        return web.json_response(body, status=self.status)


def invalid(*issues: Issue) -> ApiError:
    """The refusal of a request whose fields do not validate."""
    return ApiError(400, "Validation failed", issues)


def no_access(permission: str) -> ApiError:
    """The refusal of a batch that names an asset which is another's or nobody's: 400, never 404."""
    return ApiError(400, f"Not found or no {permission} access")
