/**
 * Everywire's client: publish, and subscribe over short poll, long poll, SSE, WebSocket or MQTT with one cursor.
 *
 * It knows no page: whoever shows something listens to a subscription's events. Whatever the transport, the cursor
 * moves only after a message was handed over, so that stopping, cutting and changing the transport lose nothing.
 */

import * as mqtt from './mqtt.js';

const BACKOFF_FIRST_MS = 250;
const BACKOFF_MOST_MS = 10_000;
const SILENCE_MS = 40_000; // the server's heartbeats come every 15 s

/** An error answer of the server (RFC 9457), or a server that could not be reached (status 0). */
export class Problem extends Error {
  constructor(status, detail, retryAfterMs) {
    super(detail);
    this.name = 'Problem';
    this.status = status;
    this.retryAfterMs = retryAfterMs;
  }

  /** Whether the same request may succeed later. */
  get isPassing() {
    return this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500;
  }

  static async of(response) {
    const text = await response.text();
    let detail = text || response.statusText;
    try {
      const problem = JSON.parse(text);
      detail = problem.detail ?? problem.title ?? detail;
    } catch { /* not problem+json: a proxy's answer, say; its text is all there is */ }
    const seconds = Number.parseFloat(response.headers.get('Retry-After') ?? '');
    return new Problem(response.status, detail, Number.isFinite(seconds) ? seconds * 1000 : undefined);
  }
}

/** A server. */
export class Everywire {
  /** @param {{server?: string, token?: string}} options the page's own server unless given */
  constructor({ server = globalThis.location?.origin, token } = {}) {
    this.server = server;
    this.token = token;
  }

  /** Publishes a body as it is; resolves with `{id, topic, cursor, durability}` once the log promises to keep it. */
  async publish(topic, body, { event, type = 'text/plain;charset=utf-8', ttl, retain = false, key, signal } = {}) {
    const query = new URLSearchParams({ topic });
    if (event) query.set('event', event);
    if (ttl) query.set('ttl', ttl);
    if (retain) query.set('retain', '1');
    const headers = { 'Content-Type': type };
    if (key) headers['Idempotency-Key'] = key;
    const response = await this.request(`/v1/messages?${query}`, { method: 'POST', headers, body, signal });
    return response.json();
  }

  /** A subscription that is not started yet. */
  subscription(topics, options) {
    return new Subscription(this, topics, options);
  }

  /** Fetches a path of the server; what is no success is thrown as a {@link Problem}. */
  async request(path, { headers = {}, ...options } = {}) {
    const credentials = this.token ? { Authorization: `Bearer ${this.token}` } : {};
    let response;
    try {
      response = await fetch(this.server + path, { ...options, cache: 'no-store', headers: { ...headers, ...credentials } });
    } catch (error) {
      if (options.signal?.aborted) throw error;
      throw new Problem(0, 'the server can’t be reached');
    }
    if (!response.ok) throw await Problem.of(response);
    return response;
  }
}

/**
 * Follows topics over one transport: `poll`, `longpoll`, `sse`, `ws` or `mqtt`. Events, each a `CustomEvent` whose `detail` is named here:
 * `state` {state, reason}: `stopped`, `connecting`, `open`, `waiting` (to try again), `refused`; `request` {};
 * `answer` {bytes, empty}; `bytes` {bytes} of a stream; `message` the envelope; `gap` {topic, after, earliest}.
 */
export class Subscription extends EventTarget {
  #client;
  #abort = null;

  /** `start` is where to begin as long as there is no cursor: `latest`, `earliest`, or a cursor. */
  constructor(client, topics, { via = 'sse', start = 'latest', interval = 1000, wait = 20 } = {}) {
    super();
    this.#client = client;
    this.topics = [topics].flat();
    this.via = via;
    this.startAt = start;
    this.interval = interval;
    this.wait = wait;
    this.cursor = null;
  }

  get server() {
    return this.#client.server;
  }

  get token() {
    return this.#client.token;
  }

  get isRunning() {
    return this.#abort !== null;
  }

  start() {
    if (this.#abort) return;
    this.#abort = new AbortController();
    this.#run(TRANSPORTS[this.via], this.#abort.signal);
  }

  /** Stops and keeps the cursor: `start` goes on where this one ended. */
  stop() {
    this.#abort?.abort();
    this.#abort = null;
    this.emit('state', { state: 'stopped' });
  }

  async #run(exchange, signal) {
    let failures = 0;
    while (!signal.aborted) {
      if (failures === 0) this.emit('state', { state: 'connecting' });
      try {
        const pause = await exchange(this, signal);
        failures = 0;
        await sleep(pause, signal);
      } catch (problem) {
        if (signal.aborted) return;
        if (problem instanceof Problem && !problem.isPassing) return this.#refused(problem);
        failures += 1;
        this.emit('state', { state: 'waiting', reason: problem.message });
        await sleep(problem.retryAfterMs ?? backoff(failures), signal);
      }
    }
  }

