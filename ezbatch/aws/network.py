"""VPCs and subnets, and whether a job in them gets out: to its registry, to S3, to its logs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ezbatch.aws.clients import Clients

__all__ = ["VPC", "Subnet", "subnets", "vpcs"]

#: The endpoints (last words of their names) that replace a way out for a job whose image is in ECR.
ENDPOINTS = frozenset({"ecr.api", "ecr.dkr", "s3", "logs"})


@dataclasses.dataclass(frozen=True)
class VPC:
    """A network of the account.

    Parameters
    ----------
    id, name : str
        Its id, and the Name tag if it has one.
    default : bool
        Whether AWS made it as the Region's default.
    """

    id: str
    name: str = ""
    default: bool = False

    def __str__(self) -> str:
        return f"{self.id} ({self.name})" if self.name else self.id


@dataclasses.dataclass(frozen=True)
class Subnet:
    """A subnet, and its way out.

    Parameters
    ----------
    id, vpc, zone : str
        Where it is.
    way_out : str
        ``an internet gateway``, ``a NAT gateway``, ``VPC endpoints``, ...; nothing if there is none.
    public_ip : bool
        Whether EC2 instances get a public IP there. Fargate jobs of ezbatch always ask for one.
    free : int
        Addresses that are left.
    """

    id: str
    vpc: str
    zone: str
    way_out: str = ""
    public_ip: bool = False
    free: int = 0

    def __str__(self) -> str:
        return f"{self.id} in {self.zone}: " + (f"out by {self.way_out}" if self.way_out else "no way out")


def _name(tags: Iterable[Mapping[str, str]]) -> str:
    return next((tag["Value"] for tag in tags if tag["Key"] == "Name"), "")


def vpcs(clients: Clients) -> list[VPC]:
    """Return the Region's VPCs, the default one first."""
    found = _pages(clients, "describe_vpcs", "Vpcs")
    made = [VPC(str(item["VpcId"]), _name(item.get("Tags", ())), bool(item.get("IsDefault"))) for item in found]
    return sorted(made, key=lambda vpc: (not vpc.default, vpc.id))


def subnets(clients: Clients, *, vpc: str | None = None, ids: Sequence[str] = ()) -> list[Subnet]:
    """Return a VPC's subnets, or those of these ids, with their way out.

    Raises
    ------
    BackendError
        If one is not there, or the credentials may not look.
    """
    query: dict[str, Any] = {"SubnetIds": list(ids)} if ids else {"Filters": [{"Name": "vpc-id", "Values": [vpc]}]}
    found = list(_pages(clients, "describe_subnets", "Subnets", **query))
    networks = sorted({str(item["VpcId"]) for item in found})
    if not networks:
        return []
    within = [{"Name": "vpc-id", "Values": networks}]
    tables = list(_pages(clients, "describe_route_tables", "RouteTables", Filters=within))
    services: dict[str, set[str]] = {}
    for endpoint in _pages(clients, "describe_vpc_endpoints", "VpcEndpoints", Filters=within):
        # com.amazonaws.us-east-1.ecr.api
        service = ".".join(str(endpoint["ServiceName"]).split(".")[3:])
        services.setdefault(str(endpoint["VpcId"]), set()).add(service)
    made = []
    for item in found:
        way_out = _way_out(_table(tables, str(item["SubnetId"]), str(item["VpcId"])))
        if not way_out and services.get(str(item["VpcId"]), set()) >= ENDPOINTS:
            way_out = "VPC endpoints (to ECR, S3 and logs alone)"
        made.append(
            Subnet(
                str(item["SubnetId"]),
                str(item["VpcId"]),
                str(item.get("AvailabilityZone", "")),
                way_out,
                bool(item.get("MapPublicIpOnLaunch")),
                int(item.get("AvailableIpAddressCount", 0)),
            )
        )
    return sorted(made, key=lambda subnet: (subnet.zone, subnet.id))


def _table(tables: Sequence[Mapping[str, Any]], subnet: str, vpc: str) -> Mapping[str, Any]:
    """Return a subnet's route table: its own, else the VPC's main one."""
    main: Mapping[str, Any] = {}
    for table in tables:
        for association in table.get("Associations", ()):
            if association.get("SubnetId") == subnet:
                return table
            if association.get("Main") and table.get("VpcId") == vpc:
                main = table
    return main


#: Where a default route may lead, by the field that says so.
_WAYS = (
    ("NatGatewayId", "a NAT gateway"),
    ("TransitGatewayId", "a transit gateway"),
    ("NetworkInterfaceId", "an instance that forwards"),
    ("InstanceId", "an instance that forwards"),
)


def _way_out(table: Mapping[str, Any]) -> str:
    for route in table.get("Routes", ()):
        if route.get("DestinationCidrBlock") != "0.0.0.0/0" or route.get("State") == "blackhole":
            continue
        if str(route.get("GatewayId", "")).startswith("igw-"):
            return "an internet gateway"
        for field, words in _WAYS:
            if route.get(field):
                return words
    return ""


def _pages(clients: Clients, method: str, key: str, **query: Any) -> Iterable[Mapping[str, Any]]:  # noqa: ANN401 - the call's own
    """Yield the items of every page: EC2 writes its token with a capital letter."""
    following: dict[str, str] = {}
    while True:
        answer = clients.call("ec2", method, **{**query, **following})
        yield from answer.get(key, ())
        if not answer.get("NextToken"):
            return
        following = {"NextToken": answer["NextToken"]}
