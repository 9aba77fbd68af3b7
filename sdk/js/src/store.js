/** @import { Store } from './types.js' */

/**
 * The browser's storage as a store; where there is none, or it is forbidden or full, its calls fail.
 * @param {Storage | undefined} [storage]
 * @returns {Store}
 */
export function browserStore(storage) {
  const it = () => storage ?? /** @type {any} */ (globalThis).localStorage;
  return {
    get: async (key) => it().getItem(key),
    set: async (key, value) => (value === null ? it().removeItem(key) : it().setItem(key, value)),
  };
}

/**
 * A store that goes on in memory when the one under it fails, which is told once.
 * @param {Store | undefined} store
 * @param {string} prefix
 * @param {(error: unknown) => void} fail
 * @returns {Store}
 */
export function safeStore(store, prefix, fail) {
  /** @type {Map<string, string | null>} */
  const memory = new Map();
  let isTold = !store;
  /** @param {() => Promise<any>} act */
  const attempt = async (act) => {
    try {
      return store && await act();
    } catch (error) {
      if (!isTold) fail(error);
      isTold = true;
    }
  };
  return {
    get: async (key) => memory.get(key) ?? await attempt(() => /** @type {Store} */ (store).get(prefix + key)) ?? null,
    set: async (key, value) => {
      memory.set(key, value);
      await attempt(() => /** @type {Store} */ (store).set(prefix + key, value));
    },
  };
}
