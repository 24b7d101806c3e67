// Preact and htm, under the names that the page uses: whatever is a text in a template stays a text, never markup.
import {
  html, render, Component, useState, useEffect, useLayoutEffect, useRef, useMemo, useCallback,
} from "./vendor/htm-preact-3.1.1.js";

export { html, render, Component, useState, useEffect, useLayoutEffect, useRef, useMemo, useCallback };

/** The class names whose condition is true: classes("row", {"is-lost": true}). */
export function classes(first, more = {}) {
  return [first, ...Object.keys(more).filter((name) => more[name])].join(" ");
}
