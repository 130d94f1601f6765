"""psycopg 3 on PostgreSQL, sync and async."""

import asyncio
import os

import psycopg

url = os.environ["PG_URL"]
with psycopg.connect(url) as connection:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE orders (id integer)")
        cursor.executemany("INSERT INTO orders VALUES (%s)", [(7,), (8,)])
    print(connection.execute("SELECT count(*) FROM orders").fetchone())
with psycopg.Connection.connect(url) as connection, connection.cursor() as cursor:
    try:
        cursor.execute("SELECT * FROM no_such_table")
    except psycopg.Error as error:
        print(type(error).__name__)


async def main():
    async with await psycopg.AsyncConnection.connect(url) as connection, connection.cursor() as cursor:
        await cursor.execute("SELECT 42")
        print(await cursor.fetchone())


asyncio.run(main())
