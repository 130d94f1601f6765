"""The same imports, then the application is made and serves one request."""

from order import create_app

answer = create_app().test_client().get("/orders/7")
assert answer.status_code == 200, answer.data
