/** Everywire's client: one cursor over WebSocket, SSE, long poll and short poll; publishing that survives tunnels. */
export { Everywire } from './client.js';
export { Problem } from './shared.js';
/** @typedef {import('./types.js').Wire} Wire */
/** @typedef {import('./types.js').State} State */
/** @typedef {import('./types.js').Store} Store */
/** @typedef {import('./types.js').Options} Options */
/** @typedef {import('./types.js').Gap} Gap */
/** @typedef {import('./types.js').Published} Published */
/** @typedef {import('./types.js').PublishOptions} PublishOptions */
/** @typedef {import('./types.js').Presence} Presence */
/** @typedef {import('./types.js').Signal} Signal */
/** @typedef {import('./types.js').Events} Events */
/**
 * @template [T=unknown]
 * @typedef {import('./types.js').Message<T>} Message
 */
/**
 * @template [T=unknown]
 * @typedef {import('./types.js').Page<T>} Page
 */
/**
 * @template [T=unknown]
 * @typedef {import('./types.js').Subscription<T>} Subscription
 */
