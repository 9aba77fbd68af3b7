/**
 * Which wire runs. The wires start one after the other, each a third of `probeMs` after the one before or as soon as
 * that one failed; the first that brings something runs, and a better one that still proves itself takes over. As
 * every message has its place in the log, two wires at once do no harm.
 *
 * @import { Query } from './address.js'
 * @import { Gap, Message, StateEvent, Wire } from './types.js'
 * @import { Reader } from './subscription.js'
 * @import { Token } from './token.js'
 */
import { addressOf } from './address.js';
import { Problem, backoff } from './problem.js';
import { WIRES } from './wires.js';

/** So many messages may wait for a handler before a wire stops reading. */
const WAITING_MOST = 256;
const HEARTBEAT_MS = 25_000;
const TICK_MS = 1000;
/** A step of the clock after which a connection must prove that it lives. */
const JUMP_MS = 10_000;

/**
 * @typedef {object} Settings
 * @property {URL} base
 * @property {Wire[]} wires
 * @property {number} probeMs
 * @property {number} pollMs
 * @property {number} verdictMs
 * @property {[number, number]} retryMs
 * @property {string} [device]
 * @property {string} [label]
 * @property {typeof fetch} fetch
 * @property {any} WebSocket
 * @property {() => number} now
 *
 * @typedef {object} Host
 * @property {() => Reader[]} readers
 * @property {(event: StateEvent) => void} state
 * @property {(error: unknown) => void} problem
 * @property {(gap: Gap) => void} gap
 * @property {(user: string | undefined) => void} entered
 */

/** One try of one wire. */
export class Link {
  isLive = false;
  /** The request under way, begun anew when the readers change. */
  request = new AbortController();
  silenceMs = Infinity;
  heartbeatMs = HEARTBEAT_MS;
  isPaused = false;
  /** The token in place of one that was refused. @type {string | undefined} */
  refused;
  pingedAt = 0;
  patienceMs = HEARTBEAT_MS;
  #abort = new AbortController();
  #wake = () => {};
  #links;

  /** @param {Links} links @param {Wire} wire */
  constructor(links, wire) {
    this.#links = links;
    this.wire = wire;
    this.settings = links.settings;
    this.host = links.host;
    this.tokens = links.token;
    this.heardAt = this.settings.now();
    this.signal = this.#abort.signal;
    /** What is asked if it is silent. @type {(() => void) | undefined} */
    this.ping = undefined;
    /** The token has a fresh successor. @type {() => unknown} */
    this.renew = () => this.changed();
    /** A reader is gone. @type {(reader: Reader) => void} */
    this.left = () => this.changed();
    this.probe = setTimeout(() => this.end(new Problem(0, `nothing came within ${this.settings.probeMs} ms`)), this.settings.probeMs);
  }

  /** The readers have changed. */
  changed() {
    this.request.abort();
    this.#wake();
  }

  /** @param {Problem} problem */
  end(problem) {
    this.#abort.abort(problem);
    this.request.abort();
    this.#wake();
  }

  live() {
    if (this.isLive || this.signal.aborted) return;
    this.isLive = true;
    clearTimeout(this.probe);
    this.#links.proved(this);
  }

  heard() {
    this.heardAt = this.settings.now();
    this.pingedAt = 0;
  }

  /**
   * @param {string} path @param {Reader[]} readers
   * @param {Record<string, string | number | undefined>} query @param {number} silenceMs
   */
  async read(path, readers, query, silenceMs) {
    this.heard();
    this.silenceMs = silenceMs;
    const signal = AbortSignal.any([this.signal, this.request.signal]);
    const topic = [...new Set(readers.flatMap(({ topics }) => topics))];
    const response = await this.#links.ask(path, { topic, ...query }, { signal });
    this.host.entered(this.tokens.user);
    return response;
  }

  /** @param {Message<any> & { body_base64?: string }} envelope @param {Reader[]} readers */
  message({ body_base64, ...message }, readers) {
    if (body_base64 !== undefined) message.bytes = Uint8Array.from(atob(body_base64), (c) => c.charCodeAt(0));
    for (const reader of readers) reader.offer(message);
  }

  /** Waits for slow handlers. */
  async room() {
    this.isPaused = true;
    for (const reader of this.host.readers()) {
      if (reader.waiting > WAITING_MOST) await reader.drained();
    }
    this.isPaused = false;
    this.heard();
  }

  /** @param {number} ms */
  pause(ms) {
    this.silenceMs = Infinity;
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => { clearTimeout(timer); resolve(0); };
      if (this.signal.aborted) this.#wake();
    });
  }
}

export class Links {
  /** @type {Map<Wire, Link>} */
  #tries = new Map();
  /** Until when a wire counts as broken. @type {Map<Wire, number>} */
  #verdicts = new Map();
  /** What failed in this round. @type {Map<Wire, Problem>} */
  #failed = new Map();
  /** @type {Link | undefined} */
  current;
  /** @type {Wire | undefined} */
  forced;
  /** @type {{ wire: Wire, resolve: () => void, reject: (problem: Problem) => void } | undefined} */
  #switch;
  #failures = 0;
  isRunning = false;
  /** @type {any} */
  #next;
  /** @type {any} */
  #again;
  /** @type {any} */
  #ticks;
  #tickedAt = 0;

