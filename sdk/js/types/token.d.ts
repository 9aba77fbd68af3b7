/** @import { TokenSource } from './types.js' */
/** The token: one question at a time, again before it ends. */
export class Token {
    /**
     * @param {string | TokenSource | undefined} source
     * @param {() => number} now
     */
    constructor(source: string | TokenSource | undefined, now: () => number);
    get isRenewable(): boolean;
    get isExpiring(): boolean;
    /** The user that the token is for, if it can be read. */
    get user(): any;
    /** The present token. */
    get(): Promise<string | undefined>;
    /**
     * Another token than one that was refused.
     * @param {string | undefined} refused
     */
    another(refused: string | undefined): Promise<string | undefined>;
    #private;
}
import type { TokenSource } from './types.js';
