"""AWS Signature Version 4, written from its description and not from botocore, to judge what spanwell signs."""

from __future__ import annotations

import hashlib
import hmac
import re


def judge(request, secret, path, region, service):
    """The access key of a signature that fits the request as it arrived; "" if it does not fit."""
    match = re.fullmatch(
        rf"AWS4-HMAC-SHA256 Credential=(\w+)/(\d{{8}})/{region}/{service}/aws4_request, "
        r"SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})",
        request.headers.get("authorization", ""),
    )
    if match is None:
        return ""
    key, day, names, signature = match.groups()
    if "host" not in names.split(";"):
        return ""
    canonical = "\n".join(
        [
            "POST",
            path,
            "",
            *(f"{name}:{' '.join(request.headers[name].split())}" for name in names.split(";")),
            "",
            names,
            hashlib.sha256(request.body).hexdigest(),
        ]
    )
    to_sign = "\n".join(
        [
            "AWS4-HMAC-SHA256",
            request.headers["x-amz-date"],
            f"{day}/{region}/{service}/aws4_request",
            hashlib.sha256(canonical.encode()).hexdigest(),
        ]
    )
    made = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request", to_sign):
        made = hmac.new(made, part.encode(), hashlib.sha256).digest()
    return key if hmac.compare_digest(made.hex(), signature) else ""
