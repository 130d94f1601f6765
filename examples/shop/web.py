"""The shop's front end: takes orders from customers and hands them to the orders service.

Environment: SHOP_ORDERS_URL (the orders service), SHOP_PORT (0 picks a free port).
"""

import os
import signal
import sys

import requests
from flask import Flask, Response, jsonify, request
from werkzeug.serving import make_server

app = Flask(__name__)

PAGE = """<!doctype html>
<html lang="en"><title>The corner shop</title>
<h1>The corner shop</h1>
<p>We sell tea, coffee, cake and, if you can wait, a piano.</p>
<pre>curl -X POST -H 'Content-Type: application/json' \\
     -d '{"article": "tea", "quantity": 2}' %sorders</pre>
</html>
"""


@app.get("/")
def home() -> str:
    return PAGE % request.host_url


@app.post("/orders")
def order() -> tuple[Response, int]:
    try:
        answer = requests.post(
            os.environ["SHOP_ORDERS_URL"] + "/orders", json=request.get_json(silent=True), timeout=10
        )
    except requests.RequestException:
        return jsonify(error="the orders service does not answer"), 503
    if answer.status_code >= 500:
        return jsonify(error="the orders service failed"), 502
    return jsonify(answer.json()), answer.status_code


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = make_server("127.0.0.1", int(os.environ.get("SHOP_PORT", "0")), app, threaded=True)
    print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
