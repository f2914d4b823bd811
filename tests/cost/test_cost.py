"""Costs against amounts worked out by hand from the price list of us-east-1, March 2026."""

from __future__ import annotations

import json
import threading
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from ezbatch import EZBatchJob, EZBatchWorkflow, InvalidWorkflowError, JobReport, JobState, plan
from ezbatch.backend import Attempt
from ezbatch.cli import main
from ezbatch.cost import PRICES, dollars, estimate, hourly, prices_from, spent
from ezbatch.errors import BackendError
from ezbatch.settings import Settings
from ezbatch.spending import estimated

BEGAN = datetime(2026, 3, 1, tzinfo=timezone.utc)

# vCPU, MiB, GiB of storage, architecture, seconds of each attempt, US dollars. Worked out as
#   (vCPU * 0.04048 + GiB * 0.004445 + (storage - 20) * 0.000111) * seconds / 3600, ARM: 0.03238 and 0.00356,
# each attempt a minute at least, rounded to a tenth of a cent.
BY_HAND = [
    (1, 2048, None, None, [3600], 0.049),  # 0.04048 + 0.00889 = 0.04937
    (1, 2048, None, None, [1], 0.001),  # a minute: 0.000823
    (0.25, 512, None, None, [3600], 0.012),  # 0.01012 + 0.0022225 = 0.0123425
    (0.25, 512, None, None, [86400], 0.296),  # * 24 = 0.29622
    (4, 30720, None, None, [7200], 0.591),  # (0.16192 + 0.13335) * 2 = 0.59054
    (4, 16384, 50, None, [7200], 0.473),  # (0.16192 + 0.07112 + 0.00333) * 2 = 0.47274
    (16, 122880, 200, None, [36000], 12.011),  # (0.64768 + 0.5334 + 0.01998) * 10 = 12.0106
    (2, 4096, None, "ARM64", [3600], 0.079),  # 0.06476 + 0.01424 = 0.079
    (2, 4096, None, "X86_64", [3600], 0.099),  # 0.08096 + 0.01778 = 0.09874
    (8, 61440, None, None, [1800], 0.295),  # (0.32384 + 0.2667) / 2 = 0.29527
    (1, 2048, 21, None, [3600], 0.049),  # + 0.000111 = 0.049481
    (1, 2048, None, None, [1800, 1800], 0.049),
    (1, 2048, None, None, [30, 30], 0.002),  # two minutes: 0.0016457
    (32, 249856, None, None, [3600], 2.380),  # 1.29536 + 1.08458 = 2.37994
    (0.5, 1024, None, None, [5400], 0.037),  # (0.02024 + 0.004445) * 1.5 = 0.0370275
    (1, 8192, None, None, [600], 0.013),  # (0.04048 + 0.03556) / 6 = 0.0126733
    (2, 16384, None, "ARM64", [60], 0.002),  # (0.06476 + 0.05696) / 60 = 0.0020287
    (4, 8192, 100, "ARM64", [3600], 0.167),  # 0.12952 + 0.02848 + 0.00888 = 0.16688
    (1, 3072, None, None, [3600], 0.054),  # 0.04048 + 0.013335 = 0.053815
    (8, 16384, None, None, [900, 900, 900], 0.296),  # (0.32384 + 0.07112) * 0.75 = 0.29622
]


@pytest.mark.parametrize(("vcpus", "memory", "storage", "architecture", "took", "amount"), BY_HAND)
def test_what_was_spent_is_what_a_hand_calculation_gives(
    vcpus: float, memory: int, storage: int | None, architecture: str | None, took: list[int], amount: float
) -> None:
    job = EZBatchJob(
        "busybox", "true", vcpus=vcpus, memory=memory, storage_size=storage, architecture=architecture, retries=9
    )
    made = plan(EZBatchWorkflow("w", {"job": job}), "queue")
    attempts = tuple(Attempt(n, BEGAN, BEGAN + timedelta(seconds=t)) for n, t in enumerate(took, 1))
    found = spent(made, {"job": JobReport("job", "id", JobState.SUCCEEDED, attempts)}, BEGAN)
    assert found.total == pytest.approx(amount, abs=0.0006)
    assert "2026-03" in str(found)


def test_what_still_runs_costs_until_now_and_what_never_ran_costs_nothing() -> None:
    made = plan(EZBatchWorkflow("w", {"a": EZBatchJob("b", "true"), "b": EZBatchJob("b", "true")}), "queue")
    reports = {
        "a": JobReport("a", "1", JobState.RUNNING, (Attempt(1, BEGAN),)),
        "b": JobReport("b", "2", JobState.BLOCKED),
    }
    found = spent(made, reports, BEGAN + timedelta(hours=2))
    assert [(row.name, row.seconds) for row in found.rows] == [("a", 7200)]
    assert found.total == pytest.approx(2 * 0.04937)


