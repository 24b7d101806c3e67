"""The part of the protocol with which an operator follows a master: what the cluster holds, and each change of it.

    follower --FollowChanges--> master        what has changed since this number?
             <----Changes------

The master answers as soon as something has changed, or when `wait_s` is over; then the follower asks again with the
numbers of that answer. For each slave, framework and open task the master remembers the number of its last change, and
answers with the thing as it is now: a slow follower costs no more than a fast one, and may miss steps on the way, but
never the last. Ends of tasks are a log: each is sent once, in order, as far back as the master remembers.
`offerd.core.replica` puts the answers together.  The rules are those of `offerd.messages`. A `Moment` is in seconds on
the master's clock; `Changes.now` is the moment of the answer.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from offerd.ids import ContainerID, ExecutorID, FrameworkID, OfferID, SlaveID, TaskID
from offerd.messages import (
    PROTOCOL,
    FrameworkInfo,
    Message,
    SlaveInfo,
    TaskOutput,
    TaskState,
    TaskUsage,
    Value,
)
from offerd.resources import NOTHING, Resources
from offerd.values.bounds import (
    A_PAGE,
    MANY,
    Amount,
    Count,
    Epoch,
    ExitStatus,
    Name,
    PageSize,
    Protocol,
    Quantities,
    Quotient,
    ResourceSeconds,
    Tallies,
    Text,
    WallClock,
    WishedSeconds,
)  # fmt: skip

MAX_WAIT_S = 30.0
"""The longest that a master lets a follower wait for an answer."""
Moment = WallClock
"""Seconds on the master's clock, which begins at no particular time. What ran before the master began may be below zero."""

TIMING_BOUNDS_S = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""The longest durations that a timing's buckets hold, in seconds; the last bucket, after these, holds all above."""

# -- Values -------------------------------------------------------------------------------------------------------------


class ExecutorNow(Value, frozen=True):
    """An executor on a slave."""

    framework_id: FrameworkID
    """Its framework."""
    executor_id: ExecutorID
    """Its id, unique within the framework."""
    resources: Resources = NOTHING
    """What it holds itself, beside its tasks."""
    user: Name = ""
    """Who runs it."""


class OfferNow(Value, frozen=True):
    """An offer that is not answered yet."""

    offer_id: OfferID
    """Its id."""
    framework_id: FrameworkID
    """The framework that thinks about it."""
    resources: Resources
    """What is offered."""
    until: Moment
    """When it is rescinded."""


class SlaveNow(Value, frozen=True):
    """A slave. Tasks and executors hold the part of its resources (`SlaveInfo`) that is neither free nor offered. Executors and
    offers of frameworks that the follower may not see are left out.
    """

    slave_id: SlaveID
    """Its id."""
    state: Name
    """active | deactivated | draining | drained | lost."""
    since: Moment
    """Since when it has been registered without a loss, or lost."""
    is_connected: bool
    """A connection stands; without one the slave is silent, and not lost yet."""
    free: Resources = NOTHING
    """What is neither held nor offered."""
    long_used: Quantities = {}
    """What long tasks hold."""
    executors: Annotated[list[ExecutorNow], MANY] = []
    """The executors that run there."""
    offers: Annotated[list[OfferNow], MANY] = []
    """The open offers of it."""
    used_millicpus: Amount = 0
    """Thousandths of a cpu in use, as the slave measures them."""
    used_mem_bytes: Amount = 0
    """Memory in use, as the slave measures it."""
    is_disk_full: bool = False
    """It is offered to nobody until its disk has room."""


