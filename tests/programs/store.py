"""Sink: appends what it reads to $FLOW_DATA/stored, and keeps nothing back."""

import os
from pathlib import Path

with Path(os.environ["FLOW_DATA"], "stored").open("ab", buffering=0) as file:
    while block := os.read(0, 65536):
        file.write(block)
