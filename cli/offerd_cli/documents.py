"""What `--json` prints: one JSON document with these keys. Keys are only ever added.

Resources are in usual units (`offerd.core.usual_units`). Durations are in seconds and end in `_s`; amounts of bytes end in
`_bytes`. Unknown values are null.
"""

from __future__ import annotations

import json

import click

from offerd.core.usual_units import usual_amounts, usual_resources
from offerd.operator_messages import Cluster, FrameworkSummary, SlaveSummary, TaskSummary

Document = dict[str, object]


def print_document(document: Document) -> None:
    """Print one document, indented, on stdout."""
    click.echo(json.dumps(document, indent=2))


def cluster_document(cluster: Cluster) -> Document:
    return {
        "master_id": cluster.master_id,
        "version": cluster.version,
        "epoch": cluster.epoch,
        "up_s": cluster.up_s,
        "allocator": cluster.allocator,
        "slaves": cluster.slaves,
        "frameworks": cluster.frameworks,
        "total": usual_resources(cluster.total),
        "usable": usual_amounts(cluster.usable),
        "withheld": usual_resources(cluster.withheld),
        "used": usual_resources(cluster.used),
        "offered": usual_resources(cluster.offered),
        "tasks": dict(cluster.tasks),
        "dropped_peers": cluster.dropped_peers,
        "refused": cluster.refused,
        "failed_messages": cluster.failed_messages,
        "unsent_messages": cluster.unsent_messages,
        "wasted_resource_s": dict(cluster.wasted_resource_s),
    }


def slave_document(slave: SlaveSummary) -> Document:
    return {
        "slave_id": slave.info.slave_id,
        "hostname": slave.info.hostname,
        "state": slave.state,
        "disk_full": slave.disk_full,
        "isolation": slave.info.isolation,
        "attributes": dict(slave.info.attributes),
        "total": usual_resources(slave.info.resources),
        "used": usual_resources(slave.used),
        "offered": usual_resources(slave.offered),
        "free": usual_resources(slave.free),
        "long_fraction": slave.info.long_fraction,
        "short_limit_s": slave.info.short_limit_s,
        "tasks": slave.tasks,
        "executors": slave.executors,
        "measured_cpus": slave.used_millicpus / 1000,
        "measured_mem_bytes": slave.used_mem_bytes,
        "since_s": slave.since_s,
        "files_address": slave.info.files_address,
        "facts": dict(slave.info.facts),
    }


def framework_document(framework: FrameworkSummary) -> Document:
    return {
        "framework_id": framework.framework_id,
        "name": framework.name,
        "role": framework.role,
        "user": framework.user,
        "hostname": framework.hostname,
        "state": framework.state,
        "used": usual_resources(framework.used),
        "offered": usual_resources(framework.offered),
        "dominant_share": framework.dominant_share,
        "needs_offers": framework.needs_offers,
        "tasks": dict(framework.tasks),
        "wasted_resource_s": dict(framework.wasted_resource_s),
        "since_s": framework.since_s,
        "guaranteed": usual_resources(framework.guaranteed),
        "under_share_s": framework.under_share_s,
        "ramp_up_s": framework.ramp_up_s,
        "completion_s": framework.completion_s,
    }


def task_document(task: TaskSummary) -> Document:
    return {
        "task_id": task.task_id,
        "name": task.name,
        "framework_id": task.framework_id,
        "framework_name": task.framework_name,
        "slave_id": task.slave_id,
        "hostname": task.hostname,
        "executor_id": task.executor_id,
        "state": task.state.value,
        "reason": task.reason,
        "message": task.message,
        "exit_status": task.exit_status,
        "resources": usual_resources(task.resources),
        "time_limit_s": task.time_limit_s,
        "user": task.user,
        "launched_s": task.launched_s,
        "ran_s": task.ran_s,
        "ended_s": task.ended_s,
        "files_address": task.files_address,
        "sandbox": task.sandbox,
        "output": None
        if task.output is None
        else {"stdout_bytes": task.output.stdout_bytes, "stderr_bytes": task.output.stderr_bytes},
    }
