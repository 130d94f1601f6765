"""A Celery producer and worker in one process, over the in-memory broker: one task works, one fails."""

from celery import Celery
from celery.contrib.testing.worker import start_worker

app = Celery("shop", broker="memory://", backend="cache+memory://")
app.conf.broker_transport_options = {"polling_interval": 0.05}


@app.task
def order(number):
    return number * 2


@app.task
def broken():
    raise ValueError("broken")


with start_worker(app, perform_ping_check=False, loglevel="CRITICAL"):
    print(order.delay(21).get(timeout=10, interval=0.05))
    try:
        broken.apply_async().get(timeout=10, interval=0.05)
    except ValueError as error:
        print(error)