class FrameworkNow(Value, frozen=True):
    """A framework. What it holds is to be summed over its tasks, executors and offers."""

    framework_id: FrameworkID
    """Its id."""
    state: Name
    """active | disconnected | ended."""
    since: Moment
    """When it registered first with this master or one before it."""
    needs_offers: bool = True
    """It wants offers."""
    share: Quotient = 0.0
    """Its part of the cluster, 0 to 1, as the allocation module counts it."""
    guaranteed: Resources = NOTHING
    """What it may hold without losing a task."""
    under_share_since: Moment | None = None
    """Since when it has been under its share. None: it is not."""
    schedulers: Count = 0
    """How many are connected: the active one and those that stand by."""
    ended_counts: Tallies = {}
    """State to the number of its tasks that ended in it."""
    wasted_resource_s: ResourceSeconds = {}
    """Resource name to amount times seconds, lost to time limits."""
    ramp_up_s: WallClock | None = None
    """From its first wish for offers to its fair share, or to all that it wanted. None: not known."""
    ended_at: Moment | None = None
    """When it ended. None: it has not."""


class TaskNow(Value, frozen=True):
    """A task that has not ended."""

    task_id: TaskID
    """Its id, unique within the framework."""
    framework_id: FrameworkID
    """Its framework."""
    slave_id: SlaveID
    """The slave that it was launched on."""
    executor_id: ExecutorID
    """The executor that runs it."""
    state: TaskState
    """Its state, which is not terminal."""
    name: Name
    """What its framework calls it."""
    resources: Resources
    """What it holds."""
    time_limit_s: WishedSeconds | None
    """How long it may run. None: without a limit."""
    is_long: bool
    """It counts against the part of the slave for long tasks."""
    launched_at: Moment
    """When the master launched it."""
    running_since: Moment | None
    """When it first ran. None: it has not."""
    container_id: ContainerID
    """The container that it runs in; empty: not known yet."""
    is_command: bool
    """It has a directory of its own in its container's sandbox."""
    is_being_killed: bool
    """Somebody has asked for its end."""
    message: Text = ""
    """What was said when it began to run."""


class EndedTask(Value, frozen=True):
    """How a task ended."""

    task_id: TaskID
    """Its id, which its framework may have used again since."""
    framework_id: FrameworkID
    """Its framework."""
    slave_id: SlaveID
    """The slave that it was launched on."""
    executor_id: ExecutorID
    """The executor that ran it."""
    state: TaskState
    """Its terminal state."""
    name: Name
    """What its framework called it."""
    resources: Resources
    """What it held."""
    time_limit_s: WishedSeconds | None
    """How long it could run. None: without a limit."""
    reason: Name
    """Why it ended so; empty if it ended by itself."""
    message: Text
    """The same for people."""
    exit_status: ExitStatus | None
    """That of its program. None: there is none."""
    launched_at: Moment
    """When the master launched it."""
    running_since: Moment | None
    """When it first ran. None: it never did."""
    ended_at: Moment
    """When the master heard of its end."""
    container_id: ContainerID
    """The container that it ran in; empty: not known."""
    is_command: bool
    """It has a directory of its own in its container's sandbox."""
    output: TaskOutput | None = None
    """How much it wrote. None: not known."""
    user: Name = ""
    """Who ran it; empty: not known."""
    usage: TaskUsage | None = None
    """What it used. None: its isolation could not say."""


class Timing(Value, frozen=True):
    """How long something took, all the times that it was done."""

    counts: Annotated[list[Count], Meta(max_length=64)]
    """For each bucket of `TIMING_BOUNDS_S`, how often it took as long: up to its bound, and longer than the one before."""
    sum_s: Quotient
    """The durations together, in seconds."""


Timings = Annotated[dict[Name, Timing], Meta(max_length=64)]
"""Timings by name."""


