// Orders are given after a question that names what will be changed.
import { html, render, useEffect, useRef, useState } from "../html.js";
import { lineOf } from "../api.js";

let host = null;

/**
 * Ask. title, text; verb: on the button; isDangerous; input: {label, placeholder, check(text) -> error line or ""}
 * order(text): gives the order; its error is shown, and the dialog stays open.
 */
export function ask(question) {
  if (!host) {
    host = document.createElement("div");
    document.body.append(host);
  }
  const before = document.activeElement;
  const close = () => {
    render(null, host);
    before?.focus?.();
  };
  render(html`<${Question} question=${question} close=${close} />`, host);
}

function Question({ question, close }) {
  const { title, text, verb, order, input, isDangerous } = question;
  const dialog = useRef(null);
  const [entry, setEntry] = useState("");
  const [fault, setFault] = useState("");
  const [isWaiting, setIsWaiting] = useState(false);
  useEffect(() => dialog.current.showModal(), []);
  const give = async (event) => {
    event.preventDefault();
    const wrong = input?.check(entry) || "";
    setFault(wrong);
    if (wrong) return;
    setIsWaiting(true);
    try {
      await order(entry);
      close();
    } catch (error) {
      setFault(lineOf(error));
      setIsWaiting(false);
    }
  };
  return html`<dialog ref=${dialog} onClose=${close} aria-labelledby="question">
    <form onSubmit=${give}>
      <h2 id="question">${title}</h2>
      <p>${text}</p>
      ${input && html`<label>${input.label}
        <input type="text" value=${entry} placeholder=${input.placeholder} onInput=${(event) => setEntry(event.target.value)} /></label>`}
      ${fault && html`<p class="fault" role="alert">${fault}</p>`}
      <div class="buttons">
        <button type="button" onClick=${() => dialog.current.close()}>Cancel</button>
        <button type="submit" class=${isDangerous ? "is-dangerous" : "is-main"} disabled=${isWaiting}>${verb}</button>
      </div>
    </form>
  </dialog>`;
}
