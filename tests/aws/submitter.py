"""ezbatch in processes of their own, to be interrupted or killed: ``python -m tests.aws.submitter``.

It reads one order a line, forks a child that has everything imported, prints the child's number, and, once the child
has ended, how: ``0`` done, ``1`` an error of ezbatch, ``2`` interrupted, ``-9`` killed. So that a test may strike at
once, the child of an order is there within milliseconds.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping
from typing import Any

DONE, REFUSED, INTERRUPTED = 0, 1, 2


@dataclasses.dataclass(frozen=True)
class Order:
    """What a child does.

    Parameters
    ----------
    act
        submit, resume, cancel, retry or wait.
    subject
        A workflow's JSON for submit, else a run's id.
    environment
        Added to the child's.
    times, settle
        See `tests.aws.product.backend_of`.
    """

    act: str
    subject: str
    environment: dict[str, str]
    times: float
    settle: float


class Submitter:
    """The process that forks, for one account. One child at a time is being watched."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.aws.submitter"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )

    def start(self, order: Order) -> int:
        """Return the number of the child that carries an order out."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(dataclasses.asdict(order)) + "\n")
        self._process.stdin.flush()
        return int(self._line())

    def ended(self) -> int:
        """Wait for the child, and return its exit code, or minus the signal that killed it."""
        return int(self._line())

    def close(self) -> None:
        self._process.communicate(timeout=20)

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


def main() -> None:
    from .product import backend_of

    # A child takes over what costs time to make; no connection is open yet.
    backend_of()
    for line in sys.stdin:
        order = Order(**json.loads(line))
        pid = os.fork()
        if pid == 0:
            os._exit(_child(order))
        print(pid, flush=True)  # noqa: T201 - the answer
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)  # noqa: T201 - likewise


def _child(order: Order) -> int:
    from ezbatch.errors import EZBatchError

    signal.signal(signal.SIGINT, signal.default_int_handler)
    # What the child says is nobody's answer.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    os.environ.update(order.environment)
    try:
        _carry_out(order)
    except KeyboardInterrupt:
        return INTERRUPTED
    except EZBatchError:
        return REFUSED
    except BaseException:  # noqa: BLE001 - told by the exit code
        traceback.print_exc()
        return 70
    return DONE


def _carry_out(order: Order) -> None:
    from ezbatch import EZBatchWorkflow

    from .product import Pace, backend_of, handle, start

    backend = backend_of(Pace(order.times), settle=order.settle)
    if order.act == "submit":
        start(EZBatchWorkflow.from_dict(json.loads(order.subject)), backend)
        return
    run = handle(order.subject, backend)
    acts: dict[str, Any] = {
        "resume": run.resume,
        "cancel": run.cancel,
        "retry": run.retry,
        "wait": lambda: run.wait(60, progress=False),
    }
    acts[order.act]()


if __name__ == "__main__":
    main()
