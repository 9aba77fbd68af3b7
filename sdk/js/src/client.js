/**
 * The client that applications see. Parts that not every page needs are loaded later: the outbox, the cursors that are kept
 * by name, the connection that tabs share.
 *
 * @import { Query } from './address.js'
 * @import { Events, Message, Options, Page, Presence, Published, PublishOptions, State, StateEvent, SubscribeOptions, Subscription, Wire } from './types.js'
 */
import { Links } from './links.js';
import { Problem, backoff, bytes } from './shared.js';
import { Reader } from './subscription.js';

/** @type {any} */
const world = globalThis;

const closed = () => new Problem(0, 'this client is closed');

/** A client of one server. */
export class Everywire {
  /** @type {State} */
  #state = 'idle';
  /** @type {Wire | undefined} */
  #wire;
  /** @type {Map<string, Set<(event: any) => void>>} */
  #listeners = new Map();
  /** The starter of reading: the links, or the tabs together; undefined until the tabs' module is loaded. @type {{ start(): void, left(reader: Reader): void } | undefined} */
  #line;
  #links;
  #settings;

  /**
   * @param {string | URL} [url]  The server, with its path prefix if it has one; the page's own unless given.
   * @param {Options} [options]
   */
  constructor(url = new URL('/', world.location), options = {}) {
    const base = new URL(String(url).replace(/\/?$/, '/'), world.location);
    const { fetch = world.fetch.bind(world), WebSocket = world.WebSocket, now = Date.now, token } = options;
    const wires = (options.wires ?? ['ws', 'sse', 'longpoll', 'poll']).filter((wire) => wire !== 'ws' || WebSocket);
    this.#settings = {
      probeMs: 3000, pollMs: 1000, verdictMs: 600_000, ...options,
      base, wires, fetch, WebSocket, now, outbox: options.outbox ?? {},
      token: typeof token === 'string' ? token : undefined,
      tokens: typeof token === 'function' ? this.#part(async () => new (await import('./token.js')).Token(token, now)) : undefined,
      retryMs: options.retryMs ?? /** @type {[number, number]} */ ([250, 10_000]),
    };
    this.#links = new Links(this.#settings, {
      state: (event) => this.#moved(event),
      problem: this.#tell,
      event: (kind, event) => this.#emit(/** @type {keyof Events} */ (kind), event),
    });
    if (options.share && world.navigator?.locks && world.BroadcastChannel) this.#share().catch(() => {});
    else this.#line = this.#links;
    // The outbox is loaded at once, so that it is there when the network isn't.
    this.#tend('wake');
    this.#listen('addEventListener');
  }

  /** @param {'addEventListener' | 'removeEventListener'} how */
  #listen(how) {
    world[how]?.('online', this.#online);
    world[how]?.('offline', this.#offline);
    world.navigator?.connection?.[how]?.('change', this.#online);
  }

  #online = () => {
    this.#links.again();
    this.#tend('wake');
  };

  #offline = () => this.#links.offline();

  /** The settings for the parts that are loaded later. */
  get #parts() {
    const { base, ...settings } = this.#settings;
    return { ...settings, prefix: `everywire:${base.href}:`, problem: this.#tell };
  }

  async #share() {
    const { Tabs } = await this.#part(() => import('./tabs.js'))();
    if (this.#state === 'closed') return;
    const tabs = new Tabs(this.#parts.prefix, this.#links, {
      moved: (event) => this.#moved(event),
      heard: (kind, event) => this.#emit(/** @type {keyof Events} */ (kind), event),
      read: (topics, handle, after) => this.#read(topics, handle, { after }, () => {}),
    });
    this.on('state', (event) => tabs.moved(event));
    for (const kind of /** @type {(keyof Events)[]} */ (['signal', 'conversation'])) this.on(kind, (event) => tabs.pass(kind, event));
    this.#line = tabs;
    this.start();
  }

  #cursors = this.#part(async () => new (await import('./kept.js')).Cursors(this.#parts));

  #outbox = this.#part(async () => new (await import('./outbox.js')).Outbox({
    ...this.#parts,
    post: ({ topic, type, text, isBinary, options }, key) => this.#post(topic, isBinary ? bytes(text) : text, { ...options, type, key }),
    changed: (waiting, reason) => this.#emit('outbox', { waiting, reason }),
  }));

  #past = this.#part(() => import('./past.js'));

  /**
   * Loads a part of the client once, when it is asked for; again and again while the network doesn't bring it.
   * @template T
   * @param {() => Promise<T>} load
   * @returns {() => Promise<T>}
   */
  #part(load) {
    /** @type {Promise<T> | undefined} */
    let part;
    const attempt = async () => {
      for (let failures = 0; this.#state !== 'closed'; failures += 1) {
        try {
          return await load();
        } catch (error) {
          if (failures === 0) this.#tell(error);
          await new Promise((resolve) => { setTimeout(resolve, backoff(failures, this.#settings.retryMs)); });
        }
      }
      throw closed();
    };
    return () => (part ??= attempt());
  }

  /** Sends the waiting messages, or ends that. @param {'wake' | 'close'} what */
  async #tend(what) {
    if (this.#settings.outbox) await this.#outbox().then((outbox) => outbox[what](), () => {});
  }

  get state() {
    return this.#state;
  }

  /** The wire that runs. */
  get wire() {
    return this.#wire;
  }

  /** The user, as the server says. */
  get user() {
    return this.#links.user;
  }

  /** The address of the server. */
  get url() {
    return this.#settings.base.href;
  }

  /** Connects, if there is something to read; after a refusal it tries again. */
  start() {
    if (this.#state === 'closed') throw closed();
    this.#tend('wake');
    this.#line?.start();
  }

  /** Ends everything; messages that wait in a kept outbox are sent at the next start. */
  async close() {
    for (const reader of this.#links.readers) reader.close();
    this.#links.stop({ state: 'closed' });
    this.#listen('removeEventListener');
    this.#tend('close');
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
   * Asks the server's API with this client's token; a refusal is thrown as a {@link Problem}.
   * @param {string} path  Relative to the server: `v1/…`.
   * @param {Query} [query]
   * @param {RequestInit} [options]
   * @returns {Promise<Response>}
   */
  ask(path, query = {}, options) {
    return this.#links.ask(path, query, options);
  }

  /**
   * Sends a frame of the native protocol if WebSocket runs: for signals that may get lost, such as typing.
   * @param {object} frame
   */
  send(frame) {
    this.#links.current?.send?.(frame);
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
    if (this.#state === 'closed') throw closed();
    const reader = this.#read([topics].flat(), handle, options, this.#tell);
    options.signal?.addEventListener('abort', () => reader.close());
    return /** @type {any} */ (reader);
  }

  /**
   * @param {string[]} topics @param {((message: Message<any>) => unknown) | undefined} handle @param {SubscribeOptions} options
   * @param {(error: unknown) => void} problem
   */
  #read(topics, handle, options, problem) {
    const reader = new Reader({ left: (reader) => (this.#line ?? this.#links).left(reader), problem }, topics, handle, options);
    this.#begin(reader).catch(() => {});
    return reader;
  }

  /** @param {Reader} reader */
  async #begin(reader) {
    if (reader.name && this.#settings.cursors !== false) await (await this.#cursors()).begin(reader);
    if (reader.isClosed) return;
    this.#links.readers.add(reader);
    this.start();
    this.#links.changed();
  }

  /**
   * Publishes; resolves when the server promises to keep the message. While there is no connection it waits in the
   * outbox.
   * @param {string} topic
   * @param {unknown} body  A string, bytes, or a value that JSON can hold.
   * @param {PublishOptions} [options]
   * @returns {Promise<Published>}
   */
  async publish(topic, body, { queue = true, signal, ...options } = {}) {
    const isBinary = body instanceof Uint8Array || body instanceof ArrayBuffer;
    const isText = typeof body === 'string';
    const type = options.type ?? (isText ? 'text/plain;charset=utf-8' : isBinary ? 'application/octet-stream' : 'application/json');
    const content = isBinary ? new Uint8Array(body) : isText ? body : JSON.stringify(body);
    if (this.#settings.outbox && queue && !options.key) return (await this.#outbox()).add(topic, content, { ...options, type }, signal);
    return this.#post(topic, content, { ...options, type, signal });
  }

  /** @param {string} topic @param {any} body @param {Omit<PublishOptions, 'queue'>} options @returns {Promise<Published>} */
  async #post(topic, body, { type = '', key, retain, signal, ...query }) {
    /** @type {Record<string, string>} */
    const headers = { 'Content-Type': type };
    if (key) headers['Idempotency-Key'] = key;
    const response = await this.ask('v1/messages', { topic, ...query, retain: retain ? 1 : undefined }, { method: 'POST', headers, body, signal });
    return { id: '', cursor: '', ...await response.json() };
  }

  /**
   * A page of kept messages: before a cursor, after one, or the latest.
   * @template [T=unknown]
   * @param {string} topic
   * @param {{ before?: string, after?: string, limit?: number, fold?: boolean }} [where]  `fold` applies edits, recalls and
   *   reactions to the messages that they are about.
   * @returns {Promise<Page<T>>}
   */
  async history(topic, where = {}) {
    return (await this.#past()).history(this, topic, where);
  }

  /**
   * The subscribers of a topic.
   * @param {string} topic
   * @returns {Promise<Presence>}
   */
  async presence(topic) {
    return (await this.#past()).presence(this, topic);
  }

  /** @param {StateEvent} event */
  #moved(event) {
    const isNew = event.state !== this.#state || event.wire !== this.#wire || event.state === 'waiting';
    if (!isNew || this.#state === 'closed') return;
    [this.#state, this.#wire] = [event.state, event.wire];
    if (event.state === 'open') this.#tend('wake');
    this.#emit('state', event);
  }

  /** @param {unknown} error */
  #tell = (error) => this.#emit('problem', Problem.from(error));

  /** @template {keyof Events} K @param {K} kind @param {Events[K]} event */
  #emit(kind, event) {
    for (const listener of this.#listeners.get(kind) ?? []) listener(event);
  }
}
