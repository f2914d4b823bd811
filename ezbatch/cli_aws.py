"""The commands that manage AWS: setup, teardown, doctor, and queues and compute environments by hand."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from ezbatch.errors import BackendError

if TYPE_CHECKING:
    from ezbatch.aws.admin import Environment, JobQueue

__all__ = ["add_commands"]

OK, FAILED, UNUSABLE = 0, 1, 4


class Add(Protocol):
    """What makes a command."""

    def __call__(self, name: str, act: Callable[[argparse.Namespace], int], about: str) -> argparse.ArgumentParser:
        """Return the parser of a new command."""


def _print(text: str) -> None:
    print(text)  # noqa: T201 - a command's output is for stdout


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - a command's remarks are for stderr


def add_commands(add: Add) -> None:
    """Add the commands to the parser."""
    made = add("setup", _setup, "make a queue on AWS and all it needs, or bring them up to date")
    made.add_argument("--name", default="ezbatch", help="of the stack and of the first queue (default: ezbatch)")
    made.add_argument("--vpc", metavar="ID", help="where jobs run (default: the Region's default VPC)")
    made.add_argument("--subnets", nargs="+", default=[], metavar="ID", help="default: all of the VPC that reach out")
    made.add_argument("--max-vcpus", type=int, metavar="N", help="for the jobs of each queue at once (default: 256)")
    made.add_argument("--ec2", action=argparse.BooleanOptionalAction, help="queues on EC2 and EC2 Spot, too")
    made.add_argument("--instance-types", nargs="+", default=[], metavar="TYPE", help="of those (default: optimal)")
    made.add_argument("--log-days", type=int, metavar="DAYS", help="for which logs are kept (default: 30)")
    made.add_argument("--bucket", action=argparse.BooleanOptionalAction, help="a bucket for the data of jobs")
    made.add_argument(
        "--data", nargs="*", metavar="BUCKET[/PREFIX]", help="what jobs may read and write; nothing takes all back"
    )
    made.add_argument("--save", action="store_true", help="make the queue the one of your settings")
    made.add_argument("--dry-run", action="store_true", help="show what would be made, and stop")
    made.add_argument("--print-template", action="store_true", help="print the CloudFormation template, and stop")
    _asking(made)

    made = add("teardown", _teardown, "delete what setup made")
    made.add_argument("--name", default="ezbatch", help="of the stack (default: ezbatch)")
    made.add_argument("--force", action="store_true", help="although jobs have not ended: they are ended")
    made.add_argument("--delete-data", action="store_true", help="empty the stack's bucket, if it has one")
    made.add_argument("--dry-run", action="store_true", help="show what would be deleted, and stop")
    _asking(made)

    made = add("doctor", _doctor, "look at all that jobs need, here and on AWS, and say what mends it")
    made.add_argument("-q", "--queue", help="a queue's name or ARN (default: the one of your settings)")
    made.add_argument("-i", "--image", help="look for this image in its registry, too")
    made.add_argument("--architecture", default="X86_64", choices=["X86_64", "ARM64"], help="that the image is for")
    made.add_argument("--json", action="store_true", help="print JSON")

    _queue_commands(add("queue", _usage, "manage job queues by hand"))
    _environment_commands(add("environment", _usage, "manage compute environments by hand"))


def _asking(made: argparse.ArgumentParser) -> None:
    made.add_argument("-y", "--yes", action="store_true", help="do not ask")
    made.add_argument("--json", action="store_true", help="print JSON")


def _sub(made: argparse.ArgumentParser) -> Add:
    commands = made.add_subparsers(metavar="ACTION", required=True)

    def add(name: str, act: Callable[[argparse.Namespace], int], about: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.", allow_abbrev=False)
        one.add_argument("--json", action="store_true", help="print JSON")
        one.set_defaults(act=act)
        return one

    return add


def _usage(_arguments: argparse.Namespace) -> int:
    raise AssertionError  # argparse demands an action


def _changing(made: argparse.ArgumentParser, name: str) -> None:
    made.add_argument("name", metavar=name)
    made.add_argument("--no-wait", action="store_true", help="return at once")


def _queue_commands(made: argparse.ArgumentParser) -> None:
    add = _sub(made)
    add("list", _queue_list, "list the job queues with their compute environments")
    one = add("create", _queue_create, "make a job queue")
    _changing(one, "QUEUE")
    one.add_argument("environments", nargs="+", metavar="ENVIRONMENT", help="one to three, in the order to be tried")
    one.add_argument("--priority", type=int, default=1, help="the higher goes first on a shared environment")
    one.add_argument("--execution-role", metavar="ARN", help="with which ECS starts the queue's jobs")
    one.add_argument("--job-role", metavar="ARN", help="what the queue's jobs may do")
    _changing(add("enable", _queue_enable, "let a queue take jobs"), "QUEUE")
    _changing(add("disable", _queue_disable, "keep a queue from taking jobs; those in it go on"), "QUEUE")
    one = add("delete", _queue_delete, "disable and delete a queue")
    _changing(one, "QUEUE")
    one.add_argument("--force", action="store_true", help="although jobs have not ended: they are ended")


def _environment_commands(made: argparse.ArgumentParser) -> None:
    add = _sub(made)
    add("list", _environment_list, "list the compute environments")
    one = add("create", _environment_create, "make a compute environment")
    _changing(one, "ENVIRONMENT")
    kinds = ["FARGATE", "FARGATE_SPOT", "EC2", "SPOT"]
    one.add_argument("-p", "--platform", type=str.upper, choices=kinds, default="FARGATE", help="(default: FARGATE)")
    one.add_argument("--max-vcpus", type=int, default=256, metavar="N", help="at once (default: 256)")
    one.add_argument("--subnets", nargs="+", default=[], metavar="ID", help="default: those of the default VPC")
    one.add_argument("--security-groups", nargs="+", default=[], metavar="ID", help="default: the VPC's default one")
    one.add_argument("--instance-types", nargs="+", default=["optimal"], metavar="TYPE", help="on EC2 (optimal)")
    one.add_argument("--instance-role", metavar="PROFILE", help="on EC2 (default: ecsInstanceRole)")
    _changing(add("enable", _environment_enable, "let a compute environment start jobs"), "ENVIRONMENT")
    _changing(add("disable", _environment_disable, "keep it from starting jobs; those that run go on"), "ENVIRONMENT")
    one = add("update", _environment_update, "change how many vCPUs its jobs can have at once")
    _changing(one, "ENVIRONMENT")
    one.add_argument("--max-vcpus", type=int, required=True, metavar="N")
    _changing(add("delete", _environment_delete, "disable and delete one that no queue uses"), "ENVIRONMENT")


# Setting up


def _ask(arguments: argparse.Namespace) -> Callable[[object], bool]:
    def confirm(plan: object) -> bool:
        # With --json only the result goes to stdout.
        (_say if arguments.json else _print)(str(plan))
        if arguments.yes:
            return True
        if not sys.stdin.isatty():
            raise BackendError("nobody is there to ask. Add --yes to go on, or --dry-run to only look.")
        try:
            sys.stderr.write("Go on? [y/N] ")
            sys.stderr.flush()
            answer = sys.stdin.readline()  # nothing at all after Ctrl-D
        except KeyboardInterrupt:
            # Nothing is under way yet, so this is a no like any other.
            answer = ""
        if not answer:
            _say("")
        return answer.strip().lower() in ("y", "yes")

    return confirm


def _setup(arguments: argparse.Namespace) -> int:
    from ezbatch.aws import setup as stack

    if arguments.print_template:
        _print(stack.template())
        return OK
    options: dict[str, Any] = {
        name: getattr(arguments, name)
        for name in (*("name", "vpc", "subnets", "max_vcpus", "ec2", "instance_types", "log_days", "bucket", "data"),)
    }
    if arguments.dry_run:
        plan = stack.plan_setup(**options)
        _print(json.dumps(dataclasses.asdict(plan), indent=2) if arguments.json else str(plan))
        return OK
    try:
        outputs = stack.setup(**options, confirm=_ask(arguments))
    except KeyboardInterrupt:
        _say(
            f"\ninterrupted; what AWS was asked for goes on. `ezbatch setup --name {arguments.name}` takes it up,"
            f" `ezbatch teardown --name {arguments.name}` removes it"
        )
        raise
    if not outputs:
        _say("nothing was made")
        if arguments.json:
            _print("{}")
        return FAILED
    if arguments.save:
        from ezbatch.settings import remember

        _say(f"queue {outputs['Queue']} is the one of your settings now: {remember({'queue': outputs['Queue']})}")
    if arguments.json:
        _print(json.dumps(outputs, indent=2))
        return OK
    for key, value in outputs.items():
        _print(f"{key:<14} {value}")
    _say(f"try it: ezbatch submit -q {outputs['Queue']} -i public.ecr.aws/docker/library/busybox --wait -- echo hello")
    return OK


def _teardown(arguments: argparse.Namespace) -> int:
    from ezbatch.aws import setup as stack

    if arguments.dry_run:
        plan = stack.plan_teardown(name=arguments.name)
        _print(json.dumps(dataclasses.asdict(plan), indent=2) if arguments.json else str(plan))
        return OK
    try:
        gone = stack.teardown(
            name=arguments.name,
            force=arguments.force,
            delete_data=arguments.delete_data,
            confirm=_ask(arguments),
        )
    except KeyboardInterrupt:
        _say(f"\ninterrupted; what AWS was asked for goes on. `ezbatch teardown --name {arguments.name}` goes on, too")
        raise
    if arguments.json:
        _print(json.dumps({"name": arguments.name, "gone": gone}))
    else:
        _say(f"stack {arguments.name} is gone" if gone else "nothing was deleted")
    return OK if gone else FAILED


def _doctor(arguments: argparse.Namespace) -> int:
    from ezbatch.diagnosis import WRONG, doctor

    checks = doctor(arguments.queue, image=arguments.image, architecture=arguments.architecture)
    if arguments.json:
        _print(json.dumps([dataclasses.asdict(check) for check in checks], indent=2))
    else:
        for check in checks:
            _print(str(check))
    return UNUSABLE if any(check.state == WRONG for check in checks) else OK


# By hand


def _table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, no_wrap=column != "why")
    for row in rows:
        table.add_row(*row)
    Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else 160).print(table)


def _told(arguments: argparse.Namespace, found: Environment | JobQueue) -> int:
    if arguments.json:
        _print(json.dumps(dataclasses.asdict(found), indent=2))
    else:
        _print(f"{found.name}: {found.state}, {found.status}")
    return OK


def _told_gone(arguments: argparse.Namespace) -> int:
    # Without waiting it is only on its way.
    gone = not arguments.no_wait
    if arguments.json:
        _print(json.dumps({"name": arguments.name, "gone": gone}))
    else:
        _print(f"{arguments.name}: {'deleted' if gone else 'is being deleted'}")
    return OK


def _queue_list(arguments: argparse.Namespace) -> int:
    from ezbatch.aws import admin

    found = admin.list_queues()
    if arguments.json:
        _print(json.dumps([dataclasses.asdict(one) for one in found], indent=2))
        return OK
    _table(
        ("queue", "state", "status", "priority", "compute environments", "why"),
        [(q.name, q.state, q.status, str(q.priority), ", ".join(q.environments), q.reason) for q in found],
    )
    return OK


def _queue_create(arguments: argparse.Namespace) -> int:
    from ezbatch.aws import admin

    roles: Mapping[str, str | None] = {
        "ezbatch:execution-role": arguments.execution_role,
        "ezbatch:job-role": arguments.job_role,
    }
    tags = {tag: role for tag, role in roles.items() if role}
    made = admin.create_queue(
        arguments.name, arguments.environments, priority=arguments.priority, tags=tags, wait=not arguments.no_wait
    )
    return _told(arguments, made)


def _queue_enable(arguments: argparse.Namespace) -> int:
    from ezbatch.aws import admin

    return _told(arguments, admin.enable_queue(arguments.name, wait=not arguments.no_wait))


def _queue_disable(arguments: argparse.Namespace) -> int:
    from ezbatch.aws import admin

    return _told(arguments, admin.disable_queue(arguments.name, wait=not arguments.no_wait))


def _queue_delete(arguments: argparse.Namespace) -> int:
    from ezbatch.aws import admin

    admin.delete_queue(arguments.name, force=arguments.force, wait=not arguments.no_wait)
    return _told_gone(arguments)


def _environment_list(arguments: argparse.Namespace) -> int:
    from ezbatch.aws import admin

    found = admin.list_environments()
    if arguments.json:
        _print(json.dumps([dataclasses.asdict(one) for one in found], indent=2))
        return OK
    _table(
        ("compute environment", "platform", "state", "status", "vCPUs at most", "why"),
        [
            (e.name, e.platform, e.state, e.status, "-" if e.max_vcpus is None else f"{e.max_vcpus:g}", e.reason)
            for e in found
        ],
    )
    return OK


def _environment_create(arguments: argparse.Namespace) -> int:
    from ezbatch.aws import admin

    made = admin.create_environment(
        arguments.name,
        platform=arguments.platform,
        max_vcpus=arguments.max_vcpus,
        subnets=arguments.subnets,
        security_groups=arguments.security_groups,
        instance_types=arguments.instance_types,
        instance_role=arguments.instance_role,
        wait=not arguments.no_wait,
    )
    return _told(arguments, made)


def _environment_enable(arguments: argparse.Namespace) -> int:
    from ezbatch.aws import admin

    return _told(arguments, admin.enable_environment(arguments.name, wait=not arguments.no_wait))


def _environment_disable(arguments: argparse.Namespace) -> int:
    from ezbatch.aws import admin

    return _told(arguments, admin.disable_environment(arguments.name, wait=not arguments.no_wait))


def _environment_update(arguments: argparse.Namespace) -> int:
    from ezbatch.aws import admin

    wait = not arguments.no_wait
    return _told(arguments, admin.update_environment(arguments.name, max_vcpus=arguments.max_vcpus, wait=wait))


def _environment_delete(arguments: argparse.Namespace) -> int:
    from ezbatch.aws import admin

    admin.delete_environment(arguments.name, wait=not arguments.no_wait)
    return _told_gone(arguments)
