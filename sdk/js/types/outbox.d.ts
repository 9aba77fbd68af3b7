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
    /** @param {Outside} outside */
    constructor(outside: Outside);
    get waiting(): number;
    /**
     * @param {string} topic @param {string | Uint8Array} content @param {PublishOptions & { type: string }} options
     * @param {AbortSignal} [signal]
     * @returns {Promise<Published>}
     */
    add(topic: string, content: string | Uint8Array, { type, ...options }: PublishOptions & {
        type: string;
    }, signal?: AbortSignal): Promise<Published>;
    /** The server may be there again. */
    wake(): void;
    close(): void;
    #private;
}
export type Entry = {
    topic: string;
    options: PublishOptions;
    type: string;
    /**
     * The body; in Base64 if `isBinary`.
     */
    text: string;
    isBinary: boolean;
    at: number;
};
export type Queue = {
    producer: string;
    next: number;
    entries: Entry[];
};
export type Waiter = {
    resolve: (published: Published) => void;
    reject: (problem: Problem) => void;
};
/**
 * The functions and settings that the client gives.
 */
export type Outside = {
    /**
     * The prefix of the keys in the store, and of the locks by which tabs divide the places in it.
     */
    prefix: string;
    outbox?: false | {
        store?: Store;
        max?: number;
        ttlMs?: number;
    } | undefined;
    retryMs: [number, number];
    now: () => number;
    post: (entry: Entry, key: string) => Promise<Published>;
    /**
     * The reason for waiting, if a try has failed.
     */
    changed: (waiting: number, reason?: string) => void;
    problem: (error: unknown) => void;
};
export type Settings = Omit<Outside, "outbox" | "changed"> & {
    store: Store;
    max: number;
    ttlMs: number;
    changed: (reason?: string) => void;
};
import type { PublishOptions } from './types.js';
import type { Published } from './types.js';
import { Problem } from './shared.js';
import type { Store } from './types.js';
