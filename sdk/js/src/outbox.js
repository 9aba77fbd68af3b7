/**
 * The messages that wait to be published, in order, each with the next ordered key `seq:PRODUCER:N`: the server counts without
 * holes, so that a message is published once however often it is sent, for 7 days.
 *
 * @import { Published, PublishOptions, Store } from './types.js'
 */
import { safeStore } from './kept.js';
import { Problem, backoff } from './shared.js';

const DAY_MS = 24 * 3_600_000;
/** The number of tabs that have a place of their own in the store. */
const SLOTS = 8;

/**
 * @typedef {object} Entry
 * @property {string} topic
 * @property {PublishOptions} options
 * @property {string} type
 * @property {string} text  The body; in Base64 if `isBinary`.
 * @property {boolean} isBinary
 * @property {number} at
 *
 * @typedef {{ producer: string, next: number, entries: Entry[] }} Queue
 * @typedef {{ resolve: (published: Published) => void, reject: (problem: Problem) => void }} Waiter
 *
 * @typedef {object} Outside  The functions and settings that the client gives.
 * @property {string} prefix  The prefix of the keys in the store, and of the locks by which tabs divide the places in it.
 * @property {false | { store?: Store, max?: number, ttlMs?: number }} [outbox]
 * @property {[number, number]} retryMs
 * @property {() => number} now
 * @property {(entry: Entry, key: string) => Promise<Published>} post
 * @property {(waiting: number, reason?: string) => void} changed  The reason for waiting, if a try has failed.
 * @property {(error: unknown) => void} problem
 *
 * @typedef {Omit<Outside, 'outbox' | 'changed'> & { store: Store, max: number, ttlMs: number, changed: (reason?: string) => void }} Settings
 */

export class Outbox {
  /** This tab's own queue first, then those that closed tabs have left. @type {Lane[]} */
  #queues = [];
  #opened;
  #settings;
  #isClosed = false;
  /** @type {(() => void)[]} */
  #releases = [];

