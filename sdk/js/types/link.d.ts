export function unpacked({ body_base64, ...message }: Envelope): Message<any>;
export class Link {
    /** @param {Links} links @param {Wire} wire */
    constructor(links: Links, wire: Wire);
    isLive: boolean;
    /** The request under way, begun anew when the readers change. */
    request: AbortController;
    /** The longest silence. */
    silenceMs: number;
    /** The longest silence after a ping that isn't answered yet. */
    pingMs: number;
    /** The token in place of one that was refused. @type {string | undefined} */
    refused: string | undefined;
    /** The question to ask if it is silent. @type {(() => void) | undefined} */
    ping: (() => void) | undefined;
    /** The token has a fresh successor. @type {() => unknown} */
    renew: () => unknown;
    /** Sends a frame, on wires that have them. @type {((frame: object) => unknown) | undefined} */
    send: ((frame: object) => unknown) | undefined;
    /** A reader is gone. @type {(reader: Reader) => void} */
    left: (reader: Reader) => void;
    signal: AbortSignal;
    links: Links;
    wire: Wire;
    heardAt: number;
    probe: number;
    get readers(): Reader[];
    /** The earliest place of the readers: from there none misses anything. @param {Reader[]} readers */
    place(readers: Reader[]): string | undefined;
    /** The readers have changed. */
    changed(): void;
    /** @param {Problem} problem */
    end(problem: Problem): void;
    live(): void;
    heard(): void;
    /** Ends a link on which nothing comes any more. @param {number} time @param {boolean} hasJumped  The clock, as after sleep. */
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