  #refused(problem) {
    this.#abort = null;
    this.emit('state', { state: 'refused', reason: problem.message });
  }

  /** For transports: sends a read, with the cursor. */
  async read(path, extra, signal) {
    const query = new URLSearchParams(this.topics.map((topic) => ['topic', topic]));
    for (const [name, value] of Object.entries(extra)) query.set(name, value);
    const after = this.cursor ?? (this.startAt === 'latest' && path !== '/v1/messages' ? null : this.startAt);
    if (after && !query.has('after')) query.set('after', after);
    this.emit('request', {});
    const response = await this.#client.request(`${path}?${query}`, { signal });
    this.emit('state', { state: 'open' });
    return response;
  }

  /** For transports: everything up to this cursor was handed over. */
  moveTo(cursor) {
    if (cursor) this.cursor = cursor;
  }

  emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

/** One request and what it brought; each resolves with the milliseconds until the next. */
const TRANSPORTS = {
  async poll(subscription, signal) {
    const more = await page(subscription, {}, signal);
    return more ? 0 : subscription.interval;
  },

  async longpoll(subscription, signal) {
    // The first asks briefly: its answer brings the cursor, from which on no cut loses anything.
    await page(subscription, { wait: subscription.cursor ? subscription.wait : 1 }, signal);
    return 0;
  },

  async sse(subscription, signal) {
    const silence = new AbortController();
    const response = await subscription.read('/v1/events', {}, AbortSignal.any([signal, silence.signal]));
    subscription.moveTo(subscription.cursor ?? response.headers.get('Everywire-Cursor'));
    const parser = new EventStreamParser();
    const text = new TextDecoder();
    let timer;
    const listen = () => {
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENCE_MS);
    };
    try {
      listen();
      for await (const chunk of chunks(response.body)) {
        listen();
        subscription.emit('bytes', { bytes: chunk.length });
        for (const event of parser.push(text.decode(chunk, { stream: true }))) dispatch(subscription, event);
      }
    } catch (error) {
      if (signal.aborted || error instanceof Problem) throw error;
      throw new Problem(0, 'the stream was cut');
    } finally {
      clearTimeout(timer);
    }
    return parser.retryMs ?? BACKOFF_FIRST_MS;
  },

  async ws(subscription, signal) {
    const subscribe = (after) => JSON.stringify({ subscribe: { id: 1, topics: subscription.topics, after } });
    const address = new URL('/v1/ws', subscription.server);
    if (subscription.token) address.searchParams.set('token', subscription.token);
    const frames = openSocket(subscription, signal, { address, hello: subscribe });
    for await (const text of frames) {
      subscription.emit('bytes', { bytes: text.length });
      const { message, gap, close, error, subscribed } = JSON.parse(text);
      if (subscribed && !subscription.cursor) subscription.moveTo(subscribed.cursor);
      if (error) throw new Problem(error.code, error.reason, error.retry_after_ms);
      if (close && !close.reconnect) throw new Problem(403, `the server ended it: ${close.reason}`);
      if (gap) {
        subscription.emit('gap', gap);
        subscription.moveTo(gap.earliest);
      }
      if (message) {
        subscription.emit('message', message);
        if (!message.retained) subscription.moveTo(message.cursor);
      }
    }
    return BACKOFF_FIRST_MS;
  },

  async mqtt(subscription, signal) {
    const { token, topics } = subscription;
    const hello = (after) => mqtt.hello({ token, topics, after });
    const address = new URL('/mqtt', subscription.server);
    const options = { address, protocols: ['mqtt'], hello, beat: mqtt.PING, everyMs: mqtt.KEEP_ALIVE_S * 1000 };
    const parser = new mqtt.PacketParser();
    for await (const data of openSocket(subscription, signal, options)) {
      subscription.emit('bytes', { bytes: data.byteLength });
      for (const { refused, closed, reason, cursor, message } of parser.push(new Uint8Array(data))) {
        if (refused !== undefined) throw new Problem(PASSING.includes(refused) ? 503 : 403, reason ?? 'not authorized');
        if (closed !== undefined) throw new Problem(FINAL.includes(closed) ? 403 : 503, `the server ended it: ${reason}`);
        if (!subscription.cursor) subscription.moveTo(cursor);
        if (message) {
          subscription.emit('message', message);
          if (!message.retained) subscription.moveTo(message.cursor);
        }
      }
    }
    return BACKOFF_FIRST_MS;
  },
};

