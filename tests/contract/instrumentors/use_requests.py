"""requests against a real server: a session, an error status, a refused connection."""

import os

import requests

base = os.environ["STUB_URL"]
with requests.Session() as session:
    print(session.get(f"{base}/orders/7").text)
    print(session.post(f"{base}/echo", data="hello").text)
print(requests.get(f"{base}/status/404").status_code)
try:
    requests.get("http://127.0.0.1:1/refused")
except requests.ConnectionError:
    print("refused")
