/**
 * A store that goes on in memory when the one under it fails, and reports that once. Without a given store it is on the browser's.
 * @param {Store | undefined} store
 * @param {{ prefix: string, problem: (error: unknown) => void }} settings
 * @returns {Store}
 */
export function safeStore(store: Store | undefined, { prefix, problem }: {
    prefix: string;
    problem: (error: unknown) => void;
}): Store;
/** The cursors of subscriptions with a name. */
export class Cursors {
    /** @param {{ cursors?: false | Store, prefix: string, problem: (error: unknown) => void }} settings */
    constructor(settings: {
        cursors?: false | Store;
        prefix: string;
        problem: (error: unknown) => void;
    });
    /** Lets a reader go on from its kept cursor, and keeps its cursor from now on. @param {Reader} reader */
    begin(reader: Reader): Promise<void>;
    #private;
}
import type { Store } from './types.js';
import type { Reader } from './subscription.js';
