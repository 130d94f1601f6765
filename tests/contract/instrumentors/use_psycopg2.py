"""psycopg2 on PostgreSQL."""

import os

import psycopg2
from psycopg2 import connect

connection = psycopg2.connect(os.environ["PG_URL"])
with connection, connection.cursor() as cursor:
    cursor.execute("CREATE TEMPORARY TABLE orders (id integer)")
    cursor.executemany("INSERT INTO orders VALUES (%s)", [(7,), (8,)])
    cursor.execute("SELECT count(*) FROM orders")
    print(cursor.fetchone())
try:
    with connect(os.environ["PG_URL"]) as other, other.cursor() as cursor:
        cursor.execute("SELECT * FROM no_such_table")
except psycopg2.Error as error:
    print(type(error).__name__)
connection.close()