def test_an_array_costs_what_its_children_cost_or_says_that_it_is_not_known() -> None:
    made = plan(EZBatchWorkflow("w", {"a": EZBatchJob("b", "true", array=3)}), "queue")
    report = JobReport("a", "1", JobState.SUCCEEDED, children={JobState.SUCCEEDED: 3})
    spans = [(BEGAN, BEGAN + timedelta(hours=1))] * 3
    assert spent(made, {"a": report}, BEGAN, {"a": spans}).total == pytest.approx(3 * 0.04937)
    assert any("not known any more: a" in note for note in spent(made, {"a": report}, BEGAN).notes)


def test_before_it_is_a_minute_to_every_attempts_timeout_joins_included() -> None:
    parents = {f"p{i}": EZBatchJob("b", "true", timeout=3600, retries=1) for i in range(21)}
    jobs = {**parents, "end": EZBatchJob("b", "true", timeout=7200, array=10)}
    found = estimate(plan(EZBatchWorkflow("w", jobs, {"end": list(parents)}), "queue"))
    joins = found.rows[-1]
    assert (joins.name, joins.count) == ("joins", 1)
    minute = 0.04937 / 60
    assert found.at_least == pytest.approx(31 * minute + 0.0123425 / 60)
    assert found.at_most == pytest.approx(21 * 2 * 0.04937 + 10 * 2 * 0.04937 + 0.0123425 / 60)


def test_without_a_timeout_there_is_no_upper_limit_and_history_gives_one() -> None:
    made = plan(EZBatchWorkflow("w", {"a": EZBatchJob("b", "true")}), "queue")
    assert estimate(made).at_most is None
    assert estimate(made).endless == ("a",)
    known = estimate(made, {"a": [3600, 7200]})
    assert known.at_least == pytest.approx(0.04937)
    assert known.at_most == pytest.approx(2 * 0.04937)


def test_ec2_is_labelled_approximate_row_by_row() -> None:
    jobs = {
        "instance": EZBatchJob("b", "true", platform="EC2", timeout=60),
        "task": EZBatchJob("b", "true", timeout=60),
    }
    made = plan(EZBatchWorkflow("w", jobs), "queue")
    before = estimate(made)
    reports = {name: JobReport(name, "1", JobState.SUCCEEDED, (Attempt(1, BEGAN, BEGAN),)) for name in jobs}
    for found in (before, spent(made, reports, BEGAN)):
        assert any("approximate (~)" in note for note in found.notes)
        assert {row.name: row.approximate for row in found.rows} == {"instance": True, "task": False}
        shown = {line.split()[0]: line for line in str(found).splitlines() if "$" in line}
        assert "~$0.00082" in shown["instance"]
        assert "~" not in shown["task"]
        assert "~" in shown["all"]
        assert not any("GPU" in note for note in found.notes)


def test_what_gpus_cost_is_not_guessed() -> None:
    workflow = EZBatchWorkflow("w", {"a": EZBatchJob("b", "true", platform="EC2", gpus=1, timeout=60)})
    assert any("GPUs are left out" in note for note in estimate(plan(workflow, "queue")).notes)
    with pytest.raises(InvalidWorkflowError, match="GPUs of a cost is not known"):
        workflow.submit("queue", max_cost=1000)


def test_spot_is_labelled() -> None:
    # On-Demand prices stand there whatever the queue, and say so.
    made = plan(EZBatchWorkflow("w", {"a": EZBatchJob("b", "true")}), "ezbatch-spot")
    for found in (estimate(made), spent(made, {}, BEGAN)):
        assert "Fargate On-Demand, us-east-1, 2026-03; on Fargate Spot up to 70 % less." in str(found)


@pytest.mark.parametrize("limit", [float("nan"), -1])
@pytest.mark.parametrize("queue", ["queue", "local"])
def test_a_limit_that_is_none_is_refused(limit: float, queue: str) -> None:
    workflow = EZBatchWorkflow("w", {"a": EZBatchJob("b", "true", timeout=60)})
    with pytest.raises(InvalidWorkflowError, match="is no amount to spend"):
        workflow.submit(queue, max_cost=limit)


