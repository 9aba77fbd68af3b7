/**
 * @param {Everywire} client @param {string} topic
 * @param {{ before?: string, after?: string, limit?: number, fold?: boolean }} where
 * @returns {Promise<Page<any>>}
 */
export function history(client: Everywire, topic: string, { before, after, limit, fold }: {
    before?: string;
    after?: string;
    limit?: number;
    fold?: boolean;
}): Promise<Page<any>>;
export function presence(client: Everywire, topic: string): Promise<Presence>;
import type { Everywire } from './client.js';
import type { Page } from './types.js';
import type { Presence } from './types.js';
