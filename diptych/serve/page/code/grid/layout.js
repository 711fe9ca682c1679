// Justified rows: all of a row have one height, and each row fills the width. Rows are broken where the heights of all rows
// together are nearest to the height that is wanted, as paragraphs are broken into lines by their total badness (Knuth and
// Plass 1981), not one row after another: so each block of pictures ends with a full row, and blocks need not know each other.

/**
 * @typedef {{from: number, to: number, top: number, height: number, lefts: number[], widths: number[]}} Row
 * `from` to before `to` are indices within the block; lengths are pixels, whole for the eye's sake.
 * @typedef {{rows: Row[], height: number}} Layout
 */

/** Wider or taller pictures are shown whole in a cell of this shape. */
const WIDEST = 5;
const TALLEST = 0.36;

export const shape = (width, height) => (width > 0 && height > 0 ? Math.min(WIDEST, Math.max(TALLEST, width / height)) : 4 / 3);

/**
 * @param {ArrayLike<number>} aspects width / height of each picture
 * @param {{width: number, target: number, gap: number, ragged: boolean}} options `ragged`: the last row need not be full
 * @returns {Layout}
 */
export function justify(aspects, { width, target, gap, ragged }) {
  const breaks = broken(aspects, width, target, gap, ragged);
  const rows = [];
  let top = 0;
  for (let k = 0; k + 1 < breaks.length; k++) {
    const row = placed(aspects, breaks[k], breaks[k + 1], width, target, gap, ragged && k + 2 === breaks.length);
    rows.push({ ...row, top });
    top += row.height + gap;
  }
  return { rows, height: top };
}

/** Where rows begin, and the end: the cheapest way through all possible rows. */
function broken(aspects, width, target, gap, ragged) {
  const size = aspects.length;
  const cost = new Float64Array(size + 1).fill(Infinity);
  const before = new Int32Array(size + 1);
  cost[0] = 0;
  for (let from = 0; from < size; from++) {
    let sum = 0;
    for (let to = from + 1; to <= size; to++) {
      sum += aspects[to - 1];
      const height = (width - gap * (to - from - 1)) / sum;
      if (height < target / 3 && to > from + 1) break;
      const price = cost[from] + (ragged && to === size && height > target ? 0.05 : Math.log(height / target) ** 2);
      if (price < cost[to]) {
        cost[to] = price;
        before[to] = from;
      }
    }
  }
  const breaks = [size];
  while (breaks[0] > 0) breaks.unshift(before[breaks[0]]);
  return breaks;
}

function placed(aspects, from, to, width, target, gap, ragged) {
  let sum = 0;
  for (let k = from; k < to; k++) sum += aspects[k];
  const full = (width - gap * (to - from - 1)) / sum;
  const loose = ragged && full > target * 1.2;
  const height = Math.max(1, Math.round(loose ? target : full));
  const scale = loose ? height : full;
  const lefts = [];
  const widths = [];
  let x = 0;
  for (let k = from; k < to; k++) {
    const left = Math.round(x);
    x += aspects[k] * scale;
    const right = k + 1 === to && !loose ? width : Math.round(x);
    lefts.push(left);
    widths.push(Math.max(1, right - left));
    x += gap;
  }
  return { from, to, height, lefts, widths };
}

/** Rows' height for a width: small on phones, calm on wide screens. */
export const targetHeight = (width) => Math.round(Math.min(250, Math.max(132, 110 + width * 0.085)));

const USUAL = [1.5, 1.33, 0.75, 1.5, 1.33, 1, 1.5, 0.67, 1.33, 1.5];

/** Shapes to wait with, where a block's pictures are not known yet; their mean is `mean`. */
export function guesses(size, mean) {
  const out = new Float32Array(size);
  for (let k = 0; k < size; k++) out[k] = (USUAL[k % USUAL.length] / 1.241) * mean;
  return out;
}
