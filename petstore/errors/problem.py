"""What an error of the API is, and its rendering as application/problem+json (RFC 9457)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

PROBLEM_JSON = "application/problem+json"
Fault = Mapping[str, Any]  # {"pointer": "/products/0/quantity", "detail": "must be at least 1"}, and members of its own
PROBLEMS: dict[str, type[Problem]] = {}  # every class, by its slug; petstore/web/problems.json explains each to clients


class Problem(Exception):
    """The request could not be answered."""  # of each class, the docstring is the title and the default detail

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "problem"  # of a class EmailTaken: email-taken

    def __init_subclass__(cls) -> None:
        cls.slug = re.sub("(?<=[a-z])(?=[A-Z])", "-", cls.__name__).lower()
        PROBLEMS[cls.slug] = cls

    def __init__(
        self,
        detail: str = "",
        *,
        errors: Iterable[Fault] = (),
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(detail)
        self.detail = detail or f"{self.title()}."
        self.errors = list(errors)
        self.headers = dict(headers or {})
        self.members = members

    @classmethod
    def title(cls) -> str:
        return (cls.__doc__ or "").strip().splitlines()[0].rstrip(".")


def render(problem: Problem, request_id: str) -> bytes:
    """The body of an error answer, application/problem+json (RFC 9457)."""
    document = {"type": f"/problems/{problem.slug}", "title": problem.title(), "status": problem.status, "detail": problem.detail}
    document |= {"request_id": request_id, **problem.members, **({"errors": problem.errors} if problem.errors else {})}
    # ASCII, with escapes: a pointer may repeat a member name of the request that has lone surrogates.
    return json.dumps(document, separators=(",", ":")).encode("ascii") + b"\n"
