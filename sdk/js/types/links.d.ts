/**
 * @typedef {object} Settings
 * @property {URL} base
 * @property {Wire[]} wires
 * @property {number} probeMs
 * @property {number} pollMs
 * @property {number} verdictMs
 * @property {[number, number]} retryMs
 * @property {string} [device]
 * @property {string} [label]
 * @property {typeof fetch} fetch
 * @property {any} WebSocket
 * @property {() => number} now
 *
 * @typedef {object} Host
 * @property {() => Reader[]} readers
 * @property {(event: StateEvent) => void} state
 * @property {(error: unknown) => void} problem
 * @property {(gap: Gap) => void} gap
 * @property {(user: string | undefined) => void} entered
 */
/** One try of one wire. */
export class Link {
    /** @param {Links} links @param {Wire} wire */
    constructor(links: Links, wire: Wire);
    isLive: boolean;
    /** The request under way, begun anew when the readers change. */
    request: AbortController;
    silenceMs: number;
    heartbeatMs: number;
    isPaused: boolean;
    /** The token in place of one that was refused. @type {string | undefined} */
    refused: string | undefined;
    pingedAt: number;
    patienceMs: number;
    wire: Wire;
    settings: Settings;
    host: Host;
    tokens: Token;
    heardAt: number;
    signal: AbortSignal;
    /** What is asked if it is silent. @type {(() => void) | undefined} */
    ping: (() => void) | undefined;
    /** The token has a fresh successor. @type {() => unknown} */
    renew: () => unknown;
    /** A reader is gone. @type {(reader: Reader) => void} */
    left: (reader: Reader) => void;
    probe: number;
    /** The readers have changed. */
    changed(): void;
    /** @param {Problem} problem */
    end(problem: Problem): void;
    live(): void;
    heard(): void;
    /**
     * @param {string} path @param {Reader[]} readers
     * @param {Record<string, string | number | undefined>} query @param {number} silenceMs
     */
    read(path: string, readers: Reader[], query: Record<string, string | number | undefined>, silenceMs: number): Promise<Response>;
    /** @param {Message<any> & { body_base64?: string }} envelope @param {Reader[]} readers */
    message({ body_base64, ...message }: Message<any> & {
        body_base64?: string;
    }, readers: Reader[]): void;
    /** Waits for slow handlers. */
    room(): Promise<void>;
    /** @param {number} ms */
    pause(ms: number): Promise<any>;
    #private;
}
export class Links {
    /** @param {Settings} settings @param {Token} token @param {Host} host */
    constructor(settings: Settings, token: Token, host: Host);
    /** @type {Link | undefined} */
    current: Link | undefined;
    /** @type {Wire | undefined} */
    forced: Wire | undefined;
    isRunning: boolean;
    settings: Settings;
    token: Token;
    host: Host;
    start(): void;
    /** @param {StateEvent} [event] */
    stop(event?: StateEvent): void;
    /** Tries again at once, as if nothing were known: the network has changed, or the line is dead. @param {boolean} [isAnother] */
    again(isAnother?: boolean): void;
    /** The browser says that there is no network; it may be wrong about this server. */
    offline(): void;
    changed(): void;
    /** @param {Reader} reader */
    left(reader: Reader): void;
    /** Changes to a wire; the present one ends when the new one has proved itself. @param {Wire | 'auto'} wire */
    use(wire: Wire | "auto"): Promise<void>;
    /** A wire brought something. @param {Link} link */
    proved(link: Link): void;
    /** Fetches; after a 401 once more with another token. @param {string} path @param {Query} query @param {RequestInit} [options] */
    ask(path: string, query: Query, options?: RequestInit): Promise<Response>;
    #private;
}
export type Settings = {
    base: URL;
    wires: Wire[];
    probeMs: number;
    pollMs: number;
    verdictMs: number;
    retryMs: [number, number];
    device?: string | undefined;
    label?: string | undefined;
    fetch: typeof fetch;
    WebSocket: any;
    now: () => number;
};
export type Host = {
    readers: () => Reader[];
    state: (event: StateEvent) => void;
    problem: (error: unknown) => void;
    gap: (gap: Gap) => void;
    entered: (user: string | undefined) => void;
};
import type { Wire } from './types.js';
import type { Token } from './token.js';
import type { Reader } from './subscription.js';
import { Problem } from './problem.js';
import type { Message } from './types.js';
import type { StateEvent } from './types.js';
import type { Query } from './address.js';
import type { Gap } from './types.js';
