/** A lane of the lab: one wire, its requests as bars, its messages as ticks, and their cost. */

import { WireReader } from '../readers.js';
import { textOf } from '../shared.js';

/** The span of the past that is drawn and counted for rates. */
export const SPAN_MS = 30_000;
const DELAYS_MOST = 1000;

/** @typedef {{ from: number, to?: number, isEmpty?: boolean, isCut?: boolean }} Bar */
/** @typedef {{ at: number, requests: number, empty: number, messages: number, bytesIn: number, bytesOut: number, writes: number }} Counts  The counts of the server, or of this page. */

/** A line to the server that can be cut. */
export class Line {
  #cut = new AbortController();
  /** @type {Set<WebSocket>} */
  sockets = new Set();
  isCut = false;

  get signal() {
    return this.#cut.signal;
  }

  cut() {
    this.isCut = true;
    this.#cut.abort(new TypeError('cut'));
    for (const socket of this.sockets) socket.close();
  }

  mend() {
    this.isCut = false;
    this.#cut = new AbortController();
  }
}

export class Lane {
  /** @type {Bar[]} */
  bars = [];
  /** @type {number[]} */
  ticks = [];
  /** @type {{ from: number, to?: number }[]} */
  cuts = [];
  /** The time from which the picture differs from the painted one: a bar is known to be hollow only when it ends. */
  changedFrom = Infinity;
  /** @type {number[]} */
  delays = [];
  /** The newest second of delays, for the plot. @type {number[]} */
  fresh = [];
  requests = 0;
  empty = 0;
  messages = 0;
  /** The bytes of new bodies: those that a reader wants. */
  news = 0;
  bodies = 0;
  lost = 0;
  /** CPU seconds of the server for a message. @type {number | null} */
  cpu = null;
  /** @type {Counts[]} */
  samples = [];
  #next = -1;
  #run = '';

  /** @param {import('../readers.js').WireName} wire @param {string} topic @param {Line} line @param {number} pollMs */
  constructor(wire, topic, line, pollMs) {
    this.wire = wire;
    this.line = line;
    // 128 random bits: without them nobody can ask for the counters.
    this.label = crypto.randomUUID().replaceAll('-', '');
    this.reader = new WireReader(wire, [topic], (message) => this.#take(message), {
      label: this.label, pollMs, fetch: this.#fetch, WebSocket: this.#socketClass(), retryMs: [50, 500],
    });
  }

  /** @param {import('../sdk/types.js').Message<any>} message */
  #take({ body, bytes }) {
    const now = performance.now();
    this.ticks.push(now);
    this.messages += 1;
    this.news += bytes?.length ?? textOf(body).length;
    if (typeof body?.n !== 'number') return;
    if (body.run !== this.#run) [this.#run, this.#next] = [body.run, body.n];
    if (body.n > this.#next) this.lost += body.n - this.#next;
    this.#next = Math.max(this.#next, body.n + 1);
    const delay = Math.max(0, now - body.at);
    this.delays.push(delay);
    this.fresh.push(delay);
    if (this.delays.length > DELAYS_MOST) this.delays.shift();
  }

  #begin() {
    /** @type {Bar} */
    const bar = { from: performance.now() };
    this.bars.push(bar);
    this.requests += 1;
    return bar;
  }

  /** @param {Bar} bar @param {Partial<Bar>} [how] */
  #end(bar, how = {}) {
    bar.to ??= performance.now();
    Object.assign(bar, how);
    if (!how.isEmpty) return;
    this.empty += 1;
    this.changedFrom = Math.min(this.changedFrom, bar.from);
  }

  /** @type {typeof fetch} */
  #fetch = async (address, options = {}) => {
    if (this.line.isCut) throw new TypeError('cut');
    const bar = this.#begin();
    const signals = options.signal ? [options.signal, this.line.signal] : [this.line.signal];
    const signal = AbortSignal.any(signals);
    signal.addEventListener('abort', () => this.#end(bar, { isCut: this.line.isCut }));
    try {
      const response = await fetch(address, { ...options, signal });
      const { status, headers } = response;
      if (headers.get('Content-Type')?.startsWith('text/event-stream') && response.body) {
        const count = new TransformStream({
          transform: (/** @type {Uint8Array} */ chunk, out) => { this.bodies += chunk.length; out.enqueue(chunk); },
          flush: () => this.#end(bar),
        });
        return new Response(response.body.pipeThrough(count), { status, headers });
      }
      const body = await response.arrayBuffer();
      this.bodies += body.byteLength;
      this.#end(bar, { isEmpty: status === 204 });
      return new Response(body.byteLength > 0 ? body : null, { status, headers });
    } catch (error) {
      this.#end(bar, { isCut: this.line.isCut });
      throw error;
    }
  };

  #socketClass() {
    const lane = this;
    const Socket = class extends WebSocket {
      /** @param {string} address @param {string[]} [protocols] */
      constructor(address, protocols) {
        super(address, protocols);
        const bar = lane.#begin();
        lane.line.sockets.add(this);
        this.addEventListener('message', ({ data }) => { lane.bodies += data.byteLength ?? data.length; });
        this.addEventListener('close', () => {
          lane.line.sockets.delete(this);
          lane.#end(bar, { isCut: lane.line.isCut });
        });
      }

      /** While the line is cut a new socket is dead at once. @param {string} address @param {string[]} [protocols] */
      static open(address, protocols) {
        if (!lane.line.isCut) return new this(address, protocols);
        const dead = { readyState: 3, close() {}, send() {}, onclose: () => {} };
        setTimeout(() => dead.onclose());
        return dead;
      }
    };
    return new Proxy(Socket, { construct: (_, [address, protocols]) => Socket.open(address, protocols) });
  }

  /** Forgets bars, ticks and samples older than the span. */
  forget() {
    const oldest = performance.now() - SPAN_MS;
    while (this.ticks[0] < oldest) this.ticks.shift();
    while (this.bars[0]?.to !== undefined && /** @type {number} */ (this.bars[0].to) < oldest) this.bars.shift();
    while (this.cuts[0]?.to !== undefined && /** @type {number} */ (this.cuts[0].to) < oldest) this.cuts.shift();
    while (this.samples.length > 2 && this.samples[0].at < oldest) this.samples.shift();
  }

  /** Notes the counts up to now: those of the server, or else of this page. @param {Omit<Counts, 'at'>} [counts] */
  sample(counts) {
    const { requests, empty, messages, bodies } = this;
    const sample = { at: performance.now(), ...(counts ?? { requests, empty, messages, bytesIn: 0, bytesOut: bodies, writes: 0 }) };
    // A server that was started anew counts anew.
    if (sample.requests < (this.samples.at(-1)?.requests ?? 0)) this.samples = [];
    this.samples.push(sample);
  }

  /** A quantile of the last delays. @param {number} q */
  delay(q) {
    if (this.delays.length === 0) return null;
    const sorted = this.delays.toSorted((a, b) => a - b);
    return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))];
  }

  /** The cost of a second, by the samples of the span. */
  get rates() {
    const [first, last] = [this.samples[0], this.samples.at(-1)];
    const seconds = first && last ? (last.at - first.at) / 1000 : 0;
    /** @param {keyof Counts} name */
    const of = (name) => (seconds > 0 ? (/** @type {Counts} */ (last)[name] - first[name]) / seconds : 0);
    return { requests: of('requests'), empty: of('empty'), messages: of('messages'), bytes: of('bytesIn') + of('bytesOut') };
  }
}
