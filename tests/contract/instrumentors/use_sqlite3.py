"""sqlite3 from the standard library."""

import sqlite3

connection = sqlite3.connect(":memory:")
cursor = connection.cursor()
cursor.execute("CREATE TABLE orders (id integer)")
cursor.executemany("INSERT INTO orders VALUES (?)", [(7,), (8,)])
print(cursor.execute("SELECT count(*) FROM orders").fetchone())
try:
    cursor.execute("SELECT * FROM no_such_table")
except sqlite3.OperationalError as error:
    print(error)
connection.close()
