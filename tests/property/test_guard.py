"""Whatever comes in, the guard answers: data, or a refusal that can be told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from flow_operator.errors import InvalidError
from flow_operator.manifest import SourceText, dump_yaml, load_manifests, parse_json, parse_yaml

SMALL_STACK = 256 * 1024
"""Bytes; what musl gives a thread, roughly."""

VALID = """\
flow_id: orders
x-defaults: &d {a: [1, 2.5, null, true], "b c": 'é'}
metadata: {annotations: {z: *d}}
spec:
  replicas: 2
  steps:
    - name: read
      script: |
        exec cat
      env: [{name: A, value: "\\u00e9\\n"}]
  stop: {timeout: 1h30m}
"""

PIECES = st.sampled_from(
    [
        *("{", "}", "[", "]", ",", ":", ": ", "- ", "? ", "\n", "\n  ", "\n    ", " ", "\t", "#"),
        *(
            "&a ",
            "*a",
            "*a ",
            "<<: ",
            "!!str ",
            "!x ",
            "! ",
            "%YAML 1.2\n",
            "---\n",
            "...\n",
            "|\n",
        ),
        *(
            ">-\n",
            "'",
            '"',
            "\\u",
            "\\ud800",
            "a",
            "b: ",
            "1",
            "-1e9",
            "0x",
            ".inf",
            "~",
            "é",
            "\ufeff",
        ),
        *(
            "\x00",
            "\x85",
            "\u2028",
            "[" * 40,
            "{a: " * 40,
            "- " * 40,
            "&b [*b]",
            "spec: ",
            "steps: ",
        ),
    ]
)
SOUP = st.builds("".join, st.lists(PIECES, max_size=40))


@st.composite
def _mutants(draw: st.DrawFn) -> str:
    """A valid manifest with pieces cut out and put in."""
    text = VALID
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, len(text)))
        end = start + draw(st.integers(0, 12))
        text = text[:start] + draw(PIECES | st.text(max_size=2)) + text[end:]
    return text


TEXTS = st.text() | SOUP | _mutants()
BODIES = st.binary() | TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass"))

fuzz = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def small() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Runs a function in a thread with a small stack, and raises what it raised."""
    before = threading.stack_size(SMALL_STACK)

    def run(function: Callable[[], None]) -> None:
        raised: list[BaseException] = []

        def work() -> None:
            try:
                function()
            except BaseException as error:  # noqa: BLE001 - it is raised again below
                raised.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        if raised:
            raise raised[0]

    yield run
    threading.stack_size(before)


def _read_yaml(text: str) -> None:
    try:
        documents = parse_yaml(SourceText(text, "f.yaml"))
    except InvalidError as error:
        _assert_tellable(error)
        return
    for document in documents:
        dump_yaml([document.data])
    try:
        load_manifests(SourceText(text, "f.yaml"))
    except InvalidError as error:
        _assert_tellable(error)


def _read_json(body: bytes) -> None:
    try:
        parse_json(body)
    except InvalidError as error:
        _assert_tellable(error)


def _assert_tellable(error: InvalidError) -> None:
    assert error.faults
    # A failure must be tellable too: xdist cannot send one that shows half of a surrogate pair.
    told = str(error)
    if told != told.encode("utf-8", "replace").decode():
        raise AssertionError(f"it cannot be told: {told!a}") from None


@given(TEXTS)
@example("a: &a [*a]")
@example("? ? ? a")
@fuzz
def test_any_text_is_read_or_refused(text):
    """Parsed, checked and written again, or an InvalidError: nothing else."""
    _read_yaml(text)


@given(BODIES)
@example(b'{"\\ud800": 1, "\\ud800": 2}')
@fuzz
def test_any_body_is_read_or_refused(body):
    """The same for JSON."""
    _read_json(body)


def _nested_by_aliases(depth: int, times: int) -> str:
    lines = [f"a0: &a0 {'[' * depth}1{']' * depth}"]
    lines += [f"a{n}: &a{n} {'[' * depth}*a{n - 1}{']' * depth}" for n in range(1, times)]
    return "\n".join(lines)


DEEP = [
    "[" * 100_000,
    "{a: " * 100_000,
    "- " * 100_000,
    "? " * 100_000,
    "".join(" " * n + "a:\n" for n in range(1500)),
    "[" * 32 + "]" * 32,
    "&a " * 1000,
    "!!str " * 1000,
    "a: " + "'" * 100_001,
    "# " * 100_000,
    "a\n" * 100_000,
    _nested_by_aliases(28, 20),
    "metadata: {annotations: {b: *a}}\n" + _nested_by_aliases(28, 20),
    "x: {" + ", ".join(f"k{n}: {n}" for n in range(30_000)) + "}",
]


@pytest.mark.parametrize("number", range(len(DEEP)))
def test_bombs_do_not_overflow_a_small_stack(small, number):
    """Depth, width and length; the process lives on."""
    small(lambda: _read_yaml(DEEP[number]))
    small(lambda: _read_json(DEEP[number].encode()))


def test_whatever_is_fuzzed_fits_a_small_stack(small):
    """Sampled: valid documents, soups and mutants."""

    @given(SOUP | _mutants())
    @settings(max_examples=100, deadline=None, database=None)
    def fuzzed(text: str) -> None:
        small(lambda: _read_yaml(text))
        small(lambda: _read_json(text.encode()))

    fuzzed()


@given(st.integers(0, 40), st.sampled_from(["[", '{"a":']))
@settings(max_examples=80, deadline=None)
def test_yaml_and_json_refuse_the_same_depths(depth, opening):
    """But for the one level that an array of documents adds to a body."""
    closing = "]" if opening == "[" else "}"
    text = opening * depth + "1" + closing * depth
    taken = []
    for read, allowance in ((lambda: parse_yaml(SourceText(text)), 0), (_json(text), 1)):
        with suppress(InvalidError):
            read()
            taken.append(allowance)
    assert (0 in taken) == (depth <= 32)
    assert (1 in taken) == (depth <= 33)


def _json(text: str) -> Callable[[], object]:
    return lambda: parse_json(text.encode())
