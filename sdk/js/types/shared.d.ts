/** The code that all parts of the client share. It is one module, so that bundlers make one file of it. */
/** A refusal of the server (RFC 9457), or a server that can't be reached (status 0). */
export class Problem extends Error {
    /** @param {Response} response */
    static of(response: Response): Promise<Problem>;
    /** The server's word that it ends a connection. @param {{ code?: number, reason: string, detail?: string, reconnect: boolean, delay_ms?: number }} close */
    static ended({ code, reason, detail, reconnect, delay_ms }: {
        code?: number;
        reason: string;
        detail?: string;
        reconnect: boolean;
        delay_ms?: number;
    }): Problem;
    /** @param {unknown} error */
    static from(error: unknown): Problem;
    /**
     * @param {number} status
     * @param {string} reason
     * @param {{ retryAfterMs?: number, topic?: string, isFinal?: boolean, expected?: number }} [more]
     */
    constructor(status: number, reason: string, more?: {
        retryAfterMs?: number;
        topic?: string;
        isFinal?: boolean;
        expected?: number;
    });
    /** @type {number | undefined} */
    retryAfterMs: number | undefined;
    /** @type {string | undefined} */
    topic: string | undefined;
    /** Whether the server said not to come back. */
    isFinal: boolean;
    /** The number that an ordered key should have had. @type {number | undefined} */
    expected: number | undefined;
    status: number;
    reason: string;
    /** Whether the same call may succeed later. */
    get isPassing(): boolean;
}
export function backoff(failures: number, [first, most]: [first: number, most: number]): number;
export function bytes(base64: string): Uint8Array<ArrayBuffer>;
