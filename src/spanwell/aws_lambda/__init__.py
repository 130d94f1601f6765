"""A Lambda function, traced: at INIT os and sys alone, the SDK at the first invocation that may be exported.

`start` begins it; `bootstrap` stands between the runtime client and the handler; `invocation` is one invocation;
`choice` tells which of them need the SDK, `counts` what the others add up to.
"""
