"""flow-operator: runs data flows declaratively.

This module stays free of imports: the shim imports it on an interpreter without site-packages.
"""

__version__ = "0.1.0"
