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
 * @typedef {object} Settings
 * @property {Store} store
 * @property {string} name  Of the locks by which tabs divide the places in the store.
 * @property {number} max
 * @property {number} ttlMs
 * @property {[number, number]} retryMs
 * @property {() => number} now
 * @property {(entry: Entry, key: string) => Promise<Published>} post
 * @property {() => void} changed
 * @property {(error: unknown) => void} problem
 */
export class Outbox {
    /** @param {Settings} settings */
    constructor(settings: Settings);
    get waiting(): number;
    /** @param {Entry} entry @param {AbortSignal} [signal] @returns {Promise<Published>} */
    add(entry: Entry, signal?: AbortSignal): Promise<Published>;
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
export type Settings = {
    store: Store;
    /**
     * Of the locks by which tabs divide the places in the store.
     */
    name: string;
    max: number;
    ttlMs: number;
    retryMs: [number, number];
    now: () => number;
    post: (entry: Entry, key: string) => Promise<Published>;
    changed: () => void;
    problem: (error: unknown) => void;
};
import type { Published } from './types.js';
import type { PublishOptions } from './types.js';
import { Problem } from './problem.js';
import type { Store } from './types.js';
