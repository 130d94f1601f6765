"""redis-py on a real Redis: commands, a pipeline, an error, the asyncio client."""

import asyncio
import os

import redis
from redis import asyncio as aioredis

url = os.environ["REDIS_URL"]
run = os.environ["RUN"]
with redis.Redis.from_url(url) as client:
    client.set(f"{run}:a", "1")
    print(client.get(f"{run}:a"))
    with client.pipeline() as pipeline:
        pipeline.set(f"{run}:b", "2").get(f"{run}:b")
        print(pipeline.execute())
    try:
        client.lpush(f"{run}:a", "x")
    except redis.ResponseError as error:
        print(type(error).__name__)


async def main():
    async with aioredis.Redis.from_url(url) as client:
        print(await client.get(f"{run}:b"))


asyncio.run(main())
