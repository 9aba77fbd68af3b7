export class Token {
    /** @param {TokenSource} source @param {() => number} now */
    constructor(source: TokenSource, now: () => number);
    get isExpiring(): boolean;
    /** The present token. */
    get(): Promise<string>;
    /** Another token than one that was refused. @param {string | undefined} refused */
    another(refused: string | undefined): Promise<string | undefined>;
    #private;
}
import type { TokenSource } from './types.js';
