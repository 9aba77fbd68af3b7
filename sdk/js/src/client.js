/**
 * @import { Events, Message, Options, Page, Presence, Published, PublishOptions, State, StateEvent, SubscribeOptions, Subscription, Wire } from './types.js'
 */
import { Links } from './links.js';
import { Outbox } from './outbox.js';
import { Problem } from './problem.js';
import { browserStore, safeStore } from './store.js';
import { Reader } from './subscription.js';
import { Tabs } from './tabs.js';
import { Token } from './token.js';

const WEEK_MS = 7 * 24 * 3_600_000;
/** @type {any} */
const world = globalThis;

/** A client of one server. */
export class Everywire {
  /** @type {State} */
  #state = 'idle';
  /** @type {Wire | undefined} */
  #wire;
  /** @type {string | undefined} */
  #user;
  /** @type {Set<Reader>} */
  #readers = new Set();
  /** @type {Map<string, Set<(event: any) => void>>} */
  #listeners = new Map();
  /** @type {Outbox | undefined} */
  #outbox;
  /** @type {Tabs | undefined} */
  #tabs;
  /** @type {Map<string, string>} Cursors that are being written, by name. */
  #keeping = new Map();
  #links;
  #settings;
  #token;
  #cursors;
  #base;

  /**
   * @param {string | URL} [url]  The server, with its path prefix if it has one; the page's own unless given.
   * @param {Options} [options]
   */
  constructor(url = new URL('/', world.location), options = {}) {
    this.#base = new URL(String(url).replace(/\/?$/, '/'), world.location);
    const { fetch = world.fetch.bind(world), WebSocket = world.WebSocket, now = Date.now, retryMs = [250, 10_000], outbox = {}, cursors } = options;
    const wires = (options.wires ?? ['ws', 'sse', 'longpoll', 'poll']).filter((wire) => wire !== 'ws' || WebSocket);
    this.#token = new Token(options.token, now);
    this.#settings = { probeMs: 3000, pollMs: 1000, verdictMs: 600_000, ...options, base: this.#base, wires, fetch, WebSocket, now, retryMs };
    this.#links = new Links(this.#settings, this.#token, {
      readers: () => [...this.#readers, ...(this.#tabs?.readers ?? [])],
      state: (event) => this.#moved(event),
      problem: (error) => this.#tell(error),
      gap: (gap) => this.#emit('gap', gap),
      entered: (user) => { this.#user = user; },
    });
    const prefix = `everywire:${this.#base.href}:`;
    /** @param {unknown} error */
    const fail = (error) => this.#tell(new Problem(0, `the storage can’t be used, what waits is kept in memory only: ${Problem.from(error).reason}`));
    const browser = 'localStorage' in world || world.document ? browserStore() : undefined;
    this.#cursors = cursors === false ? undefined : safeStore(cursors ?? browser, prefix, fail);
    if (outbox) {
      this.#outbox = new Outbox({
        store: safeStore(outbox.store ?? browser, prefix, fail),
        name: prefix,
        max: outbox.max ?? 1000,
        ttlMs: Math.min(outbox.ttlMs ?? WEEK_MS / 7, WEEK_MS),
        retryMs,
        now,
        post: ({ topic, type, text, isBinary, options }, key) => this.#post(topic, isBinary ? bytes(text) : text, { ...options, type, key }),
        changed: () => this.#emit('outbox', { waiting: /** @type {Outbox} */ (this.#outbox).waiting }),
        problem: (error) => this.#tell(error),
      });
    }
    if (options.share && world.navigator?.locks && world.BroadcastChannel) this.#tabs = new Tabs(prefix, this.#links, this.#readers, (event) => this.#moved(event));
    this.#listen('addEventListener');
  }

  /** @param {'addEventListener' | 'removeEventListener'} how */
  #listen(how) {
    world[how]?.('online', this.#online);
    world[how]?.('offline', this.#offline);
    world.navigator?.connection?.[how]?.('change', this.#online);
  }

  #online = () => {
    this.#links.again(true);
    this.#outbox?.wake();
  };

  #offline = () => this.#links.offline();

  get state() {
    return this.#state;
  }

  /** The wire that runs. */
  get wire() {
    return this.#wire;
  }

  /** Who the server says that this is. */
  get user() {
    return this.#user;
  }

  /** Where the server is. */
  get url() {
    return this.#base.href;
  }

  /** Connects, if there is something to read; after a refusal it tries again. */
  start() {
    if (this.#state === 'closed') throw new Problem(0, 'this client is closed');
    this.#outbox?.wake();
    if (this.#readers.size === 0 && !this.#tabs?.readers.length) return;
    if (this.#tabs && !this.#tabs.isLeader) this.#tabs.follow();
    else this.#links.start();
  }

  /** Ends everything; what waits in a kept outbox is sent at the next start. */
  async close() {
    for (const reader of this.#readers) reader.close();
    this.#tabs?.close();
    this.#links.stop({ state: 'closed' });
    this.#outbox?.close();
    this.#listen('removeEventListener');
  }

  /**
   * Changes to a wire without losing a message: the one that runs ends when the new one has proved itself.
   * @param {Wire | 'auto'} wire
   * @returns {Promise<void>}
   */
  async use(wire) {
    await this.#links.use(wire);
  }

  /**
   * @template {keyof Events} K
   * @param {K} kind
   * @param {(event: Events[K]) => void} listener
   * @returns {() => void} ends it
   */
  on(kind, listener) {
    const listeners = this.#listeners.get(kind) ?? new Set();
    this.#listeners.set(kind, listeners.add(listener));
    return () => { listeners.delete(listener); };
  }

  /**
   * Follows topics and filters. The cursor moves when the promise of the handler resolves; while it rejects, the same
   * message comes again.
   * @template [T=unknown]
   * @param {string | string[]} topics
   * @param {(message: Message<T>) => unknown} [handle]
   * @param {SubscribeOptions} [options]
   * @returns {Subscription<T>}
   */
  subscribe(topics, handle, options = {}) {
    if (this.#state === 'closed') throw new Problem(0, 'this client is closed');
    const reader = new Reader({
      left: (reader) => {
        this.#readers.delete(reader);
        this.#links.left(reader);
        this.#tabs?.left(reader);
        if (this.#readers.size === 0 && !this.#tabs?.readers.length && this.#links.isRunning && this.#state !== 'refused') this.#links.stop();
      },
      problem: (error) => this.#tell(error),
      keep: (reader) => this.#keep(reader),
    }, [topics].flat(), handle, options);
    this.#begin(reader);
    options.signal?.addEventListener('abort', () => reader.close());
    return /** @type {any} */ (reader);
  }

  /** @param {Reader} reader */
  async #begin(reader) {
    const kept = reader.name && await this.#cursors?.get(`cursor/${reader.name}`);
    if (reader.isClosed) return;
    if (kept) reader.cursor = reader.at = kept;
    this.#readers.add(reader);
    this.start();
    this.#links.changed();
  }

  /** @param {Reader} reader */
  async #keep({ name, cursor }) {
    if (!name || !cursor || !this.#cursors) return;
    const isWriting = this.#keeping.has(name);
    this.#keeping.set(name, cursor);
    if (isWriting) return;
    for (let written; written !== this.#keeping.get(name);) {
      written = this.#keeping.get(name);
      await this.#cursors.set(`cursor/${name}`, /** @type {string} */ (written));
    }
    this.#keeping.delete(name);
  }

  /**
   * Publishes; resolves when the server promises to keep the message. While there is no connection it waits in the
   * outbox.
   * @param {string} topic
   * @param {unknown} body  A string, bytes, or what JSON can say.
   * @param {PublishOptions} [options]
   * @returns {Promise<Published>}
   */
  async publish(topic, body, { queue = true, signal, ...options } = {}) {
    const isBinary = body instanceof Uint8Array || body instanceof ArrayBuffer;
    const isText = typeof body === 'string';
    const type = options.type ?? (isText ? 'text/plain;charset=utf-8' : isBinary ? 'application/octet-stream' : 'application/json');
    const content = isBinary ? new Uint8Array(body) : isText ? body : JSON.stringify(body);
    if (this.#outbox && queue && !options.key) {
      const text = typeof content === 'string' ? content : btoa(Array.from(content, (byte) => String.fromCharCode(byte)).join(''));
      return this.#outbox.add({ topic, options, type, text, isBinary, at: this.#settings.now() }, signal);
    }
    return this.#post(topic, content, { ...options, type, signal });
  }

  /** @param {string} topic @param {any} body @param {PublishOptions} options @returns {Promise<Published>} */
  async #post(topic, body, { event, type = '', key, ttl, retain, signal }) {
    /** @type {Record<string, string>} */
    const headers = { 'Content-Type': type };
    if (key) headers['Idempotency-Key'] = key;
    const response = await this.#links.ask('v1/messages', { topic, event, ttl, retain: retain ? 1 : undefined }, { method: 'POST', headers, body, signal });
    return { id: '', cursor: '', ...await response.json() };
  }

  /**
   * A page of what is kept: before a cursor, after one, or the latest.
   * @template [T=unknown]
   * @param {string} topic
   * @param {{ before?: string, after?: string, limit?: number }} [options]
   * @returns {Promise<Page<T>>}
   */
  async history(topic, { before = undefined, after = undefined, limit = undefined } = {}) {
    if (!after) before ??= 'latest';
    const response = await this.#links.ask('v1/messages', { topic, before, after, limit });
    const cursor = response.headers.get('Everywire-Cursor') ?? '';
    const page = response.status === 200 ? await response.json() : { before };
    if (before && page.before === undefined) throw new Problem(501, 'this server can’t read backwards: it is of an older version');
    return { messages: [], cursor, gap: false, more: false, ...page };
  }

  /**
   * Who follows a topic.
   * @param {string} topic
   * @returns {Promise<Presence>}
   */
  async presence(topic) {
    return (await this.#links.ask('v1/presence', { topic })).json();
  }

  /** @param {StateEvent} event */
  #moved(event) {
    const isNew = event.state !== this.#state || event.wire !== this.#wire || event.state === 'waiting';
    if (!isNew || this.#state === 'closed') return;
    [this.#state, this.#wire] = [event.state, event.wire];
    if (event.state === 'open') this.#outbox?.wake();
    this.#tabs?.moved(event);
    this.#emit('state', event);
  }

  /** @param {unknown} error */
  #tell(error) {
    this.#emit('problem', Problem.from(error));
  }

  /** @template {keyof Events} K @param {K} kind @param {Events[K]} event */
  #emit(kind, event) {
    for (const listener of this.#listeners.get(kind) ?? []) listener(event);
  }
}

/** @param {string} base64 */
const bytes = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
