"""Every call to AWS goes through here: clients made once, a limit on the rate, retries that are ours, errors in words.

The SDK's own retries are off. It cannot know that a SubmitJob whose answer was lost must not be sent again, and it
gives up on throttling, which only asks for patience.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ezbatch.errors import BackendError, UnreachableError

if TYPE_CHECKING:
    from ezbatch.settings import Settings

__all__ = ["Clients", "Limiter", "LostAnswerError", "ThrottledError"]

log = logging.getLogger(__name__)

#: AWS lets an account submit so many jobs a second in a Region (AWS Batch user guide, service quotas).
SUBMIT_RATE = 50.0
#: So many may go at once after a pause. More would only be throttled: the rate holds for every second.
SUBMIT_BURST = 1.0
#: Connections kept open; more threads than this never call at once.
CONNECTIONS = 32
CONNECT_TIMEOUT, READ_TIMEOUT = 5, 20
#: Seconds for which a call is repeated when AWS fails or cannot be reached.
PATIENCE = 8.0
#: Seconds of throttling after which a person is told why nothing seems to happen.
TELL_AFTER = 10.0

#: What an answer must hold. boto3 makes of half a body a successful, empty answer, so its absence means: cut off.
_ANSWERS = {
    "submit_job": ("jobId",),
    "register_job_definition": ("jobDefinitionArn", "revision"),
    "describe_jobs": ("jobs",),
    "list_jobs": ("jobSummaryList",),
    "describe_job_definitions": ("jobDefinitions",),
    "describe_job_queues": ("jobQueues",),
    "describe_compute_environments": ("computeEnvironments",),
    "get_log_events": ("events", "nextForwardToken", "nextBackwardToken"),
    "terminate_jobs": ("successful", "errors"),
}

_THROTTLED = re.compile(r"TooManyRequests|Throttl|RequestLimitExceeded|SlowDown", re.IGNORECASE)


class ThrottledError(Exception):
    """AWS asked to be called less often; nothing has happened."""


class LostAnswerError(Exception):
    """The request went out and no answer came back: it may have been handled or not."""


class Limiter:
    """Lets through so many a second, over all threads of the process, and fewer for a while after AWS said so.

    Parameters
    ----------
    rate : float
        A second.
    burst : float
        How many may go at once after a pause.
    """

    def __init__(
        self,
        rate: float,
        burst: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.rate, self.burst = rate, burst
        self.clock, self.sleep = clock, sleep
        self._lock = threading.Lock()
        self._tokens = burst
        self._last = clock()
        self._gone: deque[float] = deque()
        self._penalty = 0.0

    def acquire(self) -> None:
        """Wait for a turn."""
        with self._lock:
            now = self.clock()
            self._tokens = min(self.burst, self._tokens + (now - self._last) * self.rate)
            self._last = now
            self._tokens -= 1
            pause = max(0.0, -self._tokens / self.rate)
        while pause or (pause := self._too_early()):
            self.sleep(pause)
            pause = 0.0

    def _too_early(self) -> float:
        """Note that one goes now, or return for how long it must not: threads that a busy machine woke late bunch."""
        with self._lock:
            now = self.clock()
            while self._gone and self._gone[0] <= now - 1:
                self._gone.popleft()
            if len(self._gone) >= self.rate:
                return self._gone[0] + 1 - now
            self._gone.append(now)
            return 0.0

    def slow_down(self) -> None:
        """Take a longer pause each time in a row that AWS asks for one, then wait for a turn again."""
        with self._lock:
            self._penalty = min(2.0, max(0.05, self._penalty * 2))
            pause = self._penalty * random.uniform(0.5, 1)  # noqa: S311 - so that two processes do not keep step
        self.sleep(pause)

    def speed_up(self) -> None:
        """Forget the penalty: AWS answers."""
        self._penalty = 0.0


class Clients:
    """boto3's clients for one profile and Region, and the rate at which they may submit.

    Parameters
    ----------
    settings : Settings
        Holds the profile and the Region.
    sleep, clock
        A test gives its own.
    """

    def __init__(
        self,
        settings: Settings,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.sleep, self.clock = sleep, clock
        self._lock = threading.Lock()
        self._clients: dict[str, Any] = {}
        self.submits = Limiter(SUBMIT_RATE, SUBMIT_BURST, clock, sleep)

    def client(self, service: str) -> Any:  # noqa: ANN401 - boto3 makes its clients' classes as it goes
        """Return a client, made by the first who asks: sessions are not safe to share between threads, clients are."""
        with self._lock:
            if service not in self._clients:
                import boto3
                from botocore.config import Config

                settings = self.settings
                config = Config(
                    retries={"mode": "standard", "total_max_attempts": 1},
                    max_pool_connections=CONNECTIONS,
                    connect_timeout=CONNECT_TIMEOUT,
                    read_timeout=READ_TIMEOUT,
                    user_agent_extra="ezbatch",
                )
                with translated(f"{service}: make a client"):
                    # AWS's other tools read AWS_REGION; boto3 alone does not.
                    region = settings.region or os.environ.get("AWS_REGION") or None
                    session = boto3.Session(profile_name=settings.profile, region_name=region)
                    self._clients[service] = session.client(service, config=config)  # type: ignore[call-overload] # by name
            return self._clients[service]

    def _log_in_again(self) -> None:
        """Drop the clients: new ones read the credentials again, which the next login will have changed."""
        with self._lock:
            self._clients.clear()

    def has(self, service: str, method: str) -> bool:
        """Return whether this boto3 knows a call."""
        return hasattr(self.client(service), method)

    def once(self, service: str, method: str, **parameters: Any) -> Mapping[str, Any]:  # noqa: ANN401 - the call's own
        """Make a call that must not be repeated blindly.

        Raises
        ------
        ThrottledError
            If AWS asked for patience; nothing happened.
        LostAnswerError
            If it is not known whether it happened.
        UnreachableError
            If it cannot have happened, since nothing was sent.
        BackendError
            If AWS refused.
        """
        from botocore import exceptions as sdk
        from botocore import parsers

        call = getattr(self.client(service), method)
        try:
            answer: Mapping[str, Any] = call(**parameters)
        except sdk.ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if status == 429 or _THROTTLED.search(code):  # noqa: PLR2004 - HTTP's own number
                raise ThrottledError(str(error)) from error
            if status >= 500:  # noqa: PLR2004 - likewise
                raise LostAnswerError(str(error)) from error
            if code in _BY_CODE:
                self._log_in_again()
            raise translate(error, f"{service}:{_operation(method)}") from error
        except (sdk.EndpointConnectionError, sdk.ConnectTimeoutError, sdk.ProxyConnectionError) as error:
            raise translate(error, f"{service}:{_operation(method)}") from error
        except (sdk.HTTPClientError, parsers.ResponseParserError) as error:
            raise LostAnswerError(str(error)) from error
        except sdk.BotoCoreError as error:
            if type(error).__name__ in _BY_CLASS:
                self._log_in_again()
            raise translate(error, f"{service}:{_operation(method)}") from error
        if any(key not in answer for key in _ANSWERS.get(method, ())):
            raise LostAnswerError(f"the answer to {_operation(method)} was cut off")
        return answer

    def call(self, service: str, method: str, *, patience: float = PATIENCE, **parameters: Any) -> Mapping[str, Any]:  # noqa: ANN401 - the call's own
        """Make a call that may be repeated: it reads, or doing it twice is as good as once.

        Throttling is waited out for as long as it lasts; other failures for ``patience`` seconds.

        Raises
        ------
        UnreachableError
            If AWS did not answer.
        BackendError
            If AWS refused.
        """
        began = self.clock()
        deadline = began + patience
        pause = 0.05
        told = False
        while True:
            try:
                return self.once(service, method, **parameters)
            except ThrottledError:
                deadline = self.clock() + patience  # AWS is there
                if not told and self.clock() - began > TELL_AFTER:
                    told = True
                    log.warning("AWS throttles %s; this waits for as long as it lasts", _operation(method))
            except (LostAnswerError, UnreachableError) as error:
                if self.clock() + pause > deadline:
                    if isinstance(error, UnreachableError):
                        raise
                    what = f"{service}:{_operation(method)}"
                    message = f"AWS did not answer {what} ({error}). Try again later; what was submitted goes on."
                    raise UnreachableError(message) from error
            self.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - so that threads do not keep step
            pause = min(pause * 2, 2.0)

    def pages(self, service: str, method: str, key: str, **parameters: Any) -> Iterator[Any]:  # noqa: ANN401 - the call's own
        """Yield the items of every page."""
        following: dict[str, str] = {}
        while True:
            answer = self.call(service, method, **{**parameters, **following})
            yield from answer[key]
            if not answer.get("nextToken"):
                return
            following = {"nextToken": answer["nextToken"]}


def pauses(first: float = 2.0, longest: float = 15.0) -> Iterator[float]:
    """Yield the seconds to wait between looks at something that may take minutes."""
    pause = first
    while True:
        yield pause
        pause = min(pause * 1.3, longest)


def _operation(method: str) -> str:
    return "".join(word.capitalize() for word in method.split("_"))


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn the SDK's errors into ours."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise translate(error, what) from error


_BY_CLASS = {
    "NoCredentialsError": "no AWS credentials were found. Log in (aws sso login, aws configure), or use queue='local'",
    "PartialCredentialsError": "the AWS credentials are incomplete. Complete them, or use queue='local'",
    "NoRegionError": "no AWS Region is set. Set AWS_REGION, or region in the settings",
    "TokenRetrievalError": "the AWS login has expired. Log in again (aws sso login)",
    "UnauthorizedSSOTokenError": "the AWS login has expired. Log in again (aws sso login)",
    "SSOTokenLoadError": "there is no AWS login. Log in (aws sso login)",
    "CredentialRetrievalError": "the AWS credentials could not be fetched. Log in again",
}

_BY_CODE = {
    "ExpiredToken": "the AWS login has expired. Log in again (aws sso login)",
    "ExpiredTokenException": "the AWS login has expired. Log in again (aws sso login)",
    "RequestExpired": "the AWS login has expired, or this machine's clock is wrong. Log in, and check the clock",
    "UnrecognizedClientException": "AWS does not know these credentials. Log in again; check the profile and Region",
    "InvalidClientTokenId": "AWS does not know these credentials. Log in again, and check the profile and Region",
    "InvalidSignatureException": "AWS did not accept the signature. Check the secret key and this machine's clock",
    "SignatureDoesNotMatch": "AWS did not accept the signature. Check the secret key and this machine's clock",
}


def translate(error: Exception, what: str) -> BackendError:
    """Return what a person can act on for an error of the SDK.

    Parameters
    ----------
    error : Exception
        The SDK's.
    what : str
        The call, such as ``batch:SubmitJob``.
    """
    kind = type(error).__name__
    if kind in _BY_CLASS:
        return BackendError(f"{_BY_CLASS[kind]}.")
    if kind == "ProfileNotFound":
        return BackendError(f"{error}. Name a profile that is in ~/.aws/config.")
    if kind in ("EndpointConnectionError", "ConnectTimeoutError", "ProxyConnectionError", "SSLError"):
        return UnreachableError(
            f"AWS cannot be reached for {what}: {error}. Check the network, the Region and the proxy."
        )
    response = getattr(error, "response", None) or {}
    code = str(response.get("Error", {}).get("Code", ""))
    message = str(response.get("Error", {}).get("Message", "") or error)
    if code in _BY_CODE:
        return BackendError(f"{_BY_CODE[code]}.")
    said = str(response.get("Error", {}).get("Message", "")).strip()
    if code.isdecimal() and (not said or said.startswith("<")):
        # AWS names its errors; where there is no name, the SDK gives the HTTP status. A page is a proxy's or a hotel's.
        page = " ".join(said.split())
        answer = f"HTTP {code}: {page[:80]}" if page else f"HTTP {code}"
        return UnreachableError(
            f"AWS cannot be reached for {what}: something else answered ({answer}). "
            "Check the network (a page to log in?), the proxy and AWS_ENDPOINT_URL."
        )
    if code.startswith("AccessDenied") or code == "UnauthorizedOperation":
        found = re.search(r"perform: ([\w:*]+)", message)
        action = found[1] if found else what
        return BackendError(
            f"the credentials lack the right to {action}: {message}. Ask for it, or use another profile."
        )
    return BackendError(f"AWS refused {what}: {message.rstrip('.')}.")
