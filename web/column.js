/** One column of the page: a subscription over one transport, its counters and its latest messages. */

import { Strip } from './strip.js';

const LOG_MOST = 100;
const DELAYS_MOST = 1000;

const WORDS = {
  poll: { title: 'Short poll', how: 'Asks again and again; mostly there is nothing: 204, no body.' },
  longpoll: { title: 'Long poll', how: 'Asks once; the answer waits until there is something.' },
  sse: { title: 'SSE', how: 'Asks once; everything comes down one stream.' },
  ws: { title: 'WebSocket', how: 'Opens once; both sides speak.' },
  mqtt: { title: 'MQTT', how: 'What devices speak, here over WebSocket.' },
};

/** A transport's name for people. */
export const titleOf = (via) => WORDS[via].title;

const STATES = { stopped: 'stopped', connecting: 'connecting …', open: 'live', waiting: 'trying again', refused: 'refused' };

const COUNTERS = [
  ['requests', 'Requests', 'Requests made'],
  ['empty', 'Empty', 'Answers that brought nothing'],
  ['bytes', 'Bytes', 'Bytes of bodies received'],
  ['messages', 'Messages', 'Messages received'],
  ['gaps', 'Gaps', 'Times the server said that messages were lost'],
  ['last', 'Delay', 'From the server’s time stamp to here, of the last message'],
  ['median', 'Median', 'The same, half of the messages were faster'],
];

export class Column {
  #subscription;
  #counts = { requests: 0, empty: 0, bytes: 0, messages: 0, gaps: 0, last: null, median: null };
  #delays = [];
  #startedAt = 0;
  #isDue = false;

  /** `received` is told of every message, for the announcer. */
  constructor(client, via, topic, start, received) {
    this.via = via;
    this.#subscription = client.subscription(topic, { via, start });
    this.element = document.querySelector('#column').content.firstElementChild.cloneNode(true);
    this.#build();
    this.#listen(received);
    this.#show();
  }

  get isRunning() {
    return this.#subscription.isRunning;
  }

  start() {
    this.#startedAt = Date.now();
    this.#subscription.start();
    this.#show();
  }

  stop() {
    this.#subscription.stop();
    this.#show();
  }

  #find(selector) {
    return this.element.querySelector(selector);
  }

  #build() {
    const title = titleOf(this.via);
    this.element.dataset.via = this.via;
    this.element.setAttribute('aria-label', title);
    this.#find('h2').textContent = title;
    this.#find('.how').textContent = WORDS[this.via].how;
    this.#find('.log').setAttribute('aria-label', `${title}: latest messages, newest first`);
    this.#find('.log').append(item('nothing', ['text', 'Nothing yet.']));
    this.#find('.counters').append(...COUNTERS.map(([name, label, help]) => counter(name, label, help)));
    this.#find('.toggle').addEventListener('click', () => (this.isRunning ? this.stop() : this.start()));
    const every = this.#find('.every');
    every.hidden = this.via !== 'poll';
    every.addEventListener('change', (event) => { this.#subscription.interval = Number(event.target.value); });
    this.strip = new Strip(this.#find('.strip'));
  }

  #listen(received) {
    const on = (name, take) => this.#subscription.addEventListener(name, ({ detail }) => { take(detail); this.#soon(); });
    on('state', ({ state, reason }) => this.#state(state, reason));
    on('request', () => { this.#counts.requests += 1; this.strip.mark('request'); });
    on('answer', ({ bytes, empty }) => { this.#counts.bytes += bytes; this.#counts.empty += empty ? 1 : 0; });
    on('bytes', ({ bytes }) => { this.#counts.bytes += bytes; });
    on('gap', () => { this.#counts.gaps += 1; this.#log(item('gap', ['text', 'Gap: some messages are not kept any more.'])); });
    on('message', (envelope) => { this.#message(envelope); received(envelope); });
  }

  #state(state, reason) {
    const element = this.#find('.state');
    const words = reason ? `${STATES[state]}: ${reason}` : STATES[state];
    // A short poll connects every second: that is still "live", and nothing to announce.
    if (state === 'connecting' && element.classList.contains('open')) return;
    if (element.textContent !== words) element.textContent = words;
    element.className = `state ${state === 'open' ? 'open' : ''} ${state === 'waiting' || state === 'refused' ? 'bad' : ''}`;
    this.element.dataset.state = state;
  }

  #message(envelope) {
    const sent = Date.parse(envelope.time);
    const delay = Math.max(0, Date.now() - sent);
    const isLive = !envelope.retained && sent >= this.#startedAt;
    this.#counts.messages += 1;
    if (isLive) this.#measure(delay);
    this.strip.mark('message');
    const body = envelope.body ?? `(binary) ${envelope.body_base64 ?? ''}`;
    this.#log(item('message',
      ['time', new Date(sent).toLocaleTimeString()],
      envelope.event && ['tag', envelope.event],
      envelope.retained && ['tag', 'retained'],
      ['delay', isLive ? milliseconds(delay) : ''],
      ['text', typeof body === 'string' ? body : JSON.stringify(body)]));
  }

  #measure(delay) {
    this.#counts.last = delay;
    this.#delays.push(delay);
    if (this.#delays.length > DELAYS_MOST) this.#delays.shift();
  }

  #log(element) {
    const log = this.#find('.log');
    log.querySelector('.nothing')?.remove();
    log.prepend(element);
    while (log.childElementCount > LOG_MOST) log.lastElementChild.remove();
  }

  /** Shows once per frame, however much comes. */
  #soon() {
    if (this.#isDue) return;
    this.#isDue = true;
    setTimeout(() => { this.#isDue = false; this.#show(); }, 50);
  }

  #show() {
    const counts = this.#counts;
    counts.median = this.#delays.toSorted((a, b) => a - b)[this.#delays.length >> 1] ?? null;
    for (const [name] of COUNTERS) this.#find(`[data-counter=${name}]`).textContent = FORMATS[name]?.(counts[name]) ?? counts[name];
    this.#find('.cursor').textContent = this.#subscription.cursor ? `Cursor ${this.#subscription.cursor}` : '';
    const toggle = this.#find('.toggle');
    toggle.textContent = this.isRunning ? 'Stop' : 'Start';
    toggle.setAttribute('aria-label', `${toggle.textContent} ${titleOf(this.via)}`);
  }
}

const milliseconds = (ms) => (ms === null ? '–' : `${ms} ms`);
const bytes = (n) => (n < 10_000 ? `${n}` : n < 1e7 ? `${(n / 1000).toFixed(1)} k` : `${(n / 1e6).toFixed(1)} M`);
const FORMATS = { last: milliseconds, median: milliseconds, bytes };

function counter(name, label, help) {
  const group = document.createElement('div');
  const [term, value] = [document.createElement('dt'), document.createElement('dd')];
  term.textContent = label;
  group.title = help;
  value.dataset.counter = name;
  group.append(term, value);
  return group;
}

/** A line of the log out of parts `[class, text]`. */
function item(name, ...parts) {
  const element = document.createElement('li');
  element.className = name;
  for (const [kind, text] of parts.filter(Boolean)) {
    const part = document.createElement(kind === 'time' ? 'time' : 'span');
    part.className = kind;
    part.textContent = text;
    element.append(part);
  }
  return element;
}
