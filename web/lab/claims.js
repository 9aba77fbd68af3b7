/** Claims about the wires: each sets the controls and says what to look at. */

/** @typedef {{ name: string, rate: number, size: number, interval: number, isCut?: boolean, hasTerminal?: boolean }} Claim */

/** @type {Claim[]} */
export const CLAIMS = [
  { name: 'vain', rate: 0.2, size: 100, interval: 1000 },
  { name: 'faster', rate: 1, size: 100, interval: 250 },
  { name: 'hang', rate: 0.2, size: 100, interval: 1000, hasTerminal: true },
  { name: 'again', rate: 5, size: 100, interval: 1000 },
  { name: 'sse', rate: 5, size: 100, interval: 1000 },
  { name: 'ws', rate: 20, size: 20, interval: 1000 },
  { name: 'mqtt', rate: 20, size: 20, interval: 1000 },
  { name: 'cut', rate: 5, size: 100, interval: 1000, isCut: true },
];
