"""httpx, sync and async, against a real server."""

import asyncio
import os

import httpx

base = os.environ["STUB_URL"]
with httpx.Client() as client:
    print(client.get(f"{base}/orders/7").text)
print(httpx.get(f"{base}/status/503").status_code)


async def main():
    async with httpx.AsyncClient() as client:
        print((await client.post(f"{base}/echo", content=b"hello")).text)


asyncio.run(main())
