/** A client of one server. */
export class Everywire {
    /**
     * @param {string | URL} [url]  The server, with its path prefix if it has one; the page's own unless given.
     * @param {Options} [options]
     */
    constructor(url?: string | URL, options?: Options);
    get state(): State;
    /** The wire that runs. */
    get wire(): Wire | undefined;
    /** The user, as the server says. */
    get user(): string | undefined;
    /** The address of the server. */
    get url(): string;
    /** Connects, if there is something to read; after a refusal it tries again. */
    start(): void;
    /** Ends everything; messages that wait in a kept outbox are sent at the next start. */
    close(): Promise<void>;
    /**
     * Changes to a wire without losing a message: the one that runs ends when the new one has proved itself.
     * @param {Wire | 'auto'} wire
     * @returns {Promise<void>}
     */
    use(wire: Wire | "auto"): Promise<void>;
    /**
     * Asks the server's API with this client's token; a refusal is thrown as a {@link Problem}.
     * @param {string} path  Relative to the server: `v1/…`.
     * @param {Query} [query]
     * @param {RequestInit} [options]
     * @returns {Promise<Response>}
     */
    ask(path: string, query?: Query, options?: RequestInit): Promise<Response>;
    /**
     * Sends a frame of the native protocol if WebSocket runs: for signals that may get lost, such as typing.
     * @param {object} frame
     */
    send(frame: object): void;
    /**
     * @template {keyof Events} K
     * @param {K} kind
     * @param {(event: Events[K]) => void} listener
     * @returns {() => void} ends it
     */
    on<K extends keyof Events>(kind: K, listener: (event: Events[K]) => void): () => void;
    /**
     * Follows topics and filters. The cursor moves when the promise of the handler resolves; while it rejects, the same
     * message comes again.
     * @template [T=unknown]
     * @param {string | string[]} topics
     * @param {(message: Message<T>) => unknown} [handle]
     * @param {SubscribeOptions} [options]
     * @returns {Subscription<T>}
     */
    subscribe<T = unknown>(topics: string | string[], handle?: (message: Message<T>) => unknown, options?: SubscribeOptions): Subscription<T>;
    /**
     * Publishes; resolves when the server promises to keep the message. While there is no connection it waits in the
     * outbox.
     * @param {string} topic
     * @param {unknown} body  A string, bytes, or a value that JSON can hold.
     * @param {PublishOptions} [options]
     * @returns {Promise<Published>}
     */
    publish(topic: string, body: unknown, { queue, signal, ...options }?: PublishOptions): Promise<Published>;
    /**
     * A page of kept messages: before a cursor, after one, or the latest.
     * @template [T=unknown]
     * @param {string} topic
     * @param {{ before?: string, after?: string, limit?: number, fold?: boolean }} [where]  `fold` applies edits, recalls and
     *   reactions to the messages that they are about.
     * @returns {Promise<Page<T>>}
     */
    history<T = unknown>(topic: string, where?: {
        before?: string;
        after?: string;
        limit?: number;
        fold?: boolean;
    }): Promise<Page<T>>;
    /**
     * The subscribers of a topic.
     * @param {string} topic
     * @returns {Promise<Presence>}
     */
    presence(topic: string): Promise<Presence>;
    #private;
}
import type { State } from './types.js';
import type { Wire } from './types.js';
import type { Query } from './address.js';
import type { Events } from './types.js';
import type { Message } from './types.js';
import type { SubscribeOptions } from './types.js';
import type { Subscription } from './types.js';
import type { PublishOptions } from './types.js';
import type { Published } from './types.js';
import type { Page } from './types.js';
import type { Presence } from './types.js';
import type { Options } from './types.js';
