# Generated from aio/__init__.py by `make client`: edit that one.
"""The asynchronous client; the synchronous one is generated from it by ``generate.py``."""
