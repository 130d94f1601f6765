"""Traces of other programs as spans, and spans as theirs: OTLP JSON, Jaeger, Zipkin v2, X-Ray segment documents."""
