"""What holds where nothing else is said; imports nothing, as the command line asks before all."""

DEFAULT_URL = "http://127.0.0.1:8710"
"""The operator's base URL."""
