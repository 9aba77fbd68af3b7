/**
 * An address of the server. What is undefined is left out, lists are repeated.
 * @typedef {Record<string, string | number | string[] | undefined>} Query
 * @param {{ base: URL, label?: string }} settings @param {string} path @param {Query} [query]
 */
export function addressOf({ base, label }: {
    base: URL;
    label?: string;
}, path: string, query?: Query): URL;
/**
 * An address of the server. What is undefined is left out, lists are repeated.
 */
export type Query = Record<string, string | number | string[] | undefined>;
