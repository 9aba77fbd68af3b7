/** @import { Message, SubscribeOptions } from './types.js' */
import { distance, takes } from './cursor.js';
import { Problem, backoff } from './shared.js';

/** @type {[number, number]} */
const RETRY_MS = [250, 10_000];

/**
 * The reader of a subscription. `at` is the position up to which messages were taken into the queue, `cursor` the one up to
 * which they were handled: wires go on from the first, a new start from the second.
 */
export class Reader {
  /** @type {string | undefined} */
  cursor;
  /** The position from which reading goes on: a cursor, `earliest`, or now. @type {string | undefined} */
  at;
  /** The wire's link that has confirmed it. @type {object | undefined} */
  link;
  /** Keeps the position up to which messages were handled. @type {((cursor: string) => void) | undefined} */
  keep;
  isClosed = false;
  /** @type {{ message?: Message<any>, cursor?: string }[]} */
  #queue = [];
  /** @type {Set<string>} */
  #greetings = new Set();
  /** @type {(value?: any) => void} */
  #resolve = () => {};
  /** @type {(problem: Problem) => void} */
  #reject = () => {};
  /** @type {(() => void)[]} */
  #drained = [];
  #wake = () => {};
  /** @type {Problem | undefined} */
  problem;
  #owner;

  /**
   * @param {{ left(reader: Reader): void, problem(error: unknown): void }} owner
   * @param {string[]} topics
   * @param {((message: Message<any>) => unknown) | undefined} handle
   * @param {SubscribeOptions} options
   */
  constructor(owner, topics, handle, { after, name }) {
    this.#owner = owner;
    this.topics = topics;
    this.name = name;
    this.cursor = this.at = after === 'latest' ? undefined : after;
    /** @type {Promise<void>} */
    this.ready = new Promise((resolve, reject) => { [this.#resolve, this.#reject] = [resolve, reject]; });
    this.ready.catch(() => {});
    if (handle) this.#read(handle).catch(() => {});
  }

  /** Hands one message after the other to a handler; again while it fails. @param {(message: Message<any>) => unknown} handle */
  async #read(handle) {
    for await (const message of this) {
      for (let failures = 0; !this.isClosed; failures += 1) {
        try {
          await handle(message);
          break;
        } catch (error) {
          this.#owner.problem(error);
          await new Promise((resolve) => { setTimeout(resolve, backoff(failures, RETRY_MS)); });
        }
      }
    }
  }

  /** The server reads for it, from here on. @param {string} [cursor] */
  confirmed(cursor) {
    if (!this.at) this.reach(cursor);
    this.#resolve();
  }

  /** Takes a message unless it came before, or is for other readers. @param {Message<any>} message */
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
    const last = this.#queue.at(-1);
    if (last && !last.message && !entry.message) last.cursor = entry.cursor;
    else this.#queue.push(entry);
    this.#wake();
  }

  /** The number of messages that wait to be handled. */
  get waiting() {
    return this.#queue.length;
  }

  /** Resolves when the queue is empty. */
  async drained() {
    if (this.#queue.length > 0 && !this.isClosed) await new Promise((resolve) => this.#drained.push(() => resolve(0)));
  }

  /** The messages; one counts as handled when the next is asked for. */
  async *[Symbol.asyncIterator]() {
    try {
      while (!this.isClosed) {
        if (this.#queue.length === 0) {
          this.#drained.splice(0).forEach((done) => done());
          await new Promise((resolve) => { this.#wake = () => resolve(0); });
          continue;
        }
        const [{ message, cursor }] = this.#queue;
        if (message) yield message;
        this.#queue.shift();
        if (!cursor) continue;
        this.cursor = cursor;
        if (!this.isClosed) this.keep?.(cursor);
      }
      if (this.problem) throw this.problem;
    } finally {
      this.close();
    }
  }

  close() {
    if (this.isClosed) return;
    this.isClosed = true;
    this.#reject(new Problem(0, 'closed'));
    this.#wake();
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
