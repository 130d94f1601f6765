"""urllib.request against a real server."""

import os
import urllib.error
import urllib.request

base = os.environ["STUB_URL"]
print(urllib.request.urlopen(f"{base}/orders/7").read())
try:
    urllib.request.urlopen(f"{base}/status/404")
except urllib.error.HTTPError as error:
    print(error.code)
