"""``make bench``: what ezbatch costs, beside what it is compared with, measured in one run on the same machine."""

from __future__ import annotations

import argparse
import importlib
import sys

#: A module of this folder each, with ``rows()``.
SECTIONS = ("imports", "planning", "engine", "aws", "staging", "browser")


def main() -> int:
    """Run the sections asked for, and print a table for each."""
    parser = argparse.ArgumentParser("bench", description=__doc__)
    parser.add_argument("section", nargs="*", default=SECTIONS, help=f"some of: {', '.join(SECTIONS)} (default: all)")
    for name in parser.parse_args().section:
        print(f"\n{name}")
        print(f"  {'what':<58}{'ezbatch':>12}{'beside it':>12}{'ratio':>8}{'target':>9}")
        for row in importlib.import_module(f"bench.{name}").rows():
            print(f"  {row}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
