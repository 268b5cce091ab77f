"""Every error says what to do next."""

from __future__ import annotations

from messages import TOLD_BY_OTHERS, excused, says_what_next, walked


def test_every_error_says_what_to_do_next() -> None:
    """Or what would be right; there is nobody to ask when it is printed."""
    mute = [
        f"{message.file}:{message.line}: {message.text}"
        for message in walked()
        if not says_what_next(message.text) and not excused(message)
    ]
    assert not mute, "\n".join(mute)


def test_the_walk_sees_the_errors() -> None:
    """A walk that finds few, or forgets a way of making them, would show nothing."""
    messages = walked()
    assert len(messages) > 250
    seen = {(message.file, message.text) for message in messages}
    for file, text in {
        ("flowctl/apply.py", "this would delete {…}; say --yes if that is meant"),
        ("api/flows.py", "the body names '{…}', the path '{…}': make them agree"),
        ("manifest/validate.py", "a flow cannot depend on itself: leave this out"),
        ("sources/apply.py", "it is empty; its flows go on. Remove the file to remove them"),
    }:
        assert (file, text) in seen


def test_excuses_are_needed() -> None:
    """One that excuses nothing has to go."""
    messages = walked()
    for file, excuses in TOLD_BY_OTHERS.items():
        for words in excuses:
            assert any(
                one.file == file and words in one.text and not says_what_next(one.text)
                for one in messages
            ), f"{file}: {words}"