/** Reason codes of MQTT after which a client comes again, and ends after which it doesn't. */
const [PASSING, FINAL] = [[0x88, 0x89, 0x97], [0x87, 0x8e, 0x98]];

/** The messages of a WebSocket that says what it wants as soon as it is open. */
async function* openSocket(subscription, signal, { address, protocols = [], hello, beat, everyMs }) {
  const queue = [];
  address.protocol = address.protocol.replace('http', 'ws');
  subscription.emit('request', {});
  const socket = new WebSocket(address, protocols);
  socket.binaryType = 'arraybuffer';
  let beating;
  let [wake, isOver] = [() => {}, null];
  const end = (problem) => { isOver ??= { problem }; wake(); };
  socket.onopen = () => {
    subscription.emit('state', { state: 'open' });
    socket.send(hello(subscription.cursor ?? subscription.startAt));
    if (beat) beating = setInterval(() => socket.send(beat), everyMs);
  };
  socket.onmessage = ({ data }) => { queue.push(data); wake(); };
  socket.onclose = () => end(new Problem(0, 'the WebSocket was cut'));
  signal.addEventListener('abort', () => { socket.close(); end(null); }, { once: true });
  try {
    while (queue.length > 0 || !isOver) {
      if (queue.length > 0) yield queue.shift();
      else await new Promise((resolve) => { wake = resolve; });
    }
    if (isOver.problem) throw isOver.problem;
  } finally {
    clearInterval(beating);
    socket.close();
  }
}

/** The names of the transports, the most frugal last. */
export const transports = Object.keys(TRANSPORTS);

/** One poll, short or long; resolves with whether there is more. */
async function page(subscription, extra, signal) {
  const response = await subscription.read('/v1/messages', extra, signal);
  const bytes = await response.arrayBuffer();
  const isEmpty = response.status === 204;
  subscription.emit('answer', { bytes: bytes.byteLength, empty: isEmpty });
  const cursor = response.headers.get('Everywire-Cursor');
  if (isEmpty) {
    subscription.moveTo(cursor);
    return false;
  }
  const found = JSON.parse(new TextDecoder().decode(bytes));
  if (found.gap) subscription.emit('gap', { after: subscription.cursor });
  for (const envelope of found.messages) subscription.emit('message', envelope);
  subscription.moveTo(found.cursor ?? cursor);
  return found.more;
}

function dispatch(subscription, { id, event, data }) {
  const content = data === null ? null : JSON.parse(data);
  // Applications may name their own events like the server's; but only a message has an id.
  const control = content && content.id === undefined ? CONTROLS[event] : null;
  if (control) control(subscription, content);
  else if (content) subscription.emit('message', content);
  subscription.moveTo(id);
}

/** What the server says beside messages. */
const CONTROLS = {
  gap: (subscription, gap) => subscription.emit('gap', gap),
  close: (_, { reason, reconnect }) => {
    if (!reconnect) throw new Problem(403, `the server ended the stream: ${reason}`);
  },
};

/** Parses `text/event-stream` (HTML Living Standard, 9.2.6) piece by piece. */
export class EventStreamParser {
  #rest = '';
  #data = [];
  #event = '';
  #id = null;
  /** The server's last `retry:`, in milliseconds. */
  retryMs;

  /** Takes the next piece of text; gives the events that it completes, those with only an id with `data: null`. */
  push(text) {
    // A CR at the very end may be half of a CR LF: it waits for what follows.
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop();
    return lines.map((line) => this.#line(line)).filter(Boolean);
  }

  #line(line) {
    if (line === '') return this.#complete();
    const [, field, value] = /^([^:]*)(?:: ?(.*))?$/s.exec(line);
    if (field === 'data') this.#data.push(value ?? '');
    else if (field === 'event') this.#event = value ?? '';
    else if (field === 'id' && !value?.includes('\0')) this.#id = value ?? '';
    else if (field === 'retry' && /^\d+$/.test(value)) this.retryMs = Number(value);
    return null;
  }

  #complete() {
    const event = { id: this.#id, event: this.#event, data: this.#data.length > 0 ? this.#data.join('\n') : null };
    const isNothing = event.data === null && event.id === null;
    [this.#data, this.#event, this.#id] = [[], '', null];
    return isNothing ? null : event;
  }
}

async function* chunks(body) {
  const reader = body.getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) yield part.value;
}

/** Doubles, with a random half, so that many clients do not come back at once. */
function backoff(failures) {
  const most = Math.min(BACKOFF_FIRST_MS * 2 ** (failures - 1), BACKOFF_MOST_MS);
  return most / 2 + (Math.random() * most) / 2;
}

function sleep(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener('abort', () => { clearTimeout(timer); resolve(); }, { once: true });
  });
}
