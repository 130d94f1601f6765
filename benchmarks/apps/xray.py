"""What an application adds to be traced by the AWS X-Ray SDK; nothing unless BENCH_XRAY is set."""

import os


def install(app=None):
    """Patch the libraries and, for a Flask application, add the middleware; tell whether it was asked for."""
    if not os.environ.get("BENCH_XRAY"):
        return False
    from aws_xray_sdk.core import patch, xray_recorder

    # Sampling off means that every request is traced, as with the others.
    xray_recorder.configure(service="bench", sampling=False, context_missing="IGNORE_ERROR")
    patch(("requests", "botocore"))
    if app is not None:
        from aws_xray_sdk.ext.flask.middleware import XRayMiddleware

        XRayMiddleware(app, xray_recorder)
    return True
