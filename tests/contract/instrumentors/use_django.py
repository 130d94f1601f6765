"""A Django project in one file, started the way the stock wsgi.py does it: the settings are named late."""

import os
import sys
import threading
from http.client import HTTPConnection
from wsgiref.simple_server import WSGIRequestHandler, make_server

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "django_project")
application = get_wsgi_application()


class Quiet(WSGIRequestHandler):
    def log_message(self, *args):
        pass


from django.conf import settings  # noqa: E402

if settings.ROOT_URLCONF != "django_project":
    sys.exit("the project's settings were not used")

server = make_server("127.0.0.1", 0, application, handler_class=Quiet)
thread = threading.Thread(target=server.serve_forever, args=(0.05,))
thread.start()
for path in ("/orders/7", "/broken", "/nowhere"):
    connection = HTTPConnection("127.0.0.1", server.server_port)
    connection.request("GET", path)
    print(path, connection.getresponse().status)
    connection.close()
server.shutdown()
thread.join()
server.server_close()
