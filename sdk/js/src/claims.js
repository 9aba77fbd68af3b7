import { bytes } from './shared.js';

/**
 * The claims of a JWT; they prove nothing.
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