class MasterNow(Value, frozen=True):
    """The master that answers, and what it counts of the whole cluster."""

    master_id: Name
    """Its id."""
    version: Name
    """Its version of offerd."""
    allocator: Name
    """Its allocation module."""
    started_at: Moment
    """When it began to lead."""
    ended_counts: Tallies = {}
    """State to the number of tasks that ended in it."""
    wasted_resource_s: ResourceSeconds = {}
    """Resource name to amount times seconds, lost to time limits."""
    dropped_peers: Count = 0
    """Peers that it has hung up on."""
    refused: Count = 0
    """Handshakes and messages that keys do not allow."""
    failed_messages: Count = 0
    """Messages whose handling raised an error that nobody foresaw."""
    unsent_messages: Count = 0
    """Messages of its own that no frame could hold."""
    epoch: Epoch = 0
    """The epoch that it leads in; 0: an older master, which does not say."""
    counts: Tallies = {}
    """Name to what the master has counted of its work since it leads: `offerd_master.core.counts`, and `messages_sent`."""
    gauges: Tallies = {}
    """Name to how many there are now. `followers`, `offers`, `peers` (registered slaves and schedulers), `dirty_slaves`
    (whose free resources are to be offered), `idle_slaves` (whose free resources nobody wants), `connections` (TCP),
    `peers_waiting` and `bytes_waiting` (what was received and is not handled yet), `peers_with_backlog` (which do not read).
    """
    timings: Timings = {}
    """Name to how long it took, since the master leads. `tick`: one tick of the core, with its turn of allocation; `loop_lag`:
    the time from when something was there to read, or was due, to when the loop began to read (`offerd.daemons.timings`).
    """


# -- Question and answer ------------------------------------------------------------------------------------------------


class FollowChanges(Message, frozen=True):
    """What has changed since the answer with these numbers? Without them everything is sent. Answered by `Changes`."""

    origin: Name = ""
    """That of the answer; empty: there was none."""
    after: Count = 0
    """That of the answer."""
    ended_after: Count = 0
    """That of the answer."""
    wait_s: WishedSeconds = 10.0
    """How long to wait for a change; 30 s at most."""
    limit: PageSize = 1000
    """The most entries that the answer may have; 1,000 at most."""
    protocol: Protocol = PROTOCOL
    """That of the follower."""


class Changes(Message, frozen=True):
    """What has changed. `ended` comes before everything else of the same answer, and what is forgotten before what is there.
    An id may be used again: an end is that of the task with the same `launched_at`.
    """

    origin: Name
    """Whose numbers these are: another master's, or those of another counting, begin anew."""
    after: Count
    """The number of the last change that is in this answer or one before it."""
    ended_after: Count
    """The same of ends of tasks."""
    now: Moment
    """The moment of this answer."""
    master: MasterNow
    """Who answers."""
    is_reset: bool = False
    """What was known before is void: everything is sent again."""
    has_more: bool = False
    """The answer is full: ask again at once."""
    ended_missed: Count = 0
    """How many ends of tasks the follower will never hear of, as the master does not remember them any more."""
    ended: Annotated[list[EndedTask], A_PAGE] = []
    """Tasks that have ended, in order."""
    forgotten_slaves: Annotated[list[SlaveID], A_PAGE] = []
    """Slaves that the master does not remember any more."""
    forgotten_frameworks: Annotated[list[FrameworkID], A_PAGE] = []
    """Frameworks that the master does not remember any more."""
    forgotten_tasks: Annotated[list[tuple[FrameworkID, TaskID, Moment]], A_PAGE] = []
    """Tasks that are not open any more, and whose ends are not sent, with the moments of their launch."""
    slave_infos: Annotated[list[SlaveInfo], A_PAGE] = []
    """What slaves say of themselves, where that is new."""
    slaves: Annotated[list[SlaveNow], A_PAGE] = []
    """Slaves that have changed."""
    framework_infos: Annotated[list[FrameworkInfo], A_PAGE] = []
    """What schedulers say of their frameworks, without the executors, where that is new."""
    frameworks: Annotated[list[FrameworkNow], A_PAGE] = []
    """Frameworks that have changed."""
    tasks: Annotated[list[TaskNow], A_PAGE] = []
    """Tasks that have changed and have not ended."""
    owner: Name = ""
    """Whose frameworks alone are in it; empty: all are."""
