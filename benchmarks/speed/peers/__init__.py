"""Other supervisors: each one an adapter that keeps the protocol of ``contender.py``."""
