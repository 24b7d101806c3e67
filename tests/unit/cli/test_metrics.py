"""`offerd metrics`, read back by Prometheus' own parser."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from offerd.ids import FrameworkID
from offerd.messages import SlaveInfo
from offerd.operator_messages import Cluster, FrameworkSummary, SlaveSummary
from offerd.resources import Resources
from offerd_cli.metrics import exposition

CLUSTER = Cluster(
    "M-1", "1.0", 7, 12.5, 2, 1, Resources.of(cpus=8, mem="4G"), Resources.of(cpus="0.5"), Resources.of(),
    {"TASK_RUNNING": 3}, wasted_resource_s={"cpus": 2.5}, withheld=Resources.of(cpus=2),
)  # fmt: skip
FRAMEWORK = FrameworkSummary(
    FrameworkID("F-1"), 'a "quoted" name', "prod", "nobody", "active", dominant_share=0.25,
    tasks={"TASK_RUNNING": 3}, wasted_resource_s={"mem": 1024.0}, under_share_s=4.0, ramp_up_s=0.25,
)  # fmt: skip


def test_every_number_is_found_under_its_name_and_labels() -> None:
    slaves = [SlaveSummary(SlaveInfo("a", Resources.of()), "active", disk_full=True)]
    ended = FrameworkSummary(FrameworkID("F-0"), "b", "*", "", "ended", completion_s=90.0)
    text = exposition(CLUSTER, slaves, [FRAMEWORK, ended])
    found = {
        (sample.name, frozenset(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }

    def value(name: str, *labels: str) -> float:
        return found[name, frozenset(labels)]

    who = ("F-1", 'a "quoted" name', "prod")
    assert value("offerd_resources", "cpus", "total") == 8
    assert value("offerd_resources", "mem", "total") == 4 << 30
    assert value("offerd_resources", "cpus", "used") == 0.5
    assert value("offerd_resources", "cpus", "withheld") == 2
    assert value("offerd_tasks", "TASK_RUNNING") == 3
    assert value("offerd_wasted_resource_seconds_total", "cpus") == 2.5
    assert value("offerd_slaves", "active") == 1
    assert value("offerd_slaves", "lost") == 0
    assert value("offerd_slaves_disk_full") == 1
    assert value("offerd_framework_dominant_share", *who) == 0.25
    assert value("offerd_framework_under_share_seconds", *who) == 4
    assert value("offerd_framework_tasks", *who, "TASK_RUNNING") == 3
    assert value("offerd_framework_ramp_up_seconds", *who) == 0.25
    assert value("offerd_framework_completion_seconds", "F-0", "b", "*") == 90
    of_ended = {name for name, labels in found if "F-0" in labels}
    assert of_ended == {"offerd_framework_completion_seconds"}, "what has ended has no share"
    assert value("offerd_framework_wasted_resource_seconds_total", *who, "mem") == 1024
