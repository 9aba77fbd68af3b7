import { bytes } from './shared.js';

/**
 * What a JWT says; nothing is proved by it.
 * @param {string | undefined} token
 * @returns {any}
 */
export function claims(token = '') {
  try {
    return JSON.parse(new TextDecoder().decode(bytes(token.split('.')[1].replace(/-/g, '+').replace(/_/g, '/')))) ?? {};
  } catch {
    return {};
  }
}
