"""Libraries that are imported before anything of OpenTelemetry is: the official call then starts it all."""

import sys

import flask
import requests
from opentelemetry.instrumentation.auto_instrumentation import initialize

initialize()
sys.argv[1:] = ["function"]
import ways  # noqa: E402, F401

print(flask.__name__, requests.__name__)