  /** @param {Settings} settings @param {Token} token @param {Host} host */
  constructor(settings, token, host) {
    this.settings = settings;
    this.token = token;
    this.host = host;
  }

  start() {
    if (this.isRunning) return;
    this.isRunning = true;
    this.#tickedAt = this.settings.now();
    this.#ticks = setInterval(() => this.#tick(), TICK_MS);
    this.#ticks.unref?.();
    this.#round();
  }

  /** @param {StateEvent} [event] */
  stop(event = { state: 'idle' }) {
    this.isRunning = false;
    clearInterval(this.#ticks);
    this.#clear();
    this.host.state(event);
  }

  /** Ends all tries without a word. */
  #clear() {
    clearTimeout(this.#next);
    clearTimeout(this.#again);
    this.current = undefined;
    this.#failed.clear();
    for (const link of this.#tries.values()) this.#drop(link);
  }

  /** @param {Link} link */
  #drop(link) {
    this.#tries.delete(link.wire);
    clearTimeout(link.probe);
    link.end(new Problem(0, 'no longer needed'));
  }

  /** Tries again at once, as if nothing were known: the network has changed, or the line is dead. @param {boolean} [isAnother] */
  again(isAnother) {
    if (!this.isRunning) return;
    this.#clear();
    this.#failures = 0;
    if (isAnother) this.#verdicts.clear();
    this.#round();
  }

  /** The browser says that there is no network; it may be wrong about this server. */
  offline() {
    if (!this.isRunning) return;
    this.#clear();
    this.#wait(new Problem(0, 'this device is offline'));
  }

  changed() {
    for (const link of this.#tries.values()) link.changed();
  }

  /** @param {Reader} reader */
  left(reader) {
    for (const link of this.#tries.values()) link.left(reader);
  }

  /** Changes to a wire; the present one ends when the new one has proved itself. @param {Wire | 'auto'} wire */
  use(wire) {
    this.#switch?.reject(new Problem(0, 'another wire was chosen'));
    this.#switch = undefined;
    if (wire === 'auto' || this.current?.wire === wire || !this.isRunning) {
      this.forced = wire === 'auto' ? undefined : wire;
      this.#tick();
      return Promise.resolve();
    }
    return /** @type {Promise<void>} */ (new Promise((resolve, reject) => {
      this.#switch = { wire, resolve, reject };
      this.#try(wire);
    }));
  }

  /** The wires that may run, the best first. */
  get #order() {
    if (this.forced) return [this.forced];
    const fit = this.settings.wires.filter((wire) => !this.#isBroken(wire));
    return fit.length > 0 ? fit : this.settings.wires;
  }

  /** @param {Wire} wire */
  #isBroken(wire) {
    return /** @type {number} */ (this.#verdicts.get(wire)) > this.settings.now();
  }

  #round() {
    this.#failed.clear();
    this.host.state({ state: 'connecting' });
    this.#step();
  }

  /** Starts the next wire of this round; the one after it a little later. */
  #step() {
    clearTimeout(this.#next);
    if (this.current || !this.isRunning) return;
    const next = this.#order.find((wire) => !this.#failed.has(wire) && !this.#tries.has(wire));
    if (next) {
      this.#next = setTimeout(() => this.#step(), this.settings.probeMs / 3);
      this.#try(next);
    } else if (this.#tries.size === 0) this.#allFailed();
  }

  /** @param {Wire} wire */
  async #try(wire) {
    if (this.#tries.has(wire)) return;
    const link = new Link(this, wire);
    this.#tries.set(wire, link);
    try {
      await WIRES[wire](link);
    } catch (error) {
      const problem = Problem.from(link.signal.aborted ? link.signal.reason : error);
      clearTimeout(link.probe);
      link.end(problem);
      if (this.#tries.get(wire) === link) this.#ended(link, problem);
    }
  }

  /** A wire brought something. @param {Link} link */
  proved(link) {
    const { wires, now, verdictMs } = this.settings;
    const wanted = this.#switch?.wire ?? this.forced;
    const isBetter = !this.current || link.wire === wanted
      || (this.current.wire !== wanted && wires.indexOf(link.wire) < wires.indexOf(this.current.wire));
    if (!isBetter) return this.#drop(link);
    clearTimeout(this.#next);
    this.#failures = 0;
    for (const wire of this.#failed.keys()) this.#verdicts.set(wire, now() + verdictMs);
    this.#failed.clear();
    this.#verdicts.delete(link.wire);
    this.current = link;
    for (const other of this.#tries.values()) {
      const mayWin = other.wire === this.#switch?.wire || (!this.forced && wires.indexOf(other.wire) < wires.indexOf(link.wire));
      if (other !== link && (other.isLive || !mayWin)) this.#drop(other);
    }
    if (this.#switch?.wire === link.wire) {
      this.forced = link.wire;
      this.#switch.resolve();
      this.#switch = undefined;
    }
    this.host.state({ state: 'open', wire: link.wire });
  }

  /** @param {Link} link @param {Problem} problem */
  #ended(link, problem) {
    this.#tries.delete(link.wire);
    if (this.#switch?.wire === link.wire) {
      this.#switch.reject(problem);
      this.#switch = undefined;
    }
    if (problem.isFinal) return this.#refused(problem);
    if (this.current === link) {
      this.current = undefined;
      this.#failed.clear();
      this.#wait(problem, problem.retryAfterMs ?? Math.random() * this.settings.retryMs[0]);
    } else if (this.current) {
      this.#verdicts.set(link.wire, this.settings.now() + this.settings.verdictMs);
    } else {
      this.#failed.set(link.wire, problem);
      this.#step();
    }
  }

  async #allFailed() {
    const problems = [...this.#failed.values()];
    const refusal = problems.find(({ isPassing }) => !isPassing);
    // A server that says no outweighs wires that can't reach it.
    if (!refusal || problems.filter(({ isPassing }) => isPassing).length > problems.length / 2) return this.#wait(refusal ?? problems[0]);
    const readers = this.host.readers();
    if (refusal.status !== 401 && readers.length > 1 && await this.#single(readers)) return this.#round();
    this.#refused(refusal);
  }

  /** Finds out which of many readers is refused; tells whether some were and others not. @param {Reader[]} readers */
  async #single(readers) {
    let allowed = 0;
    for (const reader of readers) {
      const problem = await this.ask('v1/messages', { topic: reader.topics, after: 'latest' }).then(() => undefined, Problem.from);
      if (!problem || problem.isPassing) allowed += 1;
      else reader.refuse(problem);
    }
    return allowed > 0 && allowed < readers.length;
  }

  /** @param {Problem} problem */
  #refused(problem) {
    this.stop({ state: 'refused', reason: problem.reason });
    this.host.problem(problem);
  }

  /** Comes again after a pause. @param {Problem} problem @param {number} [ms] */
  #wait(problem, ms) {
    const retryMs = ms ?? problem.retryAfterMs ?? backoff(this.#failures++, this.settings.retryMs);
    this.host.state({ state: 'waiting', reason: problem.reason, retryMs });
    clearTimeout(this.#again);
    this.#again = setTimeout(() => this.#round(), retryMs);
  }

  /** Looks after what time alone brings. */
  #tick() {
    if (!this.isRunning) return;
    const { now, probeMs, wires } = this.settings;
    const time = now();
    const hasJumped = Math.abs(time - this.#tickedAt - TICK_MS) > JUMP_MS;
    this.#tickedAt = time;
    for (const link of this.#tries.values()) this.#listen(link, time, hasJumped ? probeMs : link.heartbeatMs, hasJumped);
    if (!this.current) return;
    if (this.token.isRenewable && this.token.isExpiring) this.token.get().then(() => this.current?.renew(), this.host.problem);
    const better = this.forced ? [this.forced] : wires.slice(0, wires.indexOf(this.current.wire));
    for (const wire of better) {
      if (wire !== this.current.wire && !this.#isBroken(wire)) this.#try(wire);
    }
  }

  /** Ends a line on which nothing comes any more. @param {Link} link @param {number} time @param {number} patienceMs @param {boolean} hasJumped */
  #listen(link, time, patienceMs, hasJumped) {
    const silentMs = time - link.heardAt;
    if (silentMs < 0) link.heardAt = time;
    if (link.isPaused) return;
    const isAsking = link.pingedAt > 0;
    if (link.ping ? isAsking && time - link.pingedAt > link.patienceMs : silentMs > link.silenceMs) {
      link.end(new Problem(0, 'nothing comes any more'));
    } else if (link.ping && !isAsking && (silentMs > link.heartbeatMs || hasJumped)) {
      link.ping();
      link.pingedAt = time;
      link.patienceMs = patienceMs;
    }
  }

  /** Fetches; after a 401 once more with another token. @param {string} path @param {Query} query @param {RequestInit} [options] */
  async ask(path, query, options = {}) {
    const address = addressOf(this.settings, path, query);
    let token = await this.token.get();
    for (let isAgain = false; ; isAgain = true) {
      const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
      /** @type {Response} */
      let response;
      try {
        response = await this.settings.fetch(address.href, { ...options, cache: 'no-store', headers });
      } catch (error) {
        throw options.signal?.aborted ? error : new Problem(0, 'the server can’t be reached');
      }
      if (response.ok) return response;
      const problem = await Problem.of(response);
      if (response.status !== 401 || isAgain || !this.token.isRenewable) throw problem;
      token = await this.token.another(token);
    }
  }
}
