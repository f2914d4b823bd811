"""AWS's own price list, asked when a person allows it."""

from __future__ import annotations

import dataclasses
from typing import Any

from ezbatch.aws.clients import Clients
from ezbatch.settings import Settings

__all__ = ["listed_prices"]

#: The price list is kept in few Regions, for all of them.
HOME = "us-east-1"


def listed_prices(settings: Settings, clients: Clients | None = None) -> tuple[str, list[str]]:
    """Return the Region of the settings, and what the price list says of AWS Fargate there.

    Parameters
    ----------
    settings : Settings
        Profile and Region.
    clients : Clients, optional
        Instead of those that the settings give.

    Returns
    -------
    tuple of str and list of str
        The products of the service AmazonECS, each as the JSON in which the list has it.

    Raises
    ------
    BackendError
        If the credentials may not ask, or no Region is set.
    UnreachableError
        If AWS does not answer.
    """
    # The session knows the Region where the settings leave it to AWS's own configuration.
    region = str(Clients(settings).client("sts").meta.region_name)
    clients = clients or Clients(dataclasses.replace(settings, region=HOME))
    wanted = [{"Type": "TERM_MATCH", "Field": "regionCode", "Value": region}]
    found: list[str] = []
    following: dict[str, Any] = {}
    while True:
        answer = clients.call("pricing", "get_products", ServiceCode="AmazonECS", Filters=wanted, **following)
        found += answer.get("PriceList", ())
        if not answer.get("NextToken"):
            return region, found
        following = {"NextToken": answer["NextToken"]}
