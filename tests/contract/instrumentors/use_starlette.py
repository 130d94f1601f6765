"""A Starlette application with a route and a mounted one."""

from serving import get, served
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route


async def order(request):
    return PlainTextResponse(request.path_params["number"])


app = Starlette(routes=[Route("/orders/{number}", order), Mount("/v2", routes=[Route("/orders", order)])])
with served(app) as port:
    get(port, "/orders/7", "/nowhere")
