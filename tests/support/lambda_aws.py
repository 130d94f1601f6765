"""An AWS endpoint for functions under test: every call succeeds with an empty JSON document."""

from __future__ import annotations

import threading

from support.lambda_http import Request, Server, answer


class AwsStub:
    """`url` is what AWS_ENDPOINT_URL names; `requests` what came in, DynamoDB's and other JSON protocols' calls."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._lock = threading.Lock()
        self._server = Server(self._respond)
        self.url = f"http://{self._server.address}"
        self.close = self._server.close

    def _respond(self, request: Request) -> bytes:
        with self._lock:
            self.requests.append(request)
        return answer(body=b"{}", Content_Type="application/x-amz-json-1.0")
