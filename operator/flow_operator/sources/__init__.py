"""Where desired state comes from besides the API."""

from flow_operator.sources.folder import FolderSource

__all__ = ["FolderSource"]
