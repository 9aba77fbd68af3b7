/**
 * Finds out which of many readers is refused, since a request for all is refused as a whole. Says whether some were
 * refused and others not.
 * @param {Links} links @param {Reader[]} readers
 */
export function single(links: Links, readers: Reader[]): Promise<boolean>;
/** @type {Record<string, (link: Link) => Promise<unknown>>} */
export const WIRES: Record<string, (link: Link) => Promise<unknown>>;
import type { Links } from './links.js';
import type { Reader } from './subscription.js';
import type { Link } from './link.js';
