/** Home: say something, and see it come over every wire. */

import { WIRES, WireReader, restWhenHidden } from './readers.js';
import { TokenForm, base, clock, connect, lasting, number, reasonOf, show, speaks, t, textOf, token } from './shared.js';
import { batch, html, signal, useRef } from './vendor/ui.js';
import english from './i18n/en/home.js';

await speaks(english, () => import('./i18n/zh/home.js'));

const TOPIC = new URLSearchParams(location.search).get('topic') || 'hello';
const CLOCK = 'demo/clock';
/** The silence after which the clock ticks. */
const QUIET_MS = 2000;
const SAID_MOST = 30;
/** The time for which a message stays in sight until all wires have brought it; a wire that is cut may need that long. */
const PATIENCE_MS = 15_000;
const DOCS = ['http', 'websocket', 'mqtt', 'protocol', 'rooms', 'chat', 'auth', 'operating'];

/** @typedef {{ id: string, text: string, time: string, from?: string }} Said */

/** The message that the lamps show, and the time at which each wire brought it. */
const shown = signal({ id: '', text: '', isClock: false, at: 0 });
const lamps = Object.fromEntries(WIRES.map((wire) => [wire, signal(/** @type {number | null} */ (null))]));
const said = signal(/** @type {Said[]} */ ([]));
const status = signal({ text: '', isBad: false });
/** The reason why the clock doesn't tick. */
const trouble = signal('');

/** The messages that this page has sent and no wire has brought yet, by text. @type {Map<string, number>} */
const sent = new Map();
let heardAt = 0;
/** The time at which the last lamp was lit. */
let litAt = 0;
const client = signal(connect());

/** Whether something that was said is still to come over a wire, or hasn't been in sight for long. @param {number} now */
function isUnderway(now) {
  const { id, isClock, at } = shown.value;
  if (!id || isClock) return false;
  const isWhole = readers.every(({ wire, state }) => lamps[wire].value !== null || state.value.state === 'refused');
  return now < (isWhole ? litAt + QUIET_MS : at + PATIENCE_MS);
}

/** @param {import('./readers.js').WireName} wire @param {import('./sdk/types.js').Message<any>} message */
function arrived(wire, message) {
  const now = performance.now();
  heardAt = now;
  const isClock = message.topic === CLOCK;
  if (message.id < shown.value.id) return; // a slow wire, with what has been shown already
  if (isClock && isUnderway(now)) return;
  batch(() => {
    if (message.id > shown.value.id) {
      const text = isClock ? String(message.body?.clock ?? '') : textOf(message.body);
      shown.value = { id: message.id, text, isClock, at: sent.get(text) ?? now };
      sent.delete(text);
      for (const other of WIRES) lamps[other].value = null;
    }
    if (lamps[wire].value === null) litAt = now;
    lamps[wire].value ??= Math.max(0, now - shown.value.at);
    if (!isClock) remember(message);
  });
}

/** @param {import('./sdk/types.js').Message<any>} message */
function remember({ id, body, time, from, bytes }) {
  if (said.value.some((other) => other.id === id)) return;
  const text = bytes ? `${bytes.length} B` : textOf(body);
  said.value = [{ id, text, time, from }, ...said.value].toSorted((a, b) => (a.id < b.id ? 1 : -1)).slice(0, SAID_MOST);
}

/** @param {string} text */
async function say(text) {
  const begun = performance.now();
  sent.set(text, begun);
  try {
    await client.value.publish(TOPIC, text, { type: 'text/plain;charset=utf-8' });
    status.value = { text: t('home.sent', { text: brief(text), ms: number(Math.round(performance.now() - begun)) }), isBad: false };
    return true;
  } catch (error) {
    sent.delete(text);
    status.value = { text: t('home.refused', { reason: reasonOf(error) }), isBad: true };
    return false;
  }
}

/** Ticks when all is quiet, so that the page moves before anybody has typed. */
let isTicking = false;
async function tick() {
  if (document.hidden || isTicking || performance.now() - heardAt < QUIET_MS) return;
  isTicking = true;
  const time = new Date().toISOString();
  sent.set(time, performance.now());
  heardAt = performance.now();
  try {
    await client.value.publish(CLOCK, { clock: time }, { ttl: 60, queue: false });
    trouble.value = '';
  } catch (error) {
    sent.delete(time);
    trouble.value = reasonOf(error);
  }
  isTicking = false;
}

const readers = WIRES.map((wire) => new WireReader(wire, [TOPIC, CLOCK], (message) => arrived(wire, message)));

function begin() {
  client.value.close();
  const mine = client.value = connect();
  client.value.on('outbox', ({ waiting, reason }) => {
    if (waiting > 0 && reason) status.value = { text: t('home.waits', { count: number(waiting) }), isBad: true };
  });
  lasting(() => mine.history(TOPIC, { limit: 10 }), () => client.value !== mine).then(({ messages }) => batch(() => messages.forEach(remember)), () => {});
  for (const reader of readers) reader.restart();
}

/** @param {string} text */
const brief = (text) => (text.length > 40 ? `${text.slice(0, 39)}…` : text);

