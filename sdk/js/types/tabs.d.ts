export class Tabs {
    /**
     * @param {string} prefix @param {Links} links @param {Set<Reader>} own
     * @param {(event: StateEvent) => void} moved
     */
    constructor(prefix: string, links: Links, own: Set<Reader>, moved: (event: StateEvent) => void);
    isLeader: boolean;
    get readers(): Reader[];
    close(): void;
    /** Asks the leader for what this tab reads and hasn't asked for. */
    follow(): void;
    /** @param {Reader} reader */
    left(reader: Reader): void;
    /** @param {StateEvent} event */
    moved(event: StateEvent): void;
    #private;
}
import { Reader } from './subscription.js';
import type { StateEvent } from './types.js';
import type { Links } from './links.js';
