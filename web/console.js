/** The console: the connections, a way to end each, and the fate of a message. */

import { TokenForm, ask, base, bytes, clock, number, reasonOf, show, speaks, t, token } from './shared.js';
import { batch, html, signal, useEffect, useRef } from './vendor/ui.js';
import english from './i18n/en/console.js';

await speaks(english, () => import('./i18n/zh/console.js'));

const REFRESH_MS = 2000;
const MOST = 100;
/** The time for which a row stays after its connection is gone, so that nothing moves under the pointer. */
const GONE_MS = 4000;
const WIRES = ['poll', 'longpoll', 'sse', 'stream', 'ws', 'mqtt', 'tcp'];

/**
 * @typedef {object} Connection
 * @property {string} id
 * @property {string} [user]
 * @property {string} [device]
 * @property {string} wire
 * @property {string} address
 * @property {string} [agent]
 * @property {string} since
 * @property {number} lag
 * @property {number} bytes_out
 *
 * @typedef {Connection & { goneAt?: number }} Row
 */

const rows = signal(/** @type {Row[]} */ ([]));
const hasMore = signal(false);
const isLoaded = signal(false);
const trouble = signal(/** @type {{ reason: string, since: number } | null} */ (null));
const isAllowed = signal(true);
const notice = signal({ text: '', isBad: false });
const filter = signal({ user: '', topic: '', wire: '' });
const asked = signal(/** @type {Row | null} */ (null));
let answeredAt = Date.now();

/** Known rows stay where they are, gone ones a little longer; new ones come below. @param {Connection[]} fresh */
function merge(fresh) {
  const present = new Map(fresh.map((row) => [row.id, row]));
  const now = Date.now();
  const kept = rows.value.map((row) => {
    const found = present.get(row.id);
    present.delete(row.id);
    return /** @type {Row} */ (found ?? { ...row, goneAt: row.goneAt ?? now });
  });
  rows.value = [...kept.filter(({ goneAt }) => !goneAt || now - goneAt < GONE_MS), ...present.values()];
}

async function refresh() {
  if (!token.value || document.hidden) return;
  const [wanted, held] = [filter.value, token.value];
  const query = new URLSearchParams({ limit: String(MOST) });
  for (const [name, value] of Object.entries(wanted)) if (value) query.set(name, value);
  try {
    const { connections, more } = await (await ask(`v1/connections?${query}`)).json();
    // An answer to a filter or a token that was changed meanwhile tells nothing of these.
    if (filter.value !== wanted || token.value !== held) return;
    batch(() => {
      answeredAt = Date.now();
      [isAllowed.value, isLoaded.value, trouble.value, hasMore.value] = [true, true, null, more];
      merge(connections);
    });
  } catch (error) {
    if (token.value !== held) return;
    const status = /** @type {any} */ (error).status;
    trouble.value = { reason: reasonOf(error), since: answeredAt };
    if (status === 401 || status === 403) isAllowed.value = false;
  }
}

/** @param {Connection} row */
const whoOf = ({ user, device }) => (user ? (device ? t('console.device', { user, device }) : user) : t('app.anonymous'));
/** @param {string} wire */
const nameOf = (wire) => (WIRES.slice(0, 3).concat('ws', 'mqtt').includes(wire) ? t(`wire.${wire}`) : wire);

/** @param {{ row: Row }} props */
function Line({ row }) {
  const { id, wire, address, agent, since, lag, bytes_out, goneAt } = row;
  return html`
    <tr class=${goneAt ? 'gone' : ''} data-id=${id}>
      <th scope="row" data-label=${t('console.who')}>${whoOf(row)}${agent && html`<small>${agent}</small>`}</th>
      <td data-label=${t('app.wire')}><span class="chip" data-wire=${wire}>${nameOf(wire)}</span></td>
      <td data-label=${t('console.address')}>${address}</td>
      <td data-label=${t('console.since')}><time datetime=${since}>${clock(since)}</time></td>
      <td data-label=${t('console.behind')} class=${lag > 0 ? 'late' : ''}>${lag > 0 ? t('console.records', { count: number(lag) }) : t('console.upToDate')}</td>
      <td data-label=${t('console.bytes')}>${bytes(bytes_out)}</td>
      <td>${goneAt ? t('console.gone') : html`<button type="button" aria-label=${t('console.kickLabel', { who: whoOf(row), wire: nameOf(wire), id })} onClick=${() => { asked.value = row; }}>${t('console.kick')}</button>`}</td>
    </tr>`;
}

function Filter() {
  const change = (/** @type {string} */ name) => (/** @type {any} */ event) => {
    filter.value = { ...filter.value, [name]: event.target.value };
    rows.value = [];
    refresh();
  };
  return html`
    <form class="row filter" onSubmit=${(/** @type {Event} */ event) => event.preventDefault()}>
      <label>${t('console.user')} <input value=${filter.value.user} autocomplete="off" onChange=${change('user')} /></label>
      <label>${t('console.topic')} <input value=${filter.value.topic} autocomplete="off" onChange=${change('topic')} /></label>
      <label>${t('console.wire')}
        <select value=${filter.value.wire} onChange=${change('wire')}>
          <option value="">${t('console.all')}</option>
          ${WIRES.map((wire) => html`<option key=${wire} value=${wire}>${nameOf(wire)}</option>`)}
        </select>
      </label>
    </form>`;
}

