"""An aiohttp server and client in one event loop: the server's span is the child of the client's."""

import asyncio

from aiohttp import ClientSession, web


async def order(request):
    return web.json_response({"order": request.match_info["number"]})


async def main():
    app = web.Application()
    app.router.add_get("/orders/{number}", order)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    async with ClientSession() as session:
        for path in ("/orders/7", "/nowhere"):
            async with session.get(f"http://127.0.0.1:{port}{path}") as answer:
                print(path, answer.status, await answer.read())
    await runner.cleanup()


asyncio.run(main())
