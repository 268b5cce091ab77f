"""A walk over all messages of errors that the sources can make."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import flow_operator

PACKAGE = Path(flow_operator.__file__).parent

_ORDERS = (
    "use give say name write send set leave put make create choose remove quote start stop resume "
    "raise install correct rename save read list look try bring change chmod chown run have see "
    "print mount"
)
NEXT = re.compile(
    rf"""
    (^|[:;,.?(]\ |\bor\ |\band\ |\bto\ )({_ORDERS.replace(" ", "|")})\b  # where a clause begins
    | \b(must|has\ to|needs|takes|only|neither|except)\b    # what would be right
    | \b(these|known)\b.*:|\ (has|from\ 0\ to)\b          # what there is to choose from
    | \b(lists|names|tells|shows|changes|writes|sends)\b     # a command, and what it does
    | [;:]\ flowctl\b | \b(one|none)\ of\b | \bexpected\b
    | \bdid\ you\ mean\b | \bright\b.*\? | \bis\ not\ FIELD=VALUE\b | \bdoes\ not\ fit:
    """,
    re.VERBOSE | re.IGNORECASE | re.MULTILINE,
)
"""Words with which a sentence says what to do, or what would be right."""

KINDS = re.compile(
    r"(Error|Fault|^fault|BadParameter|_Refusal|_refused|_broken|_fail|ParsingError)$"
)
"""What is called to make an error."""

INTERNAL = {
    "NotImplementedError": "a mistake of ours, not the user's",
    "AttributeError": "likewise",
    "OSError": "caught by us, and told in other words",
    "FileNotFoundError": "likewise",
    "BlockingIOError": "likewise",
    "ConnectionResetError": "likewise",
    "RetryableError": "tried again by the operator itself",
    "StorageError": "likewise, or told by the API as 503 with what to do",
    "RuntimeError": "between the shim and the operator, who tells it in other words",
    "DecodeError": "caught by us: what cannot be read is begun anew",
    "UnknownRunError": "between the shim and the operator",
}

TOLD_BY_OTHERS = {
    "store/journal.py": ("is damaged",),  # set aside; store.py says what to do
    "store/records.py": ("not a stored flow", "a tombstone without a name"),  # likewise
    "store/store.py": ("holds",),  # likewise
    "shim/handover.py": ("cannot read format",),  # the operator goes on with the old shim
    "manifest/json_text.py": ("not valid JSON",),  # the parser's own words, with line and column
    "manifest/yaml_text.py": ("not valid YAML",),  # likewise
    "manifest/validate.py": ("is no regular expression",),  # likewise
    "api/parser.py": ("the head of the request is malformed",),  # by a program, not a person
    "runners/fake.py": ("still stands for", "is alive"),  # no user meets it
    "flowctl/importing/finish.py": ("makes no valid flow",),  # what it quotes says it
    "api/parameters.py": ("= is {…}",),  # likewise
    "api/token_file.py": ("the file of tokens is refused",),  # likewise
    "sources/scan.py": ("it {…}",),  # likewise
    "settings.py": ("app_url is {…}",),  # likewise
    "runners/shim_link.py": ("the shim refused",),  # likewise
    "client/errors.py": ("it does not answer",),  # likewise
    "runners/images.py": ("fetching the image", "cannot be fetched"),  # goes on, or is logged
    "runners/engine.py": ("the engine cannot", "flowd ends"),  # the engine's own words
    "shim/spawn.py": ("cannot start",),  # the system's words: which program, and why
}
"""Messages that need not say it themselves, by file: who does, or why nobody can."""


@dataclass
class Scope:
    """What names stand for within a function, as far as it is text."""

    texts: dict[str, list[str]] = field(default_factory=dict)

    def of(self, node: ast.expr) -> list[str]:
        """The texts that an expression may be; what is not known stands as ``{…}``."""
        match node:
            case ast.Constant(value=str(text)):
                return [text]
            case ast.JoinedStr(values=parts):
                return self._joined(parts)
            case ast.IfExp(body=one, orelse=other):
                return self.of(one) + self.of(other)
            case ast.BinOp(op=ast.Add(), left=left, right=right):
                ends = self.of(right) or ["{…}"]
                return [one + other for one in self.of(left) or ["{…}"] for other in ends]
            case ast.Name(id=name):
                return self.texts.get(name, [])
        return []

    def _joined(self, parts: list[ast.expr]) -> list[str]:
        texts = [""]
        for part in parts:
            inner = part.value if isinstance(part, ast.FormattedValue) else part
            ends = self.of(inner) or ["{…}"]
            texts = [text + end for text in texts for end in ends]
        return texts

    def learn(self, node: ast.Assign | ast.AugAssign) -> None:
        """An assignment; each value that a name may have counts."""
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        if not isinstance(target, ast.Name):
            return
        known = self.texts.get(target.id, [])
        found = self.of(node.value)
        if isinstance(node, ast.AugAssign):
            found = [text + end for text in known for end in found]
        self.texts[target.id] = list(dict.fromkeys(known + found))


@dataclass(frozen=True)
class Message:
    """One text that an error may have."""

    file: str
    line: int
    kind: str
    text: str


def _called(call: ast.Call) -> str:
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _assignments(node: ast.AST) -> list[ast.Assign | ast.AugAssign]:
    found = [part for part in ast.walk(node) if isinstance(part, (ast.Assign, ast.AugAssign))]
    return sorted(found, key=lambda part: part.lineno)


def _messages(file: Path) -> Iterator[Message]:
    tree = ast.parse(file.read_text())
    name = file.relative_to(PACKAGE).as_posix()
    module = Scope()
    for node in tree.body:
        if isinstance(node, ast.Assign):
            module.learn(node)
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        scope = Scope(dict(module.texts))
        for node in _assignments(function):
            scope.learn(node)
        for part in ast.walk(function):
            yield from _made(name, part, scope)


def _made(name: str, node: ast.AST, scope: Scope) -> Iterator[Message]:
    """The texts of one call that makes an error, or of one ``yield pointer, detail``."""
    if isinstance(node, ast.Call) and KINDS.search(_called(node)):
        for argument in node.args:
            for text in scope.of(argument):
                if " " in text:  # A pointer or a file's name has none.
                    yield Message(name, node.lineno, _called(node), text)
    if name in YIELDING and isinstance(node, ast.Yield) and isinstance(node.value, ast.Tuple):
        for text in scope.of(node.value.elts[-1]):
            yield Message(name, node.lineno, "yield", text)


YIELDING = ("manifest/validate.py", "api/token_file.py")
"""Where faults are yielded as (pointer, detail)."""


def excused(message: Message) -> bool:
    """Whether others say it, or no user meets it."""
    told = TOLD_BY_OTHERS.get(message.file, ())
    return message.kind in INTERNAL or any(words in message.text for words in told)


def walked() -> list[Message]:
    """Every message of the sources; the generated client says what the written one does."""
    files = (file for file in sorted(PACKAGE.rglob("*.py")) if "sync" not in file.parts)
    return list(dict.fromkeys(message for file in files for message in _messages(file)))


def says_what_next(text: str) -> bool:
    """Whether a message tells its reader what to do, or what would be right."""
    return NEXT.search(text) is not None
