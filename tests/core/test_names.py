"""Names: within AWS's pattern and apart from each other, whatever the user called things."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ezbatch.names import SLUG_LENGTH, slug, unique_slugs

from .workflows import JOB_NAME, RUN_ID

anything = st.one_of(st.text(), st.text("aA-_ 2.é", max_size=12), st.text("ab", min_size=60, max_size=300))


@given(anything, st.integers(20, 100))
@example("-_-a", 72)
@example("_", 72)
@example("", 72)
@example("\ud800", 72)
@example("a" * 300, 72)
def test_a_slug_is_in_awss_pattern(name: str, length: int) -> None:
    made = slug(name, length)
    assert JOB_NAME.fullmatch(made)
    assert len(made) <= length
    assert slug(name, length) == made


@given(st.lists(anything, unique=True, max_size=30))
@example(["a", "A", "a-2", "A-2", "a "])
@example(["x" * 80, "x" * 81, "X" * 80])
def test_slugs_are_unique_to_a_reader_that_ignores_case(names: list[str]) -> None:
    made = unique_slugs(names)
    assert list(made) == names
    assert len({text.lower() for text in made.values()}) == len(names)
    for text in made.values():
        assert JOB_NAME.fullmatch(text)
        assert len(text) <= SLUG_LENGTH
        assert JOB_NAME.fullmatch(f"{RUN_ID}-{text}")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("align", "align"),
        ("Align reads (sample 3).fastq", "Align-reads-sample-3-fastq"),
        ("Prüfung", "Prufung"),
        ("_private", "private"),
        ("a:3", "a-3"),
        ("a/b\nc", "a-b-c"),
    ],
)
def test_a_slug_reads_like_the_name(name: str, expected: str) -> None:
    assert slug(name) == expected


def test_long_names_that_differ_at_their_end_stay_apart() -> None:
    one, other = slug("x" * 300 + "1"), slug("x" * 300 + "2")
    assert one != other
    assert one.startswith("xxxx")


def test_a_hundred_thousand_names_that_are_all_alike_take_no_time() -> None:
    names = [f"job{' ' * (i % 3)}{'é' * (i // 3)}" for i in range(1500)] + [f"{i:06}!" for i in range(50_000)]
    made = unique_slugs(names)
    assert len({text.lower() for text in made.values()}) == len(names)
