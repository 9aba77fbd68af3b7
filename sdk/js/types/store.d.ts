/** @import { Store } from './types.js' */
/**
 * The browser's storage as a store; where there is none, or it is forbidden or full, its calls fail.
 * @param {Storage | undefined} [storage]
 * @returns {Store}
 */
export function browserStore(storage?: Storage | undefined): Store;
/**
 * A store that goes on in memory when the one under it fails, which is told once.
 * @param {Store | undefined} store
 * @param {string} prefix
 * @param {(error: unknown) => void} fail
 * @returns {Store}
 */
export function safeStore(store: Store | undefined, prefix: string, fail: (error: unknown) => void): Store;
import type { Store } from './types.js';
