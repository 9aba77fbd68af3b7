/**
 * The data that outlives the page: a store that doesn't fail, and the cursors that are kept in it by name. Loaded with the outbox,
 * and with the first subscription that has a name.
 *
 * @import { Store } from './types.js'
 * @import { Reader } from './subscription.js'
 */
/** @type {any} */
const world = globalThis;

/** The browser's storage; where it is forbidden or full, its calls fail. @type {Store} */
const browserStore = {
  get: async (key) => world.localStorage.getItem(key),
  set: async (key, value) => (value === null ? world.localStorage.removeItem(key) : world.localStorage.setItem(key, value)),
};

/**
 * A store that goes on in memory when the one under it fails, and reports that once. Without a given store it is on the browser's.
 * @param {Store | undefined} store
 * @param {{ prefix: string, problem: (error: unknown) => void }} settings
 * @returns {Store}
 */
export function safeStore(store, { prefix, problem }) {
  if ('localStorage' in world || world.document) store ??= browserStore;
  /** @type {Map<string, string | null>} */
  const memory = new Map();
  let isTold = !store;
  /** @param {() => Promise<any>} act */
  const attempt = async (act) => {
    try {
      return store && await act();
    } catch (error) {
      if (!isTold) problem(new Error(`the storage can’t be used, what waits is kept in memory only: ${error instanceof Error ? error.message : error}`));
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

/** The cursors of subscriptions with a name. */
export class Cursors {
  #store;

  /** @param {{ cursors?: false | Store, prefix: string, problem: (error: unknown) => void }} settings */
  constructor(settings) {
    this.#store = safeStore(settings.cursors || undefined, settings);
  }

  /** Lets a reader go on from its kept cursor, and keeps its cursor from now on. @param {Reader} reader */
  async begin(reader) {
    const key = `cursor/${reader.name}`;
    const kept = await this.#store.get(key);
    if (kept) reader.cursor = reader.at = kept;
    let isWriting = false;
    reader.keep = async () => {
      if (isWriting) return;
      isWriting = true;
      for (let written; written !== reader.cursor;) {
        written = /** @type {string} */ (reader.cursor);
        await this.#store.set(key, written);
      }
      isWriting = false;
    };
  }
}
