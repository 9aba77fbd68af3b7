export class Tabs {
    /**
     * @typedef {object} Client
     * @property {(event: StateEvent) => void} moved
     * @property {(kind: string, event: any) => void} heard
     * @property {(topics: string[], handle: (message: Message<any>) => unknown, after: string | undefined) => Reader} read
     *
     * @param {string} prefix @param {Links} links @param {Client} client
     */
    constructor(prefix: string, links: Links, client: {
        moved: (event: StateEvent) => void;
        heard: (kind: string, event: any) => void;
        read: (topics: string[], handle: (message: Message<any>) => unknown, after: string | undefined) => Reader;
    });
    isLeader: boolean;
    start(): void;
    /** @param {Reader} reader */
    left(reader: Reader): void;
    /** @param {StateEvent} event */
    moved(event: StateEvent): void;
    /** Passes an event from the leader to the other tabs. @param {string} kind @param {any} event */
    pass(kind: string, event: any): void;
    #private;
}
import type { Reader } from './subscription.js';
import type { StateEvent } from './types.js';
import type { Links } from './links.js';
import type { Message } from './types.js';
