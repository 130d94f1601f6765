"""The ways in which an application may come to its libraries; the argument chooses. Always the same work:
a Flask page that asks another server by requests."""

import os
import sys
import threading

WAYS = {}


def way(function):
    WAYS[function.__name__] = function
    return function


def work(flask, requests):
    app = flask.Flask("shop")

    @app.get("/")
    def page():
        return requests.get(os.environ["STUB_URL"] + "/orders/7").text

    print(app.test_client().get("/").text)


@way
def function():
    import flask
    import requests

    work(flask, requests)


@way
def thread():
    def main():
        import flask
        import requests

        work(flask, requests)

    threads = [threading.Thread(target=main)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()


@way
def many_threads():
    """Eight threads import the same libraries at the same moment; then one does the work."""
    gate = threading.Barrier(8)

    def main():
        gate.wait()
        import flask
        import requests  # noqa: F401

        if flask.Flask.__name__ == "":
            raise SystemExit(1)

    threads = [threading.Thread(target=main) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    function()


@way
def names():
    from types import SimpleNamespace

    from flask import Flask
    from requests import get

    work(SimpleNamespace(Flask=Flask), SimpleNamespace(get=get))


@way
def submodules():
    import flask.globals  # noqa: F401
    import requests.adapters
    import requests.sessions

    work(sys.modules["flask"], requests)


@way
def by_name():
    import importlib

    work(importlib.import_module("flask"), __import__("requests"))


@way
def instrumentors_first():
    from opentelemetry.instrumentation.flask import FlaskInstrumentor
    from opentelemetry.instrumentation.requests import RequestsInstrumentor

    print(FlaskInstrumentor.__name__, RequestsInstrumentor.__name__)
    function()


@way
def half_import():
    """An import that fails at first and works at the second attempt."""
    import flask

    sys.modules["requests.sessions"] = None
    try:
        import requests
    except ImportError:
        pass
    del sys.modules["requests.sessions"]
    import requests

    work(flask, requests)


WAYS[sys.argv[1]]()
