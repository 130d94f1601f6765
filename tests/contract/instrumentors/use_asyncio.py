"""Coroutines that the user named in OTEL_PYTHON_ASYNCIO_COROUTINE_NAMES_TO_TRACE, beside a traced library.

The connection comes first: under `spanwell run` asyncio is instrumented once telemetry was first needed.
"""

import asyncio
import sqlite3

connection = sqlite3.connect(":memory:")


async def order():
    await asyncio.sleep(0)
    return connection.cursor().execute("SELECT 7").fetchone()


async def main():
    print(await asyncio.gather(order(), order()))


asyncio.run(main())
