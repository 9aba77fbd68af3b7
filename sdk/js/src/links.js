/**
 * The choice of the wire that runs. The wires start one after the other, each a third of `probeMs` after the one before or as soon as
 * that one failed; the first that brings an answer runs, and a better one that proves itself later takes over. As
 * every message has its place in the log, two wires at once do no harm.
 *
 * @import { Query } from './address.js'
 * @import { Session } from './session.js'
 * @import { StateEvent, Wire } from './types.js'
 * @import { Token } from './token.js'
 * @import { Reader } from './subscription.js'
 */
import { addressOf } from './address.js';
import { Link } from './link.js';
import { Problem, backoff } from './shared.js';
import { ws } from './ws.js';

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
 * @property {string} [token]
 * @property {() => Promise<Token>} [tokens]  In place of `token`: a function gives it.
 * @property {string} [device]
 * @property {string} [label]
 * @property {boolean} [session]
 * @property {typeof fetch} fetch
 * @property {any} WebSocket
 * @property {() => number} now
 *
 * @typedef {object} Host
 * @property {(event: StateEvent) => void} state
 * @property {(error: unknown) => void} problem
 * @property {(kind: string, event: any) => void} event  An event for the application, passed on unchanged: gaps, signals.
 */

export class Links {
  /** The readers of the application. @type {Set<Reader>} */
  readers = new Set();
  /** The user, as the server says. @type {string | undefined} */
  user;
  /** @type {Session | undefined} */
  session;
  /** @type {Map<Wire, Link>} */
  #tries = new Map();
  /** The time until which a wire counts as broken. @type {Map<Wire, number>} */
  #verdicts = new Map();
  /** The problems of the wires that failed in this round. @type {Map<Wire, Problem>} */
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

  /** @param {Settings} settings @param {Host} host */
  constructor(settings, host) {
    this.settings = settings;
    this.host = host;
  }

  start() {
    if (this.isRunning || this.readers.size === 0) return;
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
    link.end(new Problem(0, 'no longer needed'));
  }

  /** Tries again at once, as if nothing were known: the network has changed. */
  again() {
    if (!this.isRunning) return;
    this.#clear();
    this.#failures = 0;
    this.#verdicts.clear();
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
    this.readers.delete(reader);
    for (const link of this.#tries.values()) link.left(reader);
    if (this.isRunning && this.readers.size === 0) this.stop();
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
    } else if (this.#tries.size === 0) this.#allFailed().catch((error) => this.#wait(Problem.from(error)));
  }

  /** @param {Wire} wire */
  async #try(wire) {
    if (this.#tries.has(wire)) return;
    const link = new Link(this, wire);
    this.#tries.set(wire, link);
    try {
      await (wire === 'ws' ? ws : (await import('./http.js')).WIRES[wire])(link);
    } catch (error) {
      const problem = Problem.from(link.signal.aborted ? link.signal.reason : error);
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
    const readers = [...this.readers];
    if (refusal.status !== 401 && readers.length > 1 && await (await import('./http.js')).single(this, readers)) return this.#round();
    this.#refused(refusal);
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

  /** Checks whatever depends on the time. */
  #tick() {
    if (!this.isRunning) return;
    const { now, wires } = this.settings;
    const time = now();
    const hasJumped = Math.abs(time - this.#tickedAt - TICK_MS) > JUMP_MS;
    this.#tickedAt = time;
    for (const link of this.#tries.values()) link.check(time, hasJumped);
    if (!this.current) return;
    this.#renew().catch(this.host.problem);
    const better = this.forced ? [this.forced] : wires.slice(0, wires.indexOf(this.current.wire));
    for (const wire of better) {
      if (wire !== this.current.wire && !this.#isBroken(wire)) this.#try(wire);
    }
  }

  /** The token, or another than one that was refused. @param {string} [refused] @returns {Promise<string | undefined>} */
  async token(refused) {
    const tokens = await this.settings.tokens?.();
    if (!tokens) return this.settings.token;
    return refused === undefined ? tokens.get() : tokens.another(refused);
  }

  async #renew() {
    const tokens = await this.settings.tokens?.();
    if (!tokens?.isExpiring) return;
    await tokens.get();
    this.current?.renew();
  }

  /** Fetches; after a 401 once more with another token. @param {string} path @param {Query} query @param {RequestInit} [options] */
  async ask(path, query, options = {}) {
    const address = addressOf(this.settings, path, query);
    let token = await this.token();
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
      const another = response.status === 401 && !isAgain && await this.token(token);
      if (!another || another === token) throw problem;
      token = another;
    }
  }
}
