"""What all parts of a document are made of."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from flow_operator.model.names import NAME_PATTERN

Name = Annotated[
    str,
    Meta(pattern=NAME_PATTERN, description="Lower-case letters, digits and '-'; 52 at most."),
]
TEXT = "Text without NUL."
Text = Annotated[str, Meta(pattern=r"^[^\u0000]*$", description=TEXT)]
Argument = Annotated[str, Meta(pattern=r"^[^\u0000]*$")]
Port = Annotated[int, Meta(ge=1, le=65535)]


class Part(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, rename="camel"):
    """Base of every part of a document: immutable, and an unknown key is an error."""
