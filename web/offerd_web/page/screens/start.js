// What a newcomer sees of an empty cluster: what to type next.
import { html } from "../html.js";
import { store } from "../store.js";

export function Start() {
  const address = store.cluster.master?.address || "HOST:PORT";
  return html`<article class="start">
    <h1>The cluster is empty</h1>
    <p>The master at <b>${address}</b> leads. No slave has registered, and no framework. Whatever comes is shown here at once.</p>
    <ol>
      <li><h2>Give it a host</h2><p>On each host that is to run tasks:</p><pre>offerd slave --master ${address}</pre>
        <p>Hosts without a key join with a token: <code>offerd token new --slave</code> prints the command.</p></li>
      <li><h2>Run something</h2><p>A command, eight times:</p><pre>offerd run -n 8 -- sh -c 'echo on $(hostname); sleep 5'</pre></li>
      <li><h2>Look around</h2><p><a href="#/lanes">Lanes</a> show tasks on their slaves as they happen; a click on one leads to its log.
        In a terminal, <code>offerd status</code> and <code>offerd top</code> show the same.</p></li>
    </ol>
  </article>`;
}
