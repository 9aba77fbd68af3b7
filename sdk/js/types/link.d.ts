export function unpacked({ body_base64, ...message }: Envelope): Message<any>;
export class Link {
    /** @param {Links} links @param {Wire} wire */
    constructor(links: Links, wire: Wire);
    isLive: boolean;
    /** The request under way, begun anew when the readers change. */
    request: AbortController;
    /** How long it may be silent. */
    silenceMs: number;
    /** How long it may be silent after a ping that isn't answered yet. */
    pingMs: number;
    /** The token in place of one that was refused. @type {string | undefined} */
    refused: string | undefined;
    /** What is asked if it is silent. @type {(() => void) | undefined} */
    ping: (() => void) | undefined;
    /** The token has a fresh successor. @type {() => unknown} */
    renew: () => unknown;
    /** A reader is gone. @type {(reader: Reader) => void} */
    left: (reader: Reader) => void;
    signal: AbortSignal;
    links: Links;
    wire: Wire;
    heardAt: number;
    probe: number;
    get readers(): Reader[];
    /** The place from which all of them miss nothing. @param {Reader[]} readers */
    place(readers: Reader[]): string | undefined;
    /** The readers have changed. */
    changed(): void;
    /** @param {Problem} problem */
    end(problem: Problem): void;
    live(): void;
    heard(): void;
    /** Ends a line on which nothing comes any more. @param {number} time @param {boolean} hasJumped  The clock, as after sleep. */
    check(time: number, hasJumped: boolean): void;
    /**
     * Hands messages on, then waits for slow handlers.
     * @param {Envelope[]} messages @param {Reader[]} readers
     * @param {string | null} [cursor]  Nothing was missed up to here.
     */
    take(messages: Envelope[], readers: Reader[], cursor?: string | null): Promise<void>;
    #private;
}
export type Envelope = Message<any> & {
    body_base64?: string;
};
import type { Message } from './types.js';
import type { Reader } from './subscription.js';
import type { Links } from './links.js';
import type { Wire } from './types.js';
import { Problem } from './shared.js';