/** @param {{ reader: WireReader }} props */
function Lamp({ reader: { wire, state } }) {
  const ms = lamps[wire].value;
  const { state: name, reason } = state.value;
  const isLit = ms !== null;
  const words = isLit ? `${number(Math.round(ms))} ms` : name === 'open' ? t('home.dark') : t(`state.${name}`, { reason: reason ?? '' });
  return html`
    <li class="lamp" data-wire=${wire} data-state=${isLit ? 'lit' : name}>
      <span class="bulb" aria-hidden="true"></span>
      <span class="name">${t(`wire.${wire}`)}</span>
      <span class="words">${words}</span>
      <span class="bar" aria-hidden="true"><span style=${{ width: isLit ? `${Math.min(100, 6 + 27 * Math.log10(1 + ms))}%` : '0' }}></span></span>
    </li>`;
}

function Lamps() {
  const { text, isClock } = shown.value;
  const count = WIRES.filter((wire) => lamps[wire].value !== null).length;
  const words = !text ? '' : isClock ? t('home.clock', { time: clock(text) }) : t('home.said', { text: brief(text), count, all: WIRES.length });
  return html`
    <section class="sheet" aria-labelledby="lamps-title">
      <h2 id="lamps-title">${t('home.lamps')}</h2>
      <p class="now">${words || '…'}</p>
      <ul class="lamps">${readers.map((reader) => html`<${Lamp} key=${reader.wire} reader=${reader} />`)}</ul>
    </section>`;
}

function Say() {
  const input = useRef(/** @type {HTMLInputElement | null} */ (null));
  const submit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    const field = /** @type {HTMLInputElement} */ (input.current);
    const text = field.value || t('home.placeholder');
    field.value = '';
    // A refused text comes back, unless a new one was typed meanwhile.
    if (!await say(text) && field.value === '') field.value = text;
  };
  return html`
    <form class="say" onSubmit=${submit}>
      <label for="say">${t('home.say')}</label>
      <div class="row">
        <input id="say" ref=${input} autocomplete="off" placeholder=${t('home.placeholder')} aria-describedby="say-hint" />
        <button class="primary">${t('home.send')}</button>
      </div>
      <p id="say-hint" class="hint">${t('home.hint', { topic: TOPIC })}</p>
      <p class=${`status ${status.value.isBad || trouble.value ? 'bad' : ''}`} role="status">${[status.value.text, trouble.value].filter(Boolean).join(' ')}</p>
    </form>`;
}

function SaidList() {
  return html`
    <section class="sheet" aria-labelledby="said-title">
      <h2 id="said-title">${t('home.before')}</h2>
      <div class="said" role="log" aria-live="polite" aria-labelledby="said-title" tabindex="0"><ol>
        ${said.value.map(({ id, text, time, from }) => html`<li key=${id}><time datetime=${time}>${clock(time)}</time> ${from && html`<b>${from}</b> `}<span>${text}</span></li>`)}
      </ol></div>
      ${said.value.length === 0 && html`<p class="hint">${t('home.nothing')}</p>`}
    </section>`;
}

function Terminal() {
  const query = `topic=${encodeURIComponent(TOPIC)}`;
  const head = token.value ? ' -H "Authorization: Bearer $TOKEN"' : '';
  return html`
    <section class="sheet" aria-labelledby="terminal-title">
      <h2 id="terminal-title">${t('home.terminal')}</h2>
      <h3>${t('home.terminal.send')}</h3>
      <pre><code>curl -d ${`'${t('home.placeholder')}'`}${head} '${new URL(`v1/messages?${query}`, base).href}'</code></pre>
      <h3>${t('home.terminal.read')}</h3>
      <pre><code>curl -N${head} '${new URL(`v1/events?${query}`, base).href}'</code></pre>
    </section>`;
}

function Doors() {
  return html`
    <nav class="doors" aria-label=${t('home.doors')}>
      <a class="door" href="chat"><b>${t('nav.chat')}</b><span>${t('home.chat.what')}</span></a>
      <a class="door" href="lab"><b>${t('nav.lab')}</b><span>${t('home.lab.what')}</span></a>
      <a class="door" href="console"><b>${t('nav.console')}</b><span>${t('home.console.what')}</span></a>
      <div class="door">
        <b>${t('nav.docs')}</b><span>${t('home.docs.what')}</span>
        <ul>
          ${DOCS.map((name) => html`<li key=${name}><a href=${`web/docs/${name}.md`}>${t(`docs.${name}`)}</a></li>`)}
          <li><a href="openapi.json">${t('docs.openapi')}</a></li>
        </ul>
      </div>
    </nav>`;
}

function Home() {
  return html`
    <div class="home">
      <h1>${t('app.tagline')}</h1>
      <${Say} />
      <${Lamps} />
      <div class="pair"><${SaidList} /><${Terminal} /></div>
      <${Doors} />
      <section class="sheet" aria-labelledby="who-title"><h2 id="who-title">${t('token.title')}</h2><${TokenForm} /></section>
    </div>`;
}

show('home', Home);
token.subscribe(begin);
restWhenHidden(() => readers);
setInterval(tick, 250);
// The first tick doesn't wait for silence: when all wires are there, or soon.
heardAt = performance.now() - QUIET_MS + 700;
