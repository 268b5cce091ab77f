"""Where desired state comes from besides the API."""

from flow_operator.sources.folder import FolderSource
from flow_operator.sources.summary import Summary

__all__ = ["FolderSource", "Summary"]
