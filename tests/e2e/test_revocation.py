"""Real daemons: tasks of a framework that holds the whole cluster are revoked for one below its guarantee."""

from __future__ import annotations

import queue
import signal
from pathlib import Path

import offerd
from helpers.cli import listing, wait_until
from offerd.ids import ExecutorID, TaskID
from offerd_cli.local_cluster import LocalCluster

COMMAND = offerd.ExecutorInfo(ExecutorID("command"), module="offerd_executors.command")
NEED = offerd.Resources.of(cpus=1, mem="32M")

FILE = """
revoke_after = "500ms"
revoke_grace = "1s"

[allocation.roles.prod]
guarantee = "cpus=1,mem=32M"
"""


class Runner(offerd.Scheduler):
    """Runs these commands, each on its own cpu, and records statuses and notices."""

    def __init__(self, *commands: str) -> None:
        self.waiting = [(TaskID(f"t{number}"), command) for number, command in enumerate(commands)]
        self.statuses: queue.Queue[offerd.TaskStatus] = queue.Queue()
        self.notices: queue.Queue[list[str]] = queue.Queue()

    def resource_offers(self, driver: offerd.SchedulerDriver, offers: list[offerd.Offer]) -> None:
        for offer in offers:
            if self.waiting and offer.resources.covers(NEED):
                task_id, command = self.waiting.pop(0)
                info = offerd.CommandInfo(shell=command)
                task = offerd.TaskInfo(task_id, NEED, COMMAND.executor_id, info, time_limit_s=60)
                driver.reply_to_offer(offer.offer_id, [task])
            else:
                driver.decline_offer(offer.offer_id)

    def status_update(self, driver: offerd.SchedulerDriver, status: offerd.TaskStatus) -> None:
        self.statuses.put(status)

    def revocation_notice(self, driver: offerd.SchedulerDriver, task_ids: list[str], grace_s: float) -> None:
        self.notices.put(task_ids)

    def wait_for(self, task_id: str, state: offerd.TaskState) -> offerd.TaskStatus:
        while True:
            status = self.statuses.get(timeout=60)
            if (status.task_id, status.state) == (task_id, state):
                return status


def test_the_latest_task_of_a_greedy_framework_gives_way_to_a_guarantee(tmp_path: Path) -> None:
    path = tmp_path / "master.toml"
    path.write_text(FILE)
    greedy, prod = Runner("exec sleep 600", "exec sleep 600"), Runner("true")
    with LocalCluster(1, cpus="2", mem="512M", master_options=("--config", str(path))) as cluster:
        first = offerd.SchedulerDriver(
            greedy, offerd.FrameworkInfo("greedy", executors=[COMMAND]), cluster.address
        )
        first.start()
        for task_id in ("t0", "t1"):
            greedy.wait_for(task_id, offerd.TaskState.RUNNING)
        info = offerd.FrameworkInfo("prod", role="prod", executors=[COMMAND])
        second = offerd.SchedulerDriver(prod, info, cluster.address)
        second.start()
        second.wait_registered(30)
        assert second.get_guaranteed_share() == NEED
        explained = listing(cluster, "explain", "prod")
        assert explained["guaranteed"] == {"cpus": 1.0, "mem": 32 << 20}
        assert greedy.notices.get(timeout=60) == ["t1"]
        assert greedy.wait_for("t1", offerd.TaskState.KILLED).reason == offerd.Reason.REVOKED
        prod.wait_for("t0", offerd.TaskState.FINISHED)
        (survivor,) = [
            task for task in listing(cluster, "tasks")["tasks"] if task["framework_name"] == "greedy"
        ]
        assert survivor["task_id"] == "t0"
        for driver in (first, second):
            driver.stop()
            driver.join()


def test_at_sighup_a_changed_file_is_read_and_a_wrong_one_changes_nothing(
    tmp_path: Path,
) -> None:
    path = tmp_path / "master.toml"
    path.write_text("[allocation.roles.prod]\nweight = 2\n")
    with LocalCluster(1, cpus="2", mem="512M", master_options=("--config", str(path))) as cluster:
        info = offerd.FrameworkInfo("prod", role="prod")
        driver = offerd.SchedulerDriver(Runner(), info, cluster.address)
        driver.start()
        driver.wait_registered(30)
        path.write_text("[allocation.roles.prod]\nweight = 'heavy'\n")
        cluster.master.signal(signal.SIGHUP)
        complaint = "the weight must be a number above zero"
        wait_until(lambda: complaint in cluster.master.last_line(), "the master says what is wrong")
        assert driver.get_guaranteed_share() == offerd.Resources.of()
        path.write_text(FILE)
        cluster.master.signal(signal.SIGHUP)
        wait_until(lambda: driver.get_guaranteed_share() == NEED, "the guarantee holds")
        driver.stop()
        driver.join()
