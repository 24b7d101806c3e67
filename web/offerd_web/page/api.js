// Requests to the gateway.

/** A request that was refused; its message is the gateway's line. */
export class Refused extends Error {
  constructor(status, line) {
    super(line);
    this.status = status;
  }
}

async function refusal(answer) {
  let line = `the gateway answers with status ${answer.status}`;
  if ((answer.headers.get("content-type") || "").includes("json")) {
    const document = await answer.json();
    line = document.detail || line;
  }
  return new Refused(answer.status, line);
}

/** Where one task is below /v1. */
export function taskPath(frameworkId, taskId) {
  return `/v1/frameworks/${encodeURIComponent(frameworkId)}/tasks/${encodeURIComponent(taskId)}`;
}

/** A path with parameters; empty ones are left out. */
export function withQuery(path, parameters) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const each of Array.isArray(value) ? value : [value]) {
      if (each !== "" && each !== null && each !== undefined) query.append(name, each);
    }
  }
  const text = query.toString();
  return text ? `${path}?${text}` : path;
}

/** The answer of a GET. Throws `Refused`, and `TypeError` if the gateway cannot be reached. */
export async function open(path, options = {}) {
  const answer = await fetch(path, options);
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

/** The JSON document at this path. */
export async function get(path, options = {}) {
  return (await open(path, options)).json();
}

/** Give an order. */
export async function post(path, body) {
  const options = { method: "POST" };
  if (body !== undefined) {
    options.headers = { "Content-Type": "application/json" };
    options.body = JSON.stringify(body);
  }
  return (await open(path, options)).json();
}

/** What went wrong, in a line. */
export function lineOf(error) {
  return error instanceof TypeError ? "the gateway cannot be reached" : error.message;
}
