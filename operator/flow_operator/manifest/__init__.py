"""Documents in and out: YAML or JSON text to a checked :class:`Manifest`, and back.

Text passes a guard before anything is built from it (depth, size, aliases, duplicate keys), and
whatever is wrong with a document is told at once, each fault with its pointer and place.
"""

from flow_operator.manifest.document import Document, Manifest, SourceText, escape
from flow_operator.manifest.json_text import parse_json
from flow_operator.manifest.validate import load_manifest, load_manifests, taken_apart
from flow_operator.manifest.yaml_text import dump_yaml, parse_yaml

__all__ = [
    "Document",
    "Manifest",
    "SourceText",
    "dump_yaml",
    "escape",
    "load_manifest",
    "load_manifests",
    "parse_json",
    "parse_yaml",
    "taken_apart",
]
