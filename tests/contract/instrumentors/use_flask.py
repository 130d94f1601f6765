"""A Flask application behind a real server: a page, a template-less error, a route with a parameter."""

import threading
from http.client import HTTPConnection

from flask import Flask, abort
from werkzeug.serving import make_server

app = Flask(__name__)


@app.get("/orders/<int:number>")
def order(number: int):
    return {"order": number}


@app.get("/missing")
def missing():
    abort(404)


@app.get("/broken")
def broken():
    raise RuntimeError("broken")


server = make_server("127.0.0.1", 0, app)
thread = threading.Thread(target=server.serve_forever)
thread.start()
for path in ("/orders/7", "/missing", "/broken"):
    connection = HTTPConnection("127.0.0.1", server.server_port)
    connection.request(
        "GET", path, headers={"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
    )
    print(path, connection.getresponse().status)
    connection.close()
server.shutdown()
thread.join()
server.server_close()
