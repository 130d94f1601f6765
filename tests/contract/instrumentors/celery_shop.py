"""A Celery application on Redis; `python celery_shop.py` asks its worker for a result."""

import os

from celery import Celery

app = Celery("celery_shop", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"])
app.conf.task_default_queue = os.environ["RUN"]


@app.task(name="order")
def order(number):
    return number * 2


if __name__ == "__main__":
    print(order.delay(21).get(timeout=15))