  /** @param {Outside} outside */
  constructor(outside) {
    const { store, max = 1000, ttlMs = DAY_MS } = outside.outbox || {};
    this.#settings = {
      ...outside,
      store: safeStore(store, outside),
      max,
      ttlMs: Math.min(ttlMs, 7 * DAY_MS),
      changed: (/** @type {string | undefined} */ reason) => outside.changed(this.waiting, reason),
    };
    this.#opened = this.#open();
  }

  get waiting() {
    return this.#queues.reduce((sum, { waiting }) => sum + waiting, 0);
  }

  async #open() {
    const { locks } = /** @type {any} */ (globalThis.navigator ?? {});
    for (let slot = 0; slot < (locks ? SLOTS : 1) && !this.#isClosed; slot += 1) {
      const name = `outbox/${slot}`;
      const release = locks ? await take(locks, this.#settings.prefix + name) : () => {};
      if (!release) continue;
      const queue = await new Lane(this.#settings, name).open();
      // A tab keeps one place; it keeps another one only until the messages left there are sent.
      if (this.#queues.length > 0 && queue.waiting === 0) release();
      else {
        if (this.#queues.length > 0) queue.drained = release;
        this.#queues.push(queue);
        this.#releases.push(release);
      }
    }
    if (this.#queues.length === 0) this.#queues.push(new Lane({ ...this.#settings, store: nowhere }, ''));
  }

  /**
   * @param {string} topic @param {string | Uint8Array} content @param {PublishOptions & { type: string }} options
   * @param {AbortSignal} [signal]
   * @returns {Promise<Published>}
   */
  async add(topic, content, { type, ...options }, signal) {
    const isBinary = typeof content !== 'string';
    const text = isBinary ? btoa(Array.from(content, (byte) => String.fromCharCode(byte)).join('')) : content;
    const entry = { topic, options, type, text, isBinary, at: this.#settings.now() };
    await this.#opened;
    if (this.waiting >= this.#settings.max) throw new Problem(0, `the outbox is full: ${this.#settings.max} messages wait`);
    return this.#queues[0].add(entry, signal);
  }

  /** The server may be there again. */
  wake() {
    for (const queue of this.#queues) queue.wake();
  }

  close() {
    this.#isClosed = true;
    for (const queue of this.#queues) queue.close();
    for (const release of this.#releases) release();
  }
}

/** The store of a tab without a place: its queue is in memory only. @type {Store} */
const nowhere = { get: async () => null, set: async () => {} };

/**
 * Takes a lock if it is free; resolves with the function that gives it back.
 * @param {LockManager} locks @param {string} name
 * @returns {Promise<(() => void) | undefined>}
 */
const take = (locks, name) => new Promise((resolve) => {
  locks.request(name, { ifAvailable: true }, (lock) => {
    if (!lock) return resolve(undefined);
    return new Promise((release) => resolve(() => release(0)));
  }).catch(() => resolve(undefined));
});

/** One queue, of one producer. */
class Lane {
  /** @type {Queue} */
  #queue = begin();
  /** @type {Map<Entry, Waiter>} */
  #waiters = new Map();
  /** Whether the first entry was sent, here or before a reload: then it may have arrived. */
  #wasSent = true;
  /** Whether the next number may have been used by an entry that was given up. */
  #isDoubtful = false;
  #isSending = false;
  #isClosed = false;
  #failures = 0;
  #settings;
  #name;
  wake = () => {};
  drained = () => {};

  /** @param {Settings} settings @param {string} name */
  constructor(settings, name) {
    this.#settings = settings;
    this.#name = name;
  }

  get waiting() {
    return this.#queue.entries.length;
  }

  async open() {
    try {
      this.#queue = JSON.parse(await this.#settings.store.get(this.#name) ?? 'null') ?? this.#queue;
    } catch (error) {
      this.#settings.problem(error);
    }
    if (this.waiting > 0) this.#send();
    else this.#wasSent = false;
    return this;
  }

  close() {
    this.#isClosed = true;
    this.wake();
    for (const { reject } of this.#waiters.values()) reject(new Problem(0, 'closed; what the outbox keeps is sent at the next start'));
  }

  /** @param {Entry} entry @param {AbortSignal} [signal] */
  async add(entry, signal) {
    signal?.throwIfAborted();
    this.#queue.entries.push(entry);
    // The entry may be answered while the store still takes it.
    const published = new Promise((resolve, reject) => { this.#waiters.set(entry, { resolve, reject }); });
    published.catch(() => {});
    const takeBack = () => {
      const at = this.#queue.entries.indexOf(entry);
      if (at > 0 || (at === 0 && !this.#wasSent)) this.#remove(entry, new Problem(0, 'taken back'));
    };
    signal?.addEventListener('abort', takeBack);
    await this.#save();
    this.#send();
    return published;
  }

  async #save() {
    const { entries } = this.#queue;
    this.#settings.changed();
    await this.#settings.store.set(this.#name, entries.length > 0 || this.#queue.next > 1 ? JSON.stringify(this.#queue) : null);
  }

  /** @param {Entry} entry @param {Problem} problem */
  async #remove(entry, problem) {
    const { entries } = this.#queue;
    entries.splice(entries.indexOf(entry), 1);
    const waiter = this.#waiters.get(entry);
    this.#waiters.delete(entry);
    problem.topic ??= entry.topic;
    if (waiter) waiter.reject(problem);
    else this.#settings.problem(problem);
    await this.#save();
  }

  async #send() {
    if (this.#isSending) return;
    this.#isSending = true;
    while (this.waiting > 0 && !this.#isClosed) {
      const [entry] = this.#queue.entries;
      const wasSent = this.#wasSent;
      if (this.#settings.now() - entry.at > this.#settings.ttlMs) {
        await this.#giveUp(entry, new Problem(0, 'it waited too long in the outbox'));
        continue;
      }
      this.#wasSent = true;
      try {
        await this.#sent(entry, wasSent, await this.#settings.post(entry, `seq:${this.#queue.producer}:${this.#queue.next}`));
      } catch (error) {
        await this.#failed(entry, wasSent, Problem.from(error));
      }
    }
    this.#isSending = false;
    if (this.waiting === 0) this.drained();
  }

  /** @param {Entry} entry @param {boolean} wasSent @param {Published} published */
  async #sent(entry, wasSent, published) {
    this.#failures = 0;
    this.#queue.next += 1;
    this.#wasSent = false;
    // The number was used by an entry that was given up: this one goes with the next.
    if (published.duplicate && this.#isDoubtful && !wasSent) return;
    this.#isDoubtful = false;
    this.#queue.entries.shift();
    await this.#save();
    this.#waiters.get(entry)?.resolve(published);
    this.#waiters.delete(entry);
  }

  /** @param {Entry} entry @param {boolean} wasSent @param {Problem} problem */
  async #failed(entry, wasSent, problem) {
    if (problem.expected !== undefined && this.#queue.next > 1) {
      // The server doesn't know this producer any more: it begins anew, under another name.
      Object.assign(this.#queue, { ...begin(), entries: this.#queue.entries });
      [this.#wasSent, this.#isDoubtful] = [false, false];
      await this.#save();
    } else if (problem.status === 409 && this.#isDoubtful && !wasSent) {
      this.#queue.next += 1;
      this.#wasSent = false;
    } else if (problem.isPassing) {
      const ms = problem.retryAfterMs ?? backoff(this.#failures++, this.#settings.retryMs);
      this.#settings.changed(problem.reason);
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, ms);
        this.wake = () => { clearTimeout(timer); resolve(0); };
      });
    } else {
      this.#wasSent = wasSent;
      await this.#giveUp(entry, problem);
    }
  }

  /** A refused message doesn't use its number, unless an earlier try of it had arrived. @param {Entry} entry @param {Problem} problem */
  async #giveUp(entry, problem) {
    this.#isDoubtful ||= this.#wasSent;
    this.#wasSent = false;
    await this.#remove(entry, problem);
  }
}

/** @returns {Queue} */
const begin = () => ({ producer: crypto.randomUUID(), next: 1, entries: [] });
