"""urllib3 against a real server."""

import os

import urllib3

base = os.environ["STUB_URL"]
pool = urllib3.PoolManager()
print(pool.request("GET", f"{base}/orders/7").data)
print(pool.request("POST", f"{base}/echo", body=b"hello").data)
print(pool.request("GET", f"{base}/status/500").status)
