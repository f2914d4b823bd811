"""Which variables each child of an array gets."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from ezbatch import preloader
from ezbatch.s3 import S3Mount

if TYPE_CHECKING:
    from tests.preloader.conftest import Bench

SHOW = ["/bin/sh", "-c", 'printf "%s|" "$A" "${B-unset}" "${C-unset}"']


def child(bench: Bench, axes: list[list[dict[str, str]]], index: int, command: list[str] | None = None) -> bytes:
    ended = bench.run(command or SHOW, axes=axes, env={"AWS_BATCH_JOB_ARRAY_INDEX": str(index)})
    assert (ended.code, ended.err) == (0, b"")
    return ended.out


def test_the_order_is_that_of_itertools_product(bench: Bench) -> None:
    axes = [
        [{"A": name} for name in ("x", "y")],
        [{"B": name} for name in ("1", "2", "3")],
        [{"C": name} for name in ("", "a b")],
    ]
    expected = [f"{a['A']}|{b['B']}|{c['C']}|".encode() for a, b, c in itertools.product(*axes)]
    assert [child(bench, axes, index) for index in range(12)] == expected


def test_rows_of_several_variables_go_together(bench: Bench) -> None:
    axes = [[{"A": "1", "B": "one"}, {"B": "two", "A": "2"}], [{"C": "x"}, {"C": "y"}]]
    assert [child(bench, axes, index) for index in range(4)] == [b"1|one|x|", b"1|one|y|", b"2|two|x|", b"2|two|y|"]


def test_rows_may_set_different_variables(bench: Bench) -> None:
    axes = [[{"A": "a"}, {}, {"A": "it's", "B": "b\n c"}, {"C": "$(id)"}], [{"D": "1"}, {"D": "2"}]]
    got = [child(bench, axes, index) for index in range(0, 8, 2)]
    assert got == [b"a|unset|unset|", b"|unset|unset|", b"it's|b\n c|unset|", b"|unset|$(id)|"]


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "\n",
        "a\nb\n",
        "'",
        '"',
        "'\"'",
        "$HOME",
        "`id`",
        "\\",
        "*",
        "-n",
        "=",
        "a=b",
        "é μ 🧬",
        "\t\r\x01\x7f",
        "#",
        "~",
    ],
)
def test_any_value_arrives(bench: Bench, value: str) -> None:
    script = ["/bin/sh", "-c", 'printf %s "$A"']
    assert child(bench, [[{"A": "x"}, {"A": value}]], 1, script) == value.encode()
    assert child(bench, [[{"B": "x"}, {"A": value}]], 1, script) == value.encode()


def test_names_that_shells_compute_hold_what_they_are_given(bench: Bench) -> None:
    row = {"SECONDS": "50", "RANDOM": "7", "HOSTNAME": "h", "PS1": "p", "ENV": "e", "PATH": "/bin:/usr/bin", "i": "1"}
    command = ["/bin/sh", "-c", 'env | grep -E "^(SECONDS|RANDOM|HOSTNAME|PS1|ENV|PATH|i)=" | sort']
    expected = "".join(f"{name}={value}\n" for name, value in sorted(row.items()))
    assert child(bench, [[row]], 0, command).decode() == expected


def test_ten_thousand_rows(bench: Bench) -> None:
    axes = [[{"A": f"sample {number:05} of 'this' study", "B": str(number)} for number in range(10_000)]]
    for index in (0, 1, 4_999, 9_999):
        assert child(bench, axes, index) == f"sample {index:05} of 'this' study|{index}|unset|".encode()
    ended = bench.run(SHOW, axes=axes, env={"AWS_BATCH_JOB_ARRAY_INDEX": "10000"})
    assert (ended.code, ended.out) == (preloader.EXIT_INTERNAL, b"")


def test_a_grid_of_ten_thousand(bench: Bench) -> None:
    axes = [[{name: str(number)} for number in range(10)] for name in "ABCD"]
    assert child(bench, axes, 4_321) == b"4|3|2|"


def test_one_row_needs_no_index(bench: Bench) -> None:
    assert bench.run(SHOW, axes=[[{"A": "1"}], [{"B": "2"}]]).out == b"1|2|unset|"


@pytest.mark.parametrize("index", [None, "", "-1", "x", "2", "1 ", "01", "1e1"])
def test_an_index_that_selects_nothing_stops_the_job(bench: Bench, index: str | None) -> None:
    ended = bench.run(SHOW, axes=[[{"A": "1"}, {"A": "2"}]], env={"AWS_BATCH_JOB_ARRAY_INDEX": index})
    assert (ended.code, ended.out) == (preloader.EXIT_INTERNAL, b"")
    assert ended.last == "ezbatch: malformed EZBATCH_* variables or array index; the command was not run"


def test_an_array_with_mounts(bench: Bench) -> None:
    bench.put("bucket/in", b"in")
    ended = bench.run(
        ["/bin/sh", "-c", 'echo "$A" >out; cat in >>out; exit 3'],
        [S3Mount("s3://bucket/in", "in")],
        [S3Mount("out", "s3://bucket/${A}")],
        [[{"A": "1"}, {"A": "2"}]],
        env={"AWS_BATCH_JOB_ARRAY_INDEX": "1"},
    )
    assert ended.code == 3
    # Sources and destinations are literal.
    assert bench.objects()["bucket/${A}"] == b"2\nin"
