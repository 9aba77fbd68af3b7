/**
 * The reader of a subscription. `at` is the position up to which messages were taken into the queue, `cursor` the one up to
 * which they were handled: wires go on from the first, a new start from the second.
 */
export class Reader {
    /**
     * @param {{ left(reader: Reader): void, problem(error: unknown): void }} owner
     * @param {string[]} topics
     * @param {((message: Message<any>) => unknown) | undefined} handle
     * @param {SubscribeOptions} options
     */
    constructor(owner: {
        left(reader: Reader): void;
        problem(error: unknown): void;
    }, topics: string[], handle: ((message: Message<any>) => unknown) | undefined, { after, name }: SubscribeOptions);
    /** @type {string | undefined} */
    cursor: string | undefined;
    /** The position from which reading goes on: a cursor, `earliest`, or now. @type {string | undefined} */
    at: string | undefined;
    /** The wire's link that has confirmed it. @type {object | undefined} */
    link: object | undefined;
    /** Keeps the position up to which messages were handled. @type {((cursor: string) => void) | undefined} */
    keep: ((cursor: string) => void) | undefined;
    isClosed: boolean;
    /** @type {Problem | undefined} */
    problem: Problem | undefined;
    topics: string[];
    name: string | undefined;
    /** @type {Promise<void>} */
    ready: Promise<void>;
    /** The server reads for it, from here on. @param {string} [cursor] */
    confirmed(cursor?: string): void;
    /** Takes a message unless it came before, or is for other readers. @param {Message<any>} message */
    offer(message: Message<any>): void;
    /** Nothing was missed up to here. @param {string | null | undefined} cursor */
    reach(cursor: string | null | undefined): void;
    /** The number of messages that wait to be handled. */
    get waiting(): number;
    /** Resolves when the queue is empty. */
    drained(): Promise<void>;
    close(): void;
    /** The server doesn't let it read. @param {Problem} problem */
    refuse(problem: Problem): void;
    /** The messages; one counts as handled when the next is asked for. */
    [Symbol.asyncIterator](): AsyncGenerator<Message<any>, void, unknown>;
    #private;
}
import { Problem } from './shared.js';
import type { Message } from './types.js';
import type { SubscribeOptions } from './types.js';
