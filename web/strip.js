/** The last half minute of a column at a glance: short strokes are requests, tall ones messages. */

const SPAN_MS = 30_000;
const MARKS_MOST = 2000;
const HEIGHTS = { request: 0.3, message: 0.9 };

export class Strip {
  #canvas;
  #marks = [];

  constructor(canvas) {
    this.#canvas = canvas;
  }

  /** Notes that something happened now: `request` or `message`. */
  mark(kind) {
    this.#marks.push({ kind, at: performance.now() });
    if (this.#marks.length > MARKS_MOST) this.#marks.shift();
  }

  draw() {
    const canvas = this.#canvas;
    const now = performance.now();
    const scale = globalThis.devicePixelRatio ?? 1;
    const [width, height] = [Math.round(canvas.clientWidth * scale), Math.round(canvas.clientHeight * scale)];
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const brush = canvas.getContext('2d');
    brush.clearRect(0, 0, width, height);
    brush.fillStyle = getComputedStyle(canvas).color;
    this.#marks = this.#marks.filter(({ at }) => now - at < SPAN_MS);
    for (const { kind, at } of this.#marks) {
      const age = (now - at) / SPAN_MS;
      const tall = height * HEIGHTS[kind];
      brush.globalAlpha = (kind === 'message' ? 1 : 0.45) * (1 - age * 0.8);
      brush.fillRect(width * (1 - age) - 2 * scale, height - tall, 2 * scale, tall);
    }
  }
}
