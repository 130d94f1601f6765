"""FastAPI and Starlette in one process, imported in the order that the argument gives, each answering once."""

import sys

from serving import get, served

if sys.argv[1] == "starlette-first":
    from starlette.applications import Starlette

    from fastapi import FastAPI  # isort: skip
elif sys.argv[1] == "fastapi-first":
    from fastapi import FastAPI
    from starlette.applications import Starlette
else:  # Starlette's package, but not its applications, then FastAPI's class from its own module
    import starlette.routing  # noqa: F401, I001
    import fastapi.applications  # noqa: F401

    FastAPI = sys.modules["fastapi"].FastAPI
    from starlette.applications import Starlette

from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route


async def page(request):
    return PlainTextResponse("page")


class Api(FastAPI):
    """Applications subclass FastAPI too."""


api = Api()


@api.get("/orders/{number}")
async def order(number: int) -> int:
    return number


front = Starlette(routes=[Route("/", page), Mount("/api", app=api)])
plain = FastAPI()
plain.get("/plain")(lambda: "plain")
with served(front) as port:
    get(port, "/", "/api/orders/7")
with served(plain) as port:
    get(port, "/plain")
