/**
 * One connection for all tabs. The tab with the lock leads: it reads for the others and passes messages on. When it ends,
 * the browser gives the lock to the next tab, and each tab tells that one its topics, and its position.
 *
 * @import { Message, StateEvent } from './types.js'
 * @import { Reader } from './subscription.js'
 * @import { Links } from './links.js'
 */
import { Problem } from './shared.js';

export class Tabs {
  #id = crypto.randomUUID();
  #channel;
  #life = new AbortController();
  isLeader = false;
  /** Whether it has the lock of its name. */
  #isKnown = false;
  /** The readers of this tab that read for others, by tab and number. @type {Map<string, Reader>} */
  #proxies = new Map();
  /** @type {Map<Reader, number>} */
  #numbers = new Map();
  #count = 0;
  /** @type {StateEvent} */
  #event = { state: 'idle' };
  #prefix;
  #links;
  #client;

  /**
   * @typedef {object} Client
   * @property {(event: StateEvent) => void} moved
   * @property {(kind: string, event: any) => void} heard
   * @property {(topics: string[], handle: (message: Message<any>) => unknown, after: string | undefined) => Reader} read
   *
   * @param {string} prefix @param {Links} links @param {Client} client
   */
  constructor(prefix, links, client) {
    this.#prefix = prefix;
    this.#links = links;
    this.#client = client;
    this.#channel = new BroadcastChannel(`${prefix}tabs`);
    this.#channel.onmessage = ({ data }) => this.#heard(data);
    const { signal } = this.#life;
    // While a tab lives it has a lock of its name: the leader waits for it to learn of the tab's end. Until it has it, the leader
    // would take it for one that has ended.
    this.#lock(`${prefix}tab/${this.#id}`, () => {
      this.#isKnown = true;
      this.start();
    });
    this.#lock(`${prefix}leader`, () => {
      if (signal.aborted) return;
      this.isLeader = true;
      this.#numbers.clear();
      this.#say({ leader: this.#id });
      this.#links.start();
    });
  }

  /** Has a lock for as long as this tab lives. @param {string} name @param {() => void} granted */
  #lock(name, granted) {
    const { signal } = this.#life;
    navigator.locks.request(name, { signal }, () => {
      granted();
      return new Promise((resolve) => { signal.addEventListener('abort', () => resolve(0)); });
    }).catch(() => {});
  }

  /** @param {object} words */
  #say(words) {
    if (!this.#life.signal.aborted) this.#channel.postMessage({ from: this.#id, ...words });
  }

  start() {
    if (this.isLeader) this.#links.start();
    else this.#follow();
  }

  /** Asks the leader for the topics that this tab reads and hasn't asked for. */
  #follow() {
    if (!this.#isKnown) return;
    for (const reader of this.#links.readers) {
      if (this.#numbers.has(reader)) continue;
      this.#numbers.set(reader, ++this.#count);
      this.#say({ want: this.#count, topics: reader.topics, after: reader.at });
    }
  }

  /** @param {Reader} reader */
  left(reader) {
    const number = this.#numbers.get(reader);
    this.#numbers.delete(reader);
    if (number) this.#say({ leave: number });
    for (const [name, proxy] of this.#proxies) if (proxy === reader) this.#proxies.delete(name);
    this.#links.left(reader);
  }

  /** @param {StateEvent} event */
  moved(event) {
    if (event.state === 'closed') {
      this.#life.abort();
      this.#channel.close();
    } else if (this.isLeader) {
      this.#event = event;
      this.#say({ event });
    }
  }

  /** Passes an event from the leader to the other tabs. @param {string} kind @param {any} event */
  pass(kind, event) {
    if (this.isLeader) this.#say({ kind, heard: event });
  }

  /** @param {any} words */
  #heard(words) {
    if (this.isLeader) {
      if (words.want) this.#read(words);
      else if (words.leave) this.#proxies.get(`${words.from}/${words.leave}`)?.close();
      return;
    }
    if (words.leader) {
      this.#numbers.clear();
      this.#follow();
    } else if (words.event) this.#client.moved(words.event);
    else if (words.heard) this.#client.heard(words.kind, words.heard);
    if (words.to !== this.#id) return;
    const [reader] = [...this.#numbers].find(([, number]) => number === words.want) ?? [];
    if (!reader) return;
    if (words.message) reader.offer(words.message);
    if (words.cursor) reader.reach(words.cursor);
    if (words.isReady) reader.confirmed(words.at);
    if (words.refused) reader.refuse(new Problem(words.refused.status, words.refused.reason));
  }

  /** @param {{ from: string, want: number, topics: string[], after?: string }} words */
  #read({ from, want, topics, after }) {
    const name = `${from}/${want}`;
    if (this.#proxies.has(name)) return;
    /** @param {object} words */
    const answer = (words) => this.#say({ to: from, want, ...words });
    const proxy = this.#client.read(topics, (message) => answer({ message }), after);
    proxy.keep = (cursor) => answer({ cursor });
    proxy.ready.then(() => answer({ isReady: true, at: proxy.at }), ({ status, reason }) => status && answer({ refused: { status, reason } }));
    this.#proxies.set(name, proxy);
    this.#say({ event: this.#event });
    navigator.locks.request(`${this.#prefix}tab/${from}`, { signal: this.#life.signal }, () => proxy.close()).catch(() => {});
  }
}
