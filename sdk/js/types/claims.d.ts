/**
 * The claims of a JWT; they prove nothing.
 * @param {string | undefined} token
 * @returns {any}
 */
export function claims(token?: string | undefined): any;
