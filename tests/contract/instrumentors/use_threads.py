"""A page whose work happens in other threads and tasks: the context goes with it."""

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import flask
import requests

app = flask.Flask("shop")
base = os.environ["STUB_URL"]


@app.get("/")
def page():
    with ThreadPoolExecutor(1) as pool:
        text = pool.submit(requests.get, f"{base}/pool").result().text
    thread = threading.Thread(target=requests.get, args=(f"{base}/thread",))
    thread.start()
    thread.join()

    async def main():
        await asyncio.gather(asyncio.to_thread(requests.get, f"{base}/task"))

    asyncio.run(main())
    return text


print(app.test_client().get("/").text)
