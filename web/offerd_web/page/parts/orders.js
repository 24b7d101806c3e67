// The orders that the page can give, each with its question.
import { post, taskPath } from "../api.js";
import { parseDuration, plural } from "../units.js";
import { ask } from "./dialog.js";

export function killTask(task) {
  ask({
    title: `Kill task ${task.task_id}?`,
    text: `It is ${task.name && task.name !== task.task_id ? `“${task.name}” ` : ""}of ${task.framework_name || task.framework_id}, on `
      + `${task.hostname || task.slave_id}. Its scheduler is sent the end as TASK_KILLED, and may launch it again.`,
    verb: "Kill the task",
    isDangerous: true,
    order: () => post(`${taskPath(task.framework_id, task.task_id)}/kill`),
  });
}

export function endFramework(framework) {
  const open = (framework.tasks.TASK_RUNNING || 0) + (framework.tasks.TASK_STAGING || 0);
  ask({
    title: `End framework ${framework.name}?`,
    text: `${framework.framework_id}: ${open ? `its ${plural(open, "open task")} will be killed, and` : "it has no open tasks;"} `
      + "its schedulers will be refused from then on. This cannot be taken back.",
    verb: "End the framework",
    isDangerous: true,
    order: () => post(`/v1/frameworks/${encodeURIComponent(framework.framework_id)}/end`),
  });
}

function mode(slave, body) {
  return post(`/v1/slaves/${encodeURIComponent(slave.slave_id)}/mode`, body);
}

export function drainSlave(slave) {
  ask({
    title: `Drain ${slave.hostname}?`,
    text: `${slave.slave_id} will be offered to nobody. Its tasks may end by themselves; then it is drained, and stays so until it is activated.`,
    verb: "Drain the slave",
    isDangerous: true,
    input: {
      label: "End tasks that still run after (empty: never)",
      placeholder: "30m",
      check: (text) => (text.trim() && parseDuration(text) === null ? "write a duration such as 90s, 30m or 2h" : ""),
    },
    order: (text) => mode(slave, { mode: "draining", ...(text.trim() ? { deadline_s: parseDuration(text) } : {}) }),
  });
}

export function deactivateSlave(slave) {
  ask({
    title: `Deactivate ${slave.hostname}?`,
    text: `${slave.slave_id} will be offered to nobody until it is activated. Its tasks run on.`,
    verb: "Deactivate the slave",
    isDangerous: true,
    order: () => mode(slave, { mode: "deactivated" }),
  });
}

export function activateSlave(slave) {
  ask({
    title: `Activate ${slave.hostname}?`,
    text: `${slave.slave_id} will be offered to frameworks again.`,
    verb: "Activate the slave",
    order: () => mode(slave, { mode: "active" }),
  });
}
