/**
 * What a JWT says; nothing is proved by it.
 * @param {string | undefined} token
 * @returns {any}
 */
export function claims(token?: string | undefined): any;
