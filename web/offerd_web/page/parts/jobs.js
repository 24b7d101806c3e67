// Tasks of one framework put together to jobs, by the ids that offerd's own frameworks give them.
import { stateWord } from "../units.js";

const MAP_REDUCE = /^(.+)\.([mr])(\d+)\.(\d+)$/; // JOB.mNNNNN.ATTEMPT
const NUMBERED = /^(.+)\.(\d+)$/; // JOB.NUMBER, of `offerd run` and `offerd mpi`
const MOST_CELLS = 400;
const TOGETHER_S = 0.25;

/** [{title, parts: [{name, tasks, words}]}]; the latest job first. Tasks of no job are left out. */
export function jobsOf(tasks) {
  const jobs = new Map();
  for (const task of tasks) {
    const place = placeOf(task);
    if (!place) continue;
    if (!jobs.has(place.job)) jobs.set(place.job, { id: place.job, kind: place.kind, title: place.job, launched: 0, parts: new Map() });
    const job = jobs.get(place.job);
    job.launched = Math.max(job.launched, task.launched_at);
    if (task.name && place.kind === "mapreduce") job.title = task.name.replace(/ (map|reduce) \d+$/, "");
    if (!job.parts.has(place.part)) job.parts.set(place.part, new Map());
    const part = job.parts.get(place.part);
    const known = part.get(place.index);
    // Of several attempts the one that counts: that which has finished, or else the latest.
    if (!known || rank(task) > rank(known) || (rank(task) === rank(known) && task.launched_at > known.launched_at)) part.set(place.index, task);
  }
  return [...jobs.values()].filter((job) => job.kind === "mapreduce" || job.parts.get("tasks").size > 1)
    .sort((one, other) => other.launched - one.launched).map(shown);
}

function rank(task) {
  return task.state === "TASK_FINISHED" ? 2 : task.ended_at === null ? 1 : 0;
}

function placeOf(task) {
  const found = MAP_REDUCE.exec(task.task_id);
  if (found) return { kind: "mapreduce", job: found[1], part: found[2], index: Number(found[3]) };
  const numbered = NUMBERED.exec(task.task_id);
  return numbered && { kind: "numbered", job: numbered[1], part: "tasks", index: Number(numbered[2]) };
}

/** The tasks of a gang are launched together. */
function isGang(tasks) {
  const times = tasks.map((task) => task.launched_at);
  return tasks.length > 1 && Math.max(...times) - Math.min(...times) < TOGETHER_S;
}

function shown(job) {
  const order = ["m", "r", "tasks"].filter((part) => job.parts.has(part));
  return {
    id: job.id,
    title: job.title,
    parts: order.map((part) => {
      const tasks = [...job.parts.get(part)].sort((one, other) => one[0] - other[0]).map(([, task]) => task);
      const counts = new Map();
      for (const task of tasks) counts.set(stateWord(task.state), (counts.get(stateWord(task.state)) || 0) + 1);
      return {
        name: { m: "maps", r: "reduces", tasks: isGang(tasks) ? "gang" : "tasks" }[part],
        tasks: tasks.slice(0, MOST_CELLS),
        words: [...counts].map(([state, amount]) => `${amount} ${state}`).join(", "),
      };
    }),
  };
}
