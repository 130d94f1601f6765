"""pymongo against something that speaks its protocol."""

import os

from pymongo import MongoClient
from pymongo.errors import OperationFailure

with MongoClient(os.environ["MONGO_URL"]) as client:
    orders = client["shop"]["orders"]
    orders.insert_one({"number": 7})
    print(orders.find_one({"number": 7})["number"])
    try:
        client["shop"].command("nonsense")
    except OperationFailure as error:
        print(error.code)
