"""Whether a container image is where its name says, and for which processors: a registry's HTTP API, read only."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

__all__ = ["ImageProblem", "architectures", "registry_of"]

DOCKER_HUB = "registry-1.docker.io"
_MANIFESTS = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in (
        "docker.distribution.manifest.list.v2",
        "oci.image.index.v1",
        "docker.distribution.manifest.v2",
        "oci.image.manifest.v1",
    )
)
#: Docker's names of processors -> AWS's.
_NAMES = {"amd64": "X86_64", "arm64": "ARM64"}


class ImageProblem(Exception):  # noqa: N818 - what is wrong with the image, not with the program
    """The image cannot be had: says why."""


def registry_of(image: str) -> tuple[str, str, str]:
    """Return an image's registry, its name there, and its tag or digest."""
    name, _at, digest = image.partition("@")
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        registry = first
    else:
        registry, rest = DOCKER_HUB, name
    if registry in ("docker.io", "index.docker.io"):
        registry = DOCKER_HUB
    rest, colon, tag = rest.rpartition(":") if ":" in rest else (rest, "", "")
    if registry == DOCKER_HUB and "/" not in rest:
        rest = f"library/{rest}"
    return registry, rest, digest or (tag if colon else "latest")


def architectures(image: str, *, authorization: str | None = None, timeout: float = 5.0) -> tuple[str, ...]:
    """Ask an image's registry for which processors it has the image.

    Parameters
    ----------
    image : str
        As a job names it.
    authorization : str, optional
        The HTTP header of that name; without it the registry is asked as anybody may.
    timeout : float
        Seconds for each of at most four requests.

    Returns
    -------
    tuple of str
        ``X86_64``, ``ARM64``, ...; others by the registry's own names.

    Raises
    ------
    ImageProblem
        If the image is not there, or the registry cannot be reached or refuses.
    """
    registry, name, reference = registry_of(image)
    scheme = "http" if registry.partition(":")[0] in ("localhost", "127.0.0.1") else "https"
    base = f"{scheme}://{registry}/v2/{name}"
    headers = {"Accept": _MANIFESTS}
    if authorization:
        headers["Authorization"] = authorization
    try:
        try:
            manifest = _get(f"{base}/manifests/{reference}", headers, timeout)
        except urllib.error.HTTPError as error:
            if error.code != 401 or authorization:  # noqa: PLR2004 - HTTP's own number
                raise
            headers["Authorization"] = _token(error.headers.get("WWW-Authenticate", ""), timeout)
            manifest = _get(f"{base}/manifests/{reference}", headers, timeout)
        if "manifests" in manifest:
            found = [str(one.get("platform", {}).get("architecture", "")) for one in manifest["manifests"]]
        else:
            config = _get(f"{base}/blobs/{manifest['config']['digest']}", headers, timeout)
            found = [str(config.get("architecture", ""))]
    except urllib.error.HTTPError as error:
        raise ImageProblem(_refusal(error.code, registry, name, reference)) from error
    except (OSError, ValueError, KeyError) as error:
        reason = getattr(error, "reason", None) or error
        raise ImageProblem(f"{registry} cannot be asked: {reason}") from error
    # "unknown" stands for attestations, which are no image.
    return tuple(dict.fromkeys(_NAMES.get(one, one) for one in found if one not in ("", "unknown")))


def _refusal(code: int, registry: str, name: str, reference: str) -> str:
    if code == 404:  # noqa: PLR2004 - HTTP's own number
        return f"{registry} has no {name} with the tag or digest {reference}"
    if code in (401, 403):
        return f"{registry} refuses {name}: it is private, or not there"
    if code == 429:  # noqa: PLR2004 - HTTP's own number
        return f"{registry} wants to be asked less often"
    return f"{registry} answers {code}"


def _get(url: str, headers: Mapping[str, str], timeout: float) -> dict[str, Any]:
    # The scheme is one of two, above; what a registry redirects to is followed as a container runtime would.
    request = urllib.request.Request(url, headers=dict(headers))  # noqa: S310 - see above
    with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310 - see above
        found = json.loads(answer.read(4_000_000))
    if not isinstance(found, dict):
        raise ValueError("the answer is no manifest")  # noqa: TRY004 - not a caller's mistake
    return found


def _token(challenge: str, timeout: float) -> str:
    """Return the header for a token that the registry gives to anybody."""
    fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    realm = fields.pop("realm", "")
    if not realm.startswith(("https://", "http://localhost", "http://127.0.0.1")):
        raise ValueError("the registry asks for a password")
    answer = _get(f"{realm}?{urllib.parse.urlencode(fields)}", {}, timeout)
    return f"Bearer {answer.get('token') or answer['access_token']}"
