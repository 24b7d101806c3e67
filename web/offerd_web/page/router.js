// Where the user is: the URL's hash is a path and parameters, #/tasks?state=running.
import { useEffect, useState } from "./html.js";

/** {parts: ["tasks"], query: URLSearchParams} of the hash. */
export function place() {
  const text = location.hash.replace(/^#\/?/, "");
  const [path, query = ""] = text.split("?", 2);
  return { parts: path.split("/").filter(Boolean).map(decoded), query: new URLSearchParams(query) };
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** The hash of a path: link("task", F, T). */
export function link(...parts) {
  return "#/" + parts.map(encodeURIComponent).join("/");
}

/** The same with parameters. */
export function linkWith(parts, parameters) {
  return withParameters(link(...parts), parameters);
}

function withParameters(base, parameters) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) if (value) query.set(name, value);
  const text = query.toString();
  return text ? `${base}?${text}` : base;
}

/** The place, and again whenever it changes. */
export function usePlace() {
  const [now, setNow] = useState(place);
  useEffect(() => {
    const changed = () => setNow(place());
    window.addEventListener("hashchange", changed);
    changed(); // it may have changed before this listens
    return () => window.removeEventListener("hashchange", changed);
  }, []);
  return now;
}

/** Change parameters of the place without a new entry in the browser's history. An empty value removes one. */
export function setParameters(changes) {
  const { parts, query } = place();
  const all = { ...Object.fromEntries(query), ...changes };
  history.replaceState(null, "", withParameters(link(...parts), all));
  window.dispatchEvent(new HashChangeEvent("hashchange"));
}
