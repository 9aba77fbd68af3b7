/** @import { Message, SubscribeOptions } from './types.js' */
import { distance, takes } from './cursor.js';
import { Problem, backoff } from './problem.js';

/** @type {[number, number]} */
const RETRY_MS = [250, 10_000];

/**
 * What the application reads. `at` is how far messages have been taken into the queue, `cursor` how far they were
 * handled: wires go on at the first, a new start at the second.
 */
export class Reader {
  /** @type {string | undefined} */
  cursor;
  /** Where reading goes on: a cursor, `earliest`, or now. @type {string | undefined} */
  at;
  /** The wire's link that has confirmed it. @type {object | undefined} */
  link;
  isClosed = false;
  /** @type {{ message?: Message<any>, cursor?: string }[]} */
  #queue = [];
  /** @type {Set<string>} */
  #greetings = new Set();
  #isPumping = false;
  /** @type {(value?: any) => void} */
  #resolve = () => {};
  /** @type {(problem: Problem) => void} */
  #reject = () => {};
  /** @type {(() => void)[]} */
  #drained = [];
  /** @type {(() => void) | undefined} */
  #wake;
  #owner;

  /**
   * @param {{ left(reader: Reader): void, problem(error: unknown): void, keep(reader: Reader): void }} owner
   * @param {string[]} topics
   * @param {((message: Message<any>) => unknown) | undefined} handle
   * @param {SubscribeOptions} options
   */
  constructor(owner, topics, handle, { after, name }) {
    this.#owner = owner;
    this.topics = topics;
    this.handle = handle;
    this.name = name;
    this.cursor = this.at = after === 'latest' ? undefined : after;
    /** @type {Promise<void>} */
    this.ready = new Promise((resolve, reject) => { [this.#resolve, this.#reject] = [resolve, reject]; });
    this.ready.catch(() => {});
  }

  /** The server reads for it, from here on. @param {string} [cursor] */
  confirmed(cursor) {
    if (!this.at) this.reach(cursor);
    this.#resolve();
  }

  /** Takes a message unless it had come before, or is for others. @param {Message<any>} message */
  offer(message) {
    const isMine = this.topics.some((filter) => takes(filter, message.topic));
    if (message.retained) {
      if (!isMine || this.#greetings.has(message.id)) return;
      this.#greetings.add(message.id);
      this.#push({ message });
    } else if (!(distance(message.cursor, this.at) <= 0)) {
      if (isMine) {
        this.at = message.cursor;
        this.#push({ message, cursor: message.cursor });
      } else this.reach(message.cursor);
    }
  }

  /** Nothing was missed up to here. @param {string | null | undefined} cursor */
  reach(cursor) {
    if (!cursor || distance(cursor, this.at) <= 0) return;
    this.at = cursor;
    this.#push({ cursor });
  }

  /** @param {{ message?: Message<any>, cursor?: string }} entry */
  #push(entry) {
    this.#queue.push(entry);
    if (!this.#isPumping) this.#pump();
  }

  /** How many messages wait to be handled. */
  get waiting() {
    return this.#queue.length;
  }

  /** Resolves when the queue is empty. */
  async drained() {
    if (this.#queue.length > 0 && !this.isClosed) await new Promise((resolve) => this.#drained.push(() => resolve(0)));
  }

  async #pump() {
    this.#isPumping = true;
    for (let failures = 0; this.#queue.length > 0 && !this.isClosed;) {
      const { message, cursor } = this.#queue[0];
      try {
        if (message) await (this.handle ? this.handle(message) : this.#handOver(message));
        this.#queue.shift();
        failures = 0;
        if (cursor) {
          this.cursor = cursor;
          if (!this.isClosed) this.#owner.keep(this);
        }
      } catch (error) {
        this.#owner.problem(error);
        await new Promise((resolve) => { setTimeout(resolve, backoff(failures++, RETRY_MS)); });
      }
    }
    this.#isPumping = false;
    this.#drained.splice(0).forEach((done) => done());
  }

  // For `for await`: a message is handled when the next is asked for.

  /** @type {Message<any>[]} */
  #ready = [];
  /** @type {(() => void) | undefined} */
  #handled;
  /** @type {Problem | undefined} */
  problem;

  /** @param {Message<any>} message */
  #handOver(message) {
    this.#ready.push(message);
    this.#wake?.();
    return new Promise((resolve) => { this.#handled = () => resolve(0); });
  }

  async *[Symbol.asyncIterator]() {
    try {
      for (;;) {
        while (this.#ready.length === 0) {
          if (this.problem) throw this.problem;
          if (this.isClosed) return;
          await new Promise((resolve) => { this.#wake = () => resolve(0); });
        }
        yield /** @type {Message<any>} */ (this.#ready.shift());
        this.#handled?.();
      }
    } finally {
      this.close();
    }
  }

  close() {
    if (this.isClosed) return;
    this.isClosed = true;
    this.#reject(new Problem(0, 'closed'));
    this.#wake?.();
    this.#drained.splice(0).forEach((done) => done());
    this.#owner.left(this);
  }

  /** The server doesn't let it read. @param {Problem} problem */
  refuse(problem) {
    this.problem = problem;
    problem.topic ??= this.topics.join(' ');
    this.#reject(problem);
    this.close();
    this.#owner.problem(problem);
  }
}
