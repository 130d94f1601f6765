"""Stands in for Lambda's runtime client: imports the handler by its name, then calls it with each event of a file.

What AWS's own does is the same, in this order; an invocation's trace header is put into the environment before it.
"""

import json
import os
import sys
from importlib import import_module


class Context:
    aws_request_id = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"
    function_name = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
    invoked_function_arn = f"arn:aws:lambda:eu-west-1:123456789012:function:{function_name}"


def main():
    module, _, name = os.environ["_HANDLER"].rpartition(".")
    handler = getattr(import_module(module.replace("/", ".")), name)
    with open(sys.argv[1], encoding="utf-8") as file:
        invocations = json.load(file)
    for invocation in invocations:
        os.environ.pop("_X_AMZN_TRACE_ID", None)
        if invocation["trace"]:
            os.environ["_X_AMZN_TRACE_ID"] = invocation["trace"]
        handler(invocation["event"], Context())


main()
