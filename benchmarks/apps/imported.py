"""An application that imports flask, requests and boto3, and ends."""

import boto3  # noqa: F401
import flask  # noqa: F401
import requests  # noqa: F401
import xray

xray.install()
