"""spanwell: an OpenTelemetry distro for Python on AWS.

Importing this package imports nothing else: `spanwell run` and every plug-in start from here.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