def test_the_command_refuses_and_its_json_holds_the_sums(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["submit", "-q", "queue", "-i", "b", "--timeout", "10h", "--array", "100"]
    assert main([*words, "--max-cost", "10", "--", "true"]) == 2
    assert "up to $49.37 if every attempt ran until its timeout, more than $10.00" in capsys.readouterr().err
    path = tmp_path / "w.json"
    EZBatchWorkflow("w", {"a": EZBatchJob("b", "true", timeout=3600)}).save(path)
    assert main(["cost", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["at_most"] == pytest.approx(0.04937)
    assert found["at_least"] == pytest.approx(0.04937 / 60)


# AWS's price list


def product(usage: str, price: str, term: str = "OnDemand") -> str:
    """What the price list says of one thing that is billed."""
    dimensions = {"S.T.D": {"unit": "hours", "pricePerUnit": {"USD": price}}}
    return json.dumps(
        {
            "product": {"productFamily": "Compute", "attributes": {"usagetype": usage, "regionCode": "eu-west-1"}},
            "serviceCode": "AmazonECS",
            "terms": {term: {"S.T": {"priceDimensions": dimensions, "effectiveDate": "2026-11-01T00:00:00Z"}}},
            "publicationDate": "2026-11-20T18:00:00Z",
        }
    )


LISTED = [
    product("EU-Fargate-vCPU-Hours:perCPU", "0.0500000000"),
    product("EU-SpotUsage:Fargate-vCPU-Hours:perCPU", "0.0100000000"),
    product("EU-Fargate-Windows-vCPU-Hours:perCPU", "0.0900000000"),
    product("EU-Fargate-GB-Hours", "0.0050000000"),
    product("EU-Fargate-ARM-vCPU-Hours:perCPU", "0.0400000000"),
    product("EU-Fargate-ARM-GB-Hours", "0.0040000000"),
    product("EU-Fargate-EphemeralStorage-GB-Hours", "0.0002000000"),
    product("EU-ECS-EC2-vCPU-Hours", "0.0100000000"),
]


def test_the_price_list_is_read() -> None:
    found = prices_from(LISTED, "eu-west-1")
    assert (found.date, found.region) == ("2026-11-20", "eu-west-1")
    assert hourly(1, 1024, 30, prices=found).total == pytest.approx(0.05 + 0.005 + 10 * 0.0002)
    assert hourly(1, 1024, None, "ARM64", found).total == pytest.approx(0.04 + 0.004)
    with pytest.raises(BackendError, match="has no Fargate-EphemeralStorage-GB-Hours for eu-west-1"):
        prices_from(LISTED[:6], "eu-west-1")


class PriceList(BaseHTTPRequestHandler):
    """AWS's price list, in pages."""

    asked: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append({"what": self.headers["X-Amz-Target"], "where": self.headers["Authorization"], **body})
        first = "NextToken" not in body
        answer = {"PriceList": LISTED[:4] if first else LISTED[4:], **({"NextToken": "2"} if first else {})}
        raw = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


def test_when_allowed_aws_is_asked_for_its_prices(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "w.json"
    EZBatchWorkflow("w", {"a": EZBatchJob("b", "true", timeout=3600)}).save(path)
    PriceList.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), PriceList) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_address[1]}",
            "AWS_REGION": "eu-west-1",
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "x",
        }.items():
            monkeypatch.setenv(name, value)
        assert main(["cost", str(path)]) == 0
        assert PriceList.asked == []
        assert "us-east-1, 2026-03" in capsys.readouterr().out
        assert main(["cost", str(path), "--current-prices"]) == 0
        server.shutdown()
        thread.join()
    out = capsys.readouterr().out
    assert "eu-west-1, 2026-11-20" in out
    assert "$0.060" in out
    assert len(PriceList.asked) == 2
    for asked in PriceList.asked:
        assert asked["what"] == "AWSPriceListService.GetProducts"
        # The price list has few homes; what it is asked about is the Region of the settings.
        assert "/us-east-1/pricing/" in asked["where"]
        assert asked["Filters"] == [{"Type": "TERM_MATCH", "Field": "regionCode", "Value": "eu-west-1"}]


def test_max_cost_refuses_what_could_cost_more_and_what_has_no_limit() -> None:
    dear = EZBatchWorkflow("w", {"a": EZBatchJob("b", "true", timeout=36_000, array=100)})
    with pytest.raises(InvalidWorkflowError, match=r"up to \$49\.37 .* more than \$10\.00"):
        dear.submit("queue", max_cost=10)
    endless = EZBatchWorkflow("w", {"a": EZBatchJob("b", "true")})
    with pytest.raises(InvalidWorkflowError, match="nothing limits the cost of a"):
        endless.submit("queue", max_cost=10)


def test_earlier_runs_stand_behind_an_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EZBATCH_LOCAL_RUNNER", "process")
    workflow = EZBatchWorkflow("seen", {"a": EZBatchJob("b", "true")})
    settings = Settings.load()
    assert not estimated(workflow).rows[0].observed
    workflow.submit("local", settings=settings).wait(progress=False).raise_for_status()
    assert estimated(workflow).rows[0].observed


def test_a_local_run_says_that_nothing_was_billed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EZBATCH_LOCAL_RUNNER", "process")
    jobs = {"a": EZBatchJob("b", "true"), "many": EZBatchJob("b", "true", array=3)}
    found = EZBatchWorkflow("w", jobs).submit("local").wait(progress=False).cost()
    assert found.total == pytest.approx(4 * 0.04937 / 60)
    assert "nothing was billed" in str(found)


def test_amounts_read_well() -> None:
    assert [dollars(a) for a in (0, 0.00082, 0.0123, 0.25, 1, 1234.5)] == [
        "$0.00",
        "$0.00082",
        "$0.012",
        "$0.250",
        "$1.00",
        "$1,234.50",
    ]


def test_the_price_table_is_dated() -> None:
    assert PRICES.date
    assert hourly(1, 1024).total == pytest.approx(0.04048 + 0.004445)
