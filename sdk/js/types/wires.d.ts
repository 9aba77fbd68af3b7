/** @type {Record<string, (link: Link) => Promise<unknown>>} */
export const WIRES: Record<string, (link: Link) => Promise<unknown>>;
import type { Link } from './links.js';
