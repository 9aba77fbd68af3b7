/**
 * @typedef {object} Settings
 * @property {URL} base
 * @property {Wire[]} wires
 * @property {number} probeMs
 * @property {number} pollMs
 * @property {number} verdictMs
 * @property {[number, number]} retryMs
 * @property {string} [token]
 * @property {() => Promise<Token>} [tokens]  In place of `token`: a function gives it.
 * @property {string} [device]
 * @property {string} [label]
 * @property {boolean} [session]
 * @property {typeof fetch} fetch
 * @property {any} WebSocket
 * @property {() => number} now
 *
 * @typedef {object} Host
 * @property {(event: StateEvent) => void} state
 * @property {(error: unknown) => void} problem
 * @property {(kind: string, event: any) => void} event  An event for the application, passed on unchanged: gaps, signals.
 */
export class Links {
    /** @param {Settings} settings @param {Host} host */
    constructor(settings: Settings, host: Host);
    /** The readers of the application. @type {Set<Reader>} */
    readers: Set<Reader>;
    /** The user, as the server says. @type {string | undefined} */
    user: string | undefined;
    /** @type {Session | undefined} */
    session: Session | undefined;
    /** @type {Link | undefined} */
    current: Link | undefined;
    /** @type {Wire | undefined} */
    forced: Wire | undefined;
    isRunning: boolean;
    settings: Settings;
    host: Host;
    start(): void;
    /** @param {StateEvent} [event] */
    stop(event?: StateEvent): void;
    /** Tries again at once, as if nothing were known: the network has changed. */
    again(): void;
    /** The browser says that there is no network; it may be wrong about this server. */
    offline(): void;
    changed(): void;
    /** @param {Reader} reader */
    left(reader: Reader): void;
    /** Changes to a wire; the present one ends when the new one has proved itself. @param {Wire | 'auto'} wire */
    use(wire: Wire | "auto"): Promise<void>;
    /** A wire brought something. @param {Link} link */
    proved(link: Link): void;
    /** The token, or another than one that was refused. @param {string} [refused] @returns {Promise<string | undefined>} */
    token(refused?: string): Promise<string | undefined>;
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
    token?: string | undefined;
    /**
     * In place of `token`: a function gives it.
     */
    tokens?: (() => Promise<Token>) | undefined;
    device?: string | undefined;
    label?: string | undefined;
    session?: boolean | undefined;
    fetch: typeof fetch;
    WebSocket: any;
    now: () => number;
};
export type Host = {
    state: (event: StateEvent) => void;
    problem: (error: unknown) => void;
    /**
     * An event for the application, passed on unchanged: gaps, signals.
     */
    event: (kind: string, event: any) => void;
};
import type { Reader } from './subscription.js';
import type { Session } from './session.js';
import { Link } from './link.js';
import type { Wire } from './types.js';
import type { StateEvent } from './types.js';
import type { Query } from './address.js';
import type { Token } from './token.js';
