"""Which names say that their value is a secret: attribute keys, URL parameters, fields, headers.

Names are compared in lower case without `-`, `_` and `.`, mostly by their ending, so that `X-Amz-Security-Token`,
`db.password` and `AWS_SECRET_ACCESS_KEY` need no entry of their own.
"""

from __future__ import annotations

MARK = "[redacted]"
"""What stands where a secret was."""

_DELETE = {ord(each): None for each in "-_."}

# A value under one of these endings is a secret wherever it stands.
_ENDINGS = (
    *("password", "passwords", "passwd", "passphrase", "pwd"),
    *("secret", "secrets", "secretkey", "secretaccesskey", "secretstring", "secretbinary", "secretvalue"),
    *("token", "apikey", "apikeys", "accesskey", "accesskeyid", "accountkey", "privatekey", "signingkey"),
    *("authkey", "subscriptionkey", "sharedkey", "masterkey", "sessionkey", "encryptionkey", "functionskey"),
    *("credential", "credentials", "authorization", "cookie", "cookies"),
)
_WHOLE_NAMES = frozenset(("pass", "dbpass", "userpass", "smtppass"))

# Attribute keys have these meanings; in a text they are rare, and looking for them would cost every text.
_KEY_ENDINGS = ("cardnumber", "cvv", "cvc", "ssn", "jwt", "samlresponse", "otp")

# They end like a secret and are none: page markers, idempotency keys, kinds.
_HARMLESS = (
    *("nexttoken", "pagetoken", "continuationtoken", "paginationtoken", "startingtoken", "markertoken"),
    *("clientrequesttoken", "clienttoken", "idempotencytoken"),
)

# Common words: they count only in `name=value` and as quoted fields, or only in a URL's query.
_ASSIGNED_ENDINGS = ("signature",)
_ASSIGNED = frozenset(("sig", "auth", "jsessionid", "phpsessid", "sessionid", "keypairid"))
_SHORTEST_IN_QUERY = {"code": 8, "key": 16}

_TO_LINE_END = ("authorization", "cookie")


def has_stem(low: str) -> bool:
    """Whether `low`, in lower case, can have a name of a secret in it: each contains one of these.

    Written out: twelve searches in C take half as long as one regular expression or a loop over them.
    """
    return (
        "pass" in low
        or "secret" in low
        or "token" in low
        or "key" in low
        or "auth" in low
        or "sig" in low
        or "cred" in low
        or "code" in low
        or "pwd" in low
        or "cookie" in low
        or "sess" in low
        or "identified" in low
    )


def normal(name: str) -> str:
    """The form in which names are compared."""
    return name.lower().translate(_DELETE)


def secret_key(name: str) -> bool:
    """Whether every value under this attribute key (normal) is a secret."""
    return secret_anywhere(name) or name.endswith(_KEY_ENDINGS)


def secret_anywhere(name: str) -> bool:
    """Whether a value under this (normal) name is secret whatever it looks like and wherever it stands."""
    return (name.endswith(_ENDINGS) or name in _WHOLE_NAMES) and not name.endswith(_HARMLESS)


def secret_when_assigned(name: str) -> bool:
    """Whether a value is secret in `name=value` and in `"name": "value"`; `name` is normal."""
    return name in _ASSIGNED or name.endswith(_ASSIGNED_ENDINGS)


def shortest_in_query(name: str) -> int:
    """From how many characters on a value of this (normal) URL parameter is a secret; 0: it never is."""
    return _SHORTEST_IN_QUERY.get(name, 0)


def fills_the_line(name: str) -> bool:
    """Whether an unquoted value of this (normal) name goes on to the end of the line, as a header's does."""
    return name.endswith(_TO_LINE_END)
