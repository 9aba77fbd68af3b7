/**
 * The picture of a lane's past: bars from request to answer, hollow if empty; ticks; cuts hatched. Time flows to the
 * left: the old picture is moved by whole pixels, and only the new part is painted.
 */

import { SPAN_MS } from './lane.js';

/** @typedef {import('./lane.js').Lane} Lane */

/** The frames of a second, at most; fewer where a pixel takes longer. */
const FRAMES_MOST = 24;
/** A browser that was asked to keep still moves once a second. */
const STILL_MS = 1000;
const [STILL, DARK] = ['(prefers-reduced-motion: reduce)', '(prefers-color-scheme: dark)'].map((query) => matchMedia(query));

/**
 * Keeps a lane's strip moving; returns the function that ends that.
 * @param {HTMLCanvasElement} canvas @param {Lane} lane
 */
export function animate(canvas, lane) {
  const strip = new Strip(canvas, lane);
  const fit = () => strip.fit();
  const resize = new ResizeObserver(fit);
  resize.observe(canvas);
  DARK.addEventListener('change', fit);
  let isOver = false;
  const turn = () => {
    if (isOver) return;
    strip.paint(performance.now());
    const ms = STILL.matches ? STILL_MS : Math.max(SPAN_MS / Math.max(1, canvas.width), 1000 / FRAMES_MOST);
    // A timer and then a frame: between them the browser has nothing to do.
    setTimeout(() => requestAnimationFrame(turn), ms);
  };
  requestAnimationFrame(turn);
  return () => {
    isOver = true;
    resize.disconnect();
    DARK.removeEventListener('change', fit);
  };
}

export class Strip {
  #canvas;
  #brush;
  #lane;
  #scale = 1;
  #color = '';
  /** The right edge, in pixels since the page began: whole, so that the moved part fits the painted one. */
  #edge = -Infinity;

  /** @param {HTMLCanvasElement} canvas @param {Lane} lane */
  constructor(canvas, lane) {
    this.#canvas = canvas;
    this.#brush = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d'));
    this.#lane = lane;
  }

  /** Takes over the size and the color that the canvas has now: all of it is painted the next time. */
  fit() {
    const canvas = this.#canvas;
    this.#scale = globalThis.devicePixelRatio ?? 1;
    canvas.width = Math.round(canvas.clientWidth * this.#scale);
    canvas.height = Math.round(canvas.clientHeight * this.#scale);
    this.#color = getComputedStyle(canvas).color;
    this.#edge = -Infinity;
  }

  /** The position of a moment, in pixels since the page began. @param {number} at */
  #place(at) {
    return Math.floor((at * this.#canvas.width) / SPAN_MS);
  }

  /** @param {number} now */
  paint(now) {
    const [canvas, brush, scale, lane] = [this.#canvas, this.#brush, this.#scale, this.#lane];
    const { width, height } = canvas;
    const edge = this.#place(now);
    const moved = edge - this.#edge;
    if (!this.#color || width === 0 || moved <= 0) return;
    const changed = Math.min(this.#edge - 3 * scale, this.#place(lane.changedFrom));
    const from = Math.max(0, Math.floor(changed - edge + width));
    this.#edge = edge;
    lane.changedFrom = Infinity;
    if (from > 0) {
      brush.globalCompositeOperation = 'copy';
      brush.drawImage(canvas, -moved, 0);
      brush.globalCompositeOperation = 'source-over';
    }
    brush.save();
    brush.beginPath();
    brush.rect(from, 0, width - from, height);
    brush.clip();
    brush.clearRect(from, 0, width - from, height);
    brush.fillStyle = brush.strokeStyle = this.#color;
    brush.lineWidth = scale;
    const x = (/** @type {number} */ at) => this.#place(at) - edge + width;
    this.#bars(from, x, now);
    this.#ticks(from, x);
    this.#cuts(from, x, now);
    brush.restore();
  }

  /** @param {number} from @param {(at: number) => number} x @param {number} now */
  #bars(from, x, now) {
    const [brush, scale, { height }] = [this.#brush, this.#scale, this.#canvas];
    const [top, tall] = [height * 0.56, height * 0.34];
    for (const bar of this.#lane.bars) {
      const left = Math.max(-2, x(bar.from));
      const wide = Math.max(2 * scale, x(bar.to ?? now) - left - scale);
      if (left + wide < from) continue;
      if (bar.isEmpty) {
        brush.globalAlpha = 0.75;
        brush.strokeRect(left + scale / 2, top + scale / 2, Math.max(scale, wide - scale), tall - scale);
      } else {
        brush.globalAlpha = 0.3;
        brush.fillRect(left, top, wide, tall);
      }
    }
  }

  /** @param {number} from @param {(at: number) => number} x */
  #ticks(from, x) {
    const [brush, scale, { height }, { ticks }] = [this.#brush, this.#scale, this.#canvas, this.#lane];
    brush.globalAlpha = 1;
    brush.beginPath();
    // The newest come first: ticks left of the painted part are not looked at. A pixel has one tick.
    for (let i = ticks.length - 1, last = NaN; i >= 0; i -= 1) {
      const at = x(ticks[i]);
      if (at < from - 2 * scale) break;
      if (at !== last) brush.rect(at - scale, height * 0.08, 2 * scale, height * 0.42);
      last = at;
    }
    brush.fill();
  }

  /** @param {number} from @param {(at: number) => number} x @param {number} now */
  #cuts(from, x, now) {
    const [brush, scale, { height }] = [this.#brush, this.#scale, this.#canvas];
    const step = Math.round(7 * scale);
    brush.globalAlpha = 0.6;
    for (const cut of this.#lane.cuts) {
      const [left, right] = [x(cut.from), x(cut.to ?? now)];
      if (right < from) continue;
      brush.save();
      brush.beginPath();
      brush.rect(left, 0, right - left, height);
      brush.clip();
      brush.beginPath();
      for (let at = left - height; at < right; at += step) {
        brush.moveTo(at, height);
        brush.lineTo(at + height, 0);
      }
      brush.stroke();
      brush.restore();
    }
  }
}
