"""The only place that touches private or unstable OpenTelemetry names, each with the reason why.

Everything is looked up defensively: where a name is gone, the feature is gone and nothing else.
"""
