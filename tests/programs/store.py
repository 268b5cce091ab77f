"""Sink: appends what it reads to $FLOW_DATA/stored."""

import os
from pathlib import Path

with Path(os.environ["FLOW_DATA"], "stored").open("ab") as file:
    while block := os.read(0, 65536):
        file.write(block)