function Table() {
  if (rows.value.length === 0 && !trouble.value) {
    return isLoaded.value && html`<p class="hint">${t('console.none', { command: `curl -N '${new URL('v1/events?topic=hello', base).href}'` })}</p>`;
  }
  const heads = ['console.who', 'app.wire', 'console.address', 'console.since', 'console.behind', 'console.bytes', 'console.end'];
  return html`
    <div class=${`wide ${trouble.value ? 'stale' : ''}`} role="group" aria-label=${t('console.connections')} tabindex="0">
      <table class="cards">
        <thead><tr>${heads.map((key) => html`<th scope="col" key=${key}>${t(key)}</th>`)}</tr></thead>
        <tbody>${rows.value.map((row) => html`<${Line} key=${row.id} row=${row} />`)}</tbody>
      </table>
    </div>`;
}

/** Asks before it ends a connection. */
function Kick() {
  const dialog = useRef(/** @type {HTMLDialogElement | null} */ (null));
  const row = asked.value;
  useEffect(() => {
    if (row) dialog.current?.showModal();
  }, [row]);
  const end = async (/** @type {Event} */ event) => {
    event.preventDefault();
    if (!row) return;
    const reason = new FormData(/** @type {HTMLFormElement} */ (event.target)).get('reason');
    dialog.current?.close();
    try {
      await ask(`v1/connections/${encodeURIComponent(row.id)}?reason=${encodeURIComponent(String(reason))}`, { method: 'DELETE' });
      notice.value = { text: t('console.kicked', { who: whoOf(row) }), isBad: false };
      refresh();
    } catch (error) {
      notice.value = { text: t('console.failed', { reason: reasonOf(error) }), isBad: true };
    }
  };
  return html`
    <dialog ref=${dialog} aria-labelledby="kick-title" onClose=${() => { asked.value = null; }}>
      ${row && html`
        <form onSubmit=${end}>
          <h2 id="kick-title">${t('console.ask', { who: whoOf(row), wire: nameOf(row.wire) })}</h2>
          <p class="hint">${row.address} · ${row.id}</p>
          <p>${t('console.askWhat')}</p>
          <label for="reason">${t('console.reason')}</label>
          <input id="reason" name="reason" maxlength="100" defaultValue=${t('console.reasonDefault')} required />
          <div class="row end">
            <button type="button" onClick=${() => dialog.current?.close()}>${t('console.no')}</button>
            <button class="danger">${t('console.yes')}</button>
          </div>
        </form>`}
    </dialog>`;
}

const explained = signal(/** @type {any} */ (null));
/** The id that was asked for last: an answer to an older question comes too late. */
let wantedId = '';

function Explain() {
  const find = async (/** @type {Event} */ event) => {
    event.preventDefault();
    const id = String(new FormData(/** @type {HTMLFormElement} */ (event.target)).get('id')).trim();
    wantedId = id;
    const trace = await ask(`v1/messages/${encodeURIComponent(id)}/trace`).then((answer) => answer.json()).catch((error) => ({ reason: reasonOf(error) }));
    if (wantedId === id) explained.value = trace;
  };
  return html`
    <section class="sheet" aria-labelledby="explain-title">
      <h2 id="explain-title">${t('console.explain')}</h2>
      <form class="row" onSubmit=${find}>
        <label for="id">${t('console.id')}</label>
        <input id="id" name="id" required autocomplete="off" spellcheck=${false} aria-describedby="id-hint" />
        <button>${t('console.explainGo')}</button>
      </form>
      <p id="id-hint" class="hint">${t('console.explainHint')}</p>
      <div role="status"><${Explained} /></div>
    </section>`;
}

function Explained() {
  const trace = explained.value;
  if (!trace) return null;
  if (trace.reason) return html`<p class="status bad">${trace.reason}</p>`;
  const { topic, stored, recipients, complete, note } = trace;
  return html`
    <p>${t('console.stored', { topic, time: clock(stored.time), durability: stored.durability })}</p>
    <p>${recipients.length > 0 ? t('console.recipients', { count: number(recipients.length) }) : t('fate.nobody')}</p>
    <ul class="plain">
      ${recipients.map((/** @type {any} */ one) => html`<li key=${one.connection}><span class="chip" data-wire=${one.wire}>${nameOf(one.wire)}</span> ${whoOf(one)}: ${t(`fate.${one.fate}`)}${(one.acknowledged ?? one.written) && `, ${clock(one.acknowledged ?? one.written)}`}</li>`)}
    </ul>
    ${!complete && html`<p class="hint">${t('console.partly')}</p>`}
    <p class="hint">${note}</p>`;
}

function Connections() {
  const { value: bad } = trouble;
  const count = rows.value.filter(({ goneAt }) => !goneAt).length;
  return html`
    <section class="sheet" aria-labelledby="connections-title">
      <h2 id="connections-title">${t('console.connections')}</h2>
      <${Filter} />
      <p class=${`status ${bad || notice.value.isBad ? 'bad' : ''}`} role="status">
        ${bad ? t('console.stale', { time: clock(bad.since), reason: bad.reason }) : isLoaded.value && t(hasMore.value ? 'console.more' : 'console.count', { count: number(count) })} ${notice.value.text}
      </p>
      <${Table} />
    </section>`;
}

function Console() {
  const isOpen = token.value && isAllowed.value;
  return html`
    <h1>${t('console.title')}</h1>
    ${!isOpen && html`
      <section class="sheet" aria-labelledby="who-title">
        <h2 id="who-title">${t('token.title')}</h2>
        ${trouble.value && token.value && html`<p class="status bad" role="status">${trouble.value.reason}</p>`}
        <${TokenForm} hint=${t('console.operator')} />
      </section>`}
    ${isOpen && html`<${Connections} /><${Explain} /><${Kick} />`}`;
}

show('console', Console);
token.subscribe(() => {
  batch(() => { [isAllowed.value, isLoaded.value, trouble.value, rows.value] = [true, false, null, []]; });
  refresh();
});
setInterval(refresh, REFRESH_MS);
